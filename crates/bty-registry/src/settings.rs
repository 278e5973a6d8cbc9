//! The `[registry]` section.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use bty_types::{BootChain, BootEntry, Policy};
use serde::{Deserialize, Serialize};

use crate::{access::UserNames, rules::Rules};

/// Imports at a time that make sense on any machine.
const MOST_IMPORTS: usize = 64;
/// What `back_within_seconds` may be.
const BACK_WITHIN: RangeInclusive<u64> = 1..=3600;

/// What an operator can set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The image store. Empty means `images` in the state folder. bty-httpd's `image_dir` names the same.
    pub store_dir: PathBuf,
    /// Folders that images may be imported from. None means that files come by upload or URL only.
    pub import_dirs: Vec<PathBuf>,
    /// Where callers with tokens are served: an address of loopback, or empty for nowhere.
    pub listen_tcp: String,
    /// The policy of a machine that is seen for the first time.
    pub unknown_policy: Policy,
    /// How UEFI machines with a 64-bit x86 processor boot of which nothing else is said.
    pub boot_chain: BootChain,
    /// What becomes of a UEFI machine's boot entries after a flash of which nothing else is said.
    pub boot_entry: BootEntry,
    /// How often a machine's work is begun without being finished until the machine waits.
    pub max_attempts: u32,
    /// A machine that is back less than so many seconds after it was sent to its disk has not booted it: its firmware went on, with
    /// no self-test between. More than a disk takes to fail, less than a self-test takes.
    pub back_within_seconds: u64,
    /// After so many seconds without a word from its agent a run is lost.
    pub lost_after_seconds: u64,
    /// Events that are kept.
    pub event_retention_count: u64,
    /// Days that events are kept.
    pub event_retention_days: u64,
    /// The largest disk that an image may make, in bytes.
    pub max_image_bytes: u64,
    /// A server of images that says nothing for so many seconds has broken off; for at least as long it is asked again then.
    pub fetch_patience_seconds: u64,
    /// Images that are imported at a time; more wait.
    pub max_imports: usize,
    /// Machines that may be known.
    pub max_machines: u64,
    /// Machines that may be seen for the first time in a minute.
    pub max_new_machines_per_minute: u64,
    /// Events of one machine's boots that are recorded in a minute.
    pub max_boot_events_per_minute: u32,
    /// Members of this group may do everything but make tokens.
    pub operators_group: String,
    /// The system users of the other daemons.
    pub users: UserNames,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            store_dir: PathBuf::new(),
            import_dirs: Vec::new(),
            listen_tcp: SocketAddr::from((Ipv4Addr::LOCALHOST, 7600)).to_string(),
            unknown_policy: Policy::Inventory,
            boot_chain: BootChain::Ipxe,
            boot_entry: BootEntry::Next,
            max_attempts: 3,
            back_within_seconds: 20,
            lost_after_seconds: 120,
            event_retention_count: 200_000,
            event_retention_days: 400,
            max_image_bytes: 1 << 40,
            fetch_patience_seconds: 60,
            max_imports: 2,
            max_machines: 10_000,
            max_new_machines_per_minute: 1_000,
            max_boot_events_per_minute: 60,
            operators_group: "bty".into(),
            users: UserNames::default(),
        }
    }
}

impl Settings {
    /// What the types don't say.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.tcp_address()?;
        if self.import_dirs.iter().any(|folder| folder.as_os_str().is_empty()) {
            return Err("import_dirs holds an empty path; take it out".into());
        }
        for folder in self.import_dirs.iter().chain([&self.store_dir]) {
            if !is_whole(folder) {
                return Err(format!(
                    "the folder {:?} is not absolute; write the whole path",
                    folder.display()
                ));
            }
        }
        let at_least_one = [
            ("max_attempts", u64::from(self.max_attempts)),
            ("lost_after_seconds", self.lost_after_seconds),
            ("fetch_patience_seconds", self.fetch_patience_seconds),
            ("max_imports", u64::try_from(self.max_imports).unwrap_or(u64::MAX)),
            ("max_image_bytes", self.max_image_bytes),
            ("event_retention_count", self.event_retention_count),
            ("event_retention_days", self.event_retention_days),
            ("max_boot_events_per_minute", u64::from(self.max_boot_events_per_minute)),
        ];
        if !BACK_WITHIN.contains(&self.back_within_seconds) {
            return Err(format!(
                "back_within_seconds is not {} to {}",
                BACK_WITHIN.start(),
                BACK_WITHIN.end()
            ));
        }
        if self.max_imports > MOST_IMPORTS {
            return Err(format!(
                "max_imports is over {MOST_IMPORTS}; imports share the processors"
            ));
        }
        match at_least_one.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(format!("{key} is 0; write at least 1")),
            None => Ok(()),
        }
    }

    /// Where callers with tokens are served.
    pub(crate) fn tcp_address(&self) -> Result<Option<SocketAddr>, String> {
        if self.listen_tcp.is_empty() {
            return Ok(None);
        }
        let address: SocketAddr = self.listen_tcp.parse().map_err(|_| {
            format!(
                "listen_tcp {:?} is no address and port, such as 127.0.0.1:7600",
                self.listen_tcp
            )
        })?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "listen_tcp {address} is not loopback, and tokens would cross the network unprotected: \
                 bty-httpd serves remote callers over HTTPS"
            ));
        }
        Ok(Some(address))
    }

    /// What records are judged by.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            unknown_policy: self.unknown_policy,
            boot_chain: self.boot_chain,
            boot_entry: self.boot_entry,
            max_attempts: self.max_attempts,
            back_within: Duration::from_secs(self.back_within_seconds),
            lost_after: Duration::from_secs(self.lost_after_seconds),
            max_machines: self.max_machines,
            max_new_machines_per_minute: self.max_new_machines_per_minute,
            max_boot_events_per_minute: self.max_boot_events_per_minute,
        }
    }
}

fn is_whole(folder: &std::path::Path) -> bool {
    folder.as_os_str().is_empty() || folder.is_absolute()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_is_the_defaults() {
        let shipped: toml::Table =
            toml::from_str(include_str!("../../../deploy/bty.toml")).unwrap();
        let defaults = toml::Value::try_from(Settings::default()).unwrap();
        assert_eq!(shipped.get("registry"), Some(&defaults));
    }

    #[test]
    fn the_defaults_are_fine() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn only_loopback_is_listened_on() {
        let listening =
            |listen_tcp: &str| Settings { listen_tcp: listen_tcp.into(), ..Settings::default() };
        assert_eq!(listening("").tcp_address(), Ok(None));
        assert_eq!(listening("[::1]:7600").check(), Ok(()));
        assert!(listening("0.0.0.0:7600").check().unwrap_err().contains("not loopback"));
        assert!(listening("localhost").check().is_err());
    }

    #[test]
    fn numbers_are_within_their_bounds() {
        for (seconds, is_fine) in [(0, false), (1, true), (3600, true), (3601, false)] {
            let settings = Settings { back_within_seconds: seconds, ..Settings::default() };
            assert_eq!(settings.check().is_ok(), is_fine, "{seconds}");
        }
        let settings = Settings { max_boot_events_per_minute: 0, ..Settings::default() };
        assert!(settings.check().unwrap_err().contains("max_boot_events_per_minute is 0"));
    }

    #[test]
    fn folders_are_whole_paths() {
        let settings = Settings { import_dirs: vec!["images".into()], ..Settings::default() };
        assert!(settings.check().unwrap_err().contains("not absolute"));
        let settings = Settings { store_dir: "images".into(), ..Settings::default() };
        assert!(settings.check().is_err());
    }
}
