//! The end of the kernel's log, for a failure's report.

use std::{fs::OpenOptions, io::Read, os::unix::fs::OpenOptionsExt};

/// How much of it is sent: what the contract allows.
const KEPT_BYTES: usize = 60 * 1024;
/// A record of /dev/kmsg is never larger (Documentation/ABI/testing/dev-kmsg).
const RECORD_BYTES: usize = 8192;
/// More records than any kernel keeps.
const MAX_RECORDS: usize = 100_000;

/// The last lines, oldest first; empty where the log can't be read.
pub(super) fn tail() -> String {
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let Ok(mut log) = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg") else {
        return String::new();
    };
    let mut text = String::new();
    let mut record = vec![0; RECORD_BYTES];
    for _ in 0..MAX_RECORDS {
        // Each read gives one record; EPIPE says that some were overwritten, and goes on with the oldest.
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(size) => {
                text += &line(&String::from_utf8_lossy(record.get(..size).unwrap_or_default()));
            }
            Err(problem) if problem.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    let surplus = text.len().saturating_sub(KEPT_BYTES);
    let start = (surplus..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or_default();
    text.split_off(start)
}

/// `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;MESSAGE` and lines of details, as `dmesg` shows them.
fn line(record: &str) -> String {
    let (head, message) = record.split_once(';').unwrap_or(("", record));
    let microseconds: u64 =
        head.split(',').nth(2).and_then(|field| field.parse().ok()).unwrap_or_default();
    let message = without_token(message.lines().next().unwrap_or_default());
    format!("[{:5}.{:06}] {message}\n", microseconds / 1_000_000, microseconds % 1_000_000)
}

/// The kernel logs its command line, and with it the token of this boot.
fn without_token(message: &str) -> String {
    const TOKEN: &str = "bty.token=";
    let Some((before, rest)) = message.split_once(TOKEN) else { return message.to_owned() };
    let after = rest.split_once(' ').map_or(String::new(), |(_, after)| format!(" {after}"));
    format!("{before}{TOKEN}***{}", without_token(&after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_dmesg_shows_it() {
        assert_eq!(
            line("6,339,5140900,-;NET: Registered\n SUBSYSTEM=acpi\n"),
            "[    5.140900] NET: Registered\n"
        );
        assert_eq!(line("rubbish"), "[    0.000000] rubbish\n");
    }

    #[test]
    fn the_token_of_the_command_line_is_not_told() {
        let logged =
            "5,0,0,-;Command line: quiet bty.token=secret bty.mac=x bty.token=secret2\n rest\n";
        assert_eq!(
            line(logged),
            "[    0.000000] Command line: quiet bty.token=*** bty.mac=x bty.token=***\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_record_becomes_a_line_without_a_token(record: String, token in "[a-z0-9]{8,20}") {
            let shown = line(&format!("6,1,1,-;{record} bty.token={token} {record}"));
            proptest::prop_assert!(record.contains(&token) || !shown.contains(&token));
        }
    }
}
