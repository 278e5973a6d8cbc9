//! How source files look, and what pure modules may not know.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

/// Longer files are split by idea.
const MOST_LINES: usize = 800;
/// Rooms without a subject.
const NO_ROOMS: [&str; 6] = ["util", "utils", "common", "helpers", "manager", "misc"];
/// Modules that are functions of data and time: no socket, clock, task, file, database or log in sight.
const PURE: [&str; 4] = [
    "crates/bty-dhcp/src/engine/",
    "crates/bty-tftp/src/engine/",
    "crates/bty-httpd/src/boot/",
    "crates/bty-registry/src/decide/",
];
/// What pure modules may not name.
const IMPURE: [&str; 10] = [
    "tokio::",
    "std::fs",
    "UdpSocket",
    "TcpStream",
    "Instant::now",
    "SystemTime::now",
    "rusqlite",
    "tracing::",
    "std::env",
    "std::thread",
];

/// What breaks the rules in tracked and new files.
pub(super) fn check(shell: &Shell) -> Result<Vec<String>> {
    let listed = cmd!(shell, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    let mut problems = Vec::new();
    for path in listed.lines() {
        let full = shell.current_dir().join(path);
        if !full.is_file() {
            continue;
        }
        let rust_file = Path::new(path).extension().is_some_and(|extension| extension == "rs");
        if rust_file && !path.contains("/src/gen/") {
            let text = fs::read_to_string(&full).with_context(|| format!("reading {path}"))?;
            problems.extend(check_rust(path, &text));
        }
    }
    Ok(problems)
}

fn check_rust(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//!") {
        problems.push(format!("{path} does not begin by saying what it is (//!)"));
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        problems.push(format!("{path} has {lines} lines, over {MOST_LINES}: split it by idea"));
    }
    let room = |part: &str| NO_ROOMS.contains(&part.trim_end_matches(".rs"));
    if path.split('/').any(room) {
        problems.push(format!("{path} has no subject in its name"));
    }
    for (number, line) in text.lines().enumerate() {
        let place = format!("{path}:{}", number + 1);
        if line.ends_with(' ') {
            problems.push(format!("{place} ends in a blank"));
        }
        if line.trim_start().starts_with("#[ignore") {
            problems.push(format!("{place} leaves a test out"));
        }
        // A test needs some instant to count from; std makes none but the present one.
        let pure = PURE.iter().any(|folder| path.starts_with(folder)) && !path.contains("tests");
        let code = line.trim_start();
        if pure && !code.starts_with("//") {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                problems.push(format!("{place} is in a pure module and names {word}"));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_an_engine_is_found() {
        let text = "//! An engine.\nlet now = Instant::now();\n";
        assert_eq!(
            check_rust("crates/bty-tftp/src/engine/transfer.rs", text),
            ["crates/bty-tftp/src/engine/transfer.rs:2 is in a pure module and names Instant::now"]
        );
        assert!(check_rust("crates/bty-tftp/src/server.rs", text).is_empty());
    }

    #[test]
    fn a_room_without_a_subject_is_found() {
        assert_eq!(check_rust("crates/x/src/utils.rs", "//! X.\n").len(), 1);
    }
}
