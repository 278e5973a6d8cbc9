//! What a person who writes a configuration relies on.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Example {
    mode: String,
    port: u16,
    interfaces: Vec<String>,
    limits: Limits,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    sessions: u32,
    rate: u32,
}

impl Default for Example {
    fn default() -> Self {
        Self { mode: "proxy".into(), port: 80, interfaces: Vec::new(), limits: Limits::default() }
    }
}

fn files(texts: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::default();
    for (name, text) in texts {
        sources.add_text(name, text);
    }
    sources
}

fn refusal(text: &str) -> String {
    load::<Example>("dhcp", &files(&[("/etc/bty/bty.toml", text)])).unwrap_err().to_string()
}

#[test]
fn without_any_source_the_defaults_hold() {
    assert_eq!(load::<Example>("dhcp", &Sources::default()).unwrap().settings, Example::default());
}

#[test]
fn later_sources_win_key_by_key_and_their_origin_is_known() {
    let mut sources = files(&[
        ("/usr/lib/bty/bty.toml", "[dhcp]\nmode = \"proxy\"\nport = 81\nlimits.sessions = 5\n"),
        ("/etc/bty/conf.d/10.toml", "[dhcp]\nport = 82\nlimits.rate = 7\n"),
    ]);
    sources.add_variable("BTY_DHCP__MODE", "full").unwrap();
    sources.add_variable("BTY_DHCP__LIMITS__RATE", "9").unwrap();
    sources.add_flag("dhcp.interfaces=[\"eth0\"]").unwrap();
    let loaded = load::<Example>("dhcp", &sources).unwrap();
    let want = Example {
        mode: "full".into(),
        port: 82,
        interfaces: vec!["eth0".into()],
        limits: Limits { sessions: 5, rate: 9 },
    };
    assert_eq!(loaded.settings, want);
    let origins: Vec<_> = loaded.origins.iter().map(|(key, _, origin)| (key, origin)).collect();
    assert_eq!(
        origins,
        [
            ("dhcp.interfaces", "flag --set dhcp.interfaces=[\"eth0\"]"),
            ("dhcp.limits.rate", "environment BTY_DHCP__LIMITS__RATE"),
            ("dhcp.limits.sessions", "/usr/lib/bty/bty.toml"),
            ("dhcp.mode", "environment BTY_DHCP__MODE"),
            ("dhcp.port", "/etc/bty/conf.d/10.toml"),
        ]
    );
}

#[test]
fn an_unknown_key_is_named_with_line_and_column() {
    let text = "[dhcp]\nport = 80\n  prot = 81\n";
    let shown = refusal(text);
    assert!(shown.starts_with("/etc/bty/bty.toml:3:3: unknown field `prot`"), "{shown}");
    assert!(shown.contains("`port`"), "{shown}");
}

#[test]
fn an_unknown_section_is_named_with_line_and_column() {
    let shown = refusal("[log]\n\n[dhpc]\n");
    assert!(shown.starts_with("/etc/bty/bty.toml:3:2: unknown variant `dhpc`"), "{shown}");
}

#[test]
fn a_wrong_type_is_named_with_line_and_column() {
    let shown = refusal("[dhcp]\nport = \"http\"\n");
    assert!(shown.starts_with("/etc/bty/bty.toml:2:8: "), "{shown}");
}

#[test]
fn a_nested_unknown_key_is_named_with_line_and_column() {
    let shown = refusal("[dhcp.limits]\nsesions = 1\n");
    assert!(shown.starts_with("/etc/bty/bty.toml:2:1: unknown field `sesions`"), "{shown}");
}

#[test]
fn broken_toml_is_named_with_its_place() {
    let shown = refusal("[dhcp]\nport = = 1\n");
    assert!(shown.starts_with("/etc/bty/bty.toml:2:"), "{shown}");
}

#[test]
fn a_wrong_variable_is_named() {
    let mut sources = Sources::default();
    sources.add_variable("BTY_DHCP__PRT", "1").unwrap();
    let shown = load::<Example>("dhcp", &sources).unwrap_err().to_string();
    assert!(shown.starts_with("environment BTY_DHCP__PRT: unknown field `prt`"), "{shown}");
    assert!(Sources::default().add_variable("BTY___X", "1").is_err());
    assert!(Sources::default().add_flag("mode").is_err());
}

#[test]
fn other_daemons_sections_are_theirs_to_check() {
    let sources = files(&[("f", "[tftp]\nanything = 1\n[dhcp]\nport = 1\n")]);
    assert_eq!(load::<Example>("dhcp", &sources).unwrap().settings.port, 1);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text: String, flag: String) {
        let mut sources = files(&[("f", &text)]);
        let _ = sources.add_flag(&flag);
        let _ = load::<Example>("dhcp", &sources);
    }
}
