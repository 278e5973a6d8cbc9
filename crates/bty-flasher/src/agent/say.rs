//! What the machine's screen and serial port show, and what is kept of it for a failure's report.

use std::{
    collections::VecDeque,
    fs,
    io::Write,
    sync::{Mutex, PoisonError},
};

/// How much is kept, in bytes: what the contract allows a failure's log.
const KEPT_BYTES: usize = 60 * 1024;

/// A disk that is not there this many seconds after the kernel started is not there: the slowest to spin up take 20.
const SETTLED_SECONDS: f64 = 30.0;

/// Speaks on every console.
#[derive(Debug, Default)]
pub(super) struct Say {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
    last: String,
}

impl Say {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A line, on all consoles and in the log.
    pub(super) fn line(&self, text: &str) {
        let line = format!("bty: [{:8.2}] {text}", uptime());
        Self::show(&line);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone_into(&mut kept.last);
        kept.bytes += line.len();
        kept.lines.push_back(line);
        while kept.bytes > KEPT_BYTES
            && let Some(oldest) = kept.lines.pop_front()
        {
            kept.bytes -= oldest.len();
        }
    }

    /// A line, unless it was the last one too.
    pub(super) fn once(&self, text: &str) {
        let again = self.kept.lock().unwrap_or_else(PoisonError::into_inner).last == text;
        if !again {
            self.line(text);
        }
    }

    /// What was said.
    pub(super) fn log(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The kernel's consoles and every serial port that there is, as the live system's first program does.
    fn show(line: &str) {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let active = read("/sys/class/tty/console/active");
        let mut consoles: Vec<String> =
            active.split_ascii_whitespace().map(str::to_owned).collect();
        consoles.extend(serial_ports(&read("/proc/tty/driver/serial")));
        consoles.sort();
        consoles.dedup();
        let mut shown = false;
        for console in consoles {
            let opened = fs::OpenOptions::new().write(true).open(format!("/dev/{console}"));
            shown |= opened.and_then(|mut console| write!(console, "{line}\r\n")).is_ok();
        }
        if !shown {
            eprintln!("{line}");
        }
    }
}

/// The serial ports that have a chip behind them, from the text of `/proc/tty/driver/serial`.
fn serial_ports(driver: &str) -> impl Iterator<Item = String> {
    driver.lines().filter_map(|line| {
        let (number, rest) = line.split_once(": uart:")?;
        let number: u8 = number.trim().parse().ok()?;
        (!rest.starts_with("unknown")).then(|| format!("ttyS{number}"))
    })
}

/// Seconds since the kernel started.
pub(super) fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_ascii_whitespace()
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or_default()
}

/// Whether all disks that will come are there.
pub(super) fn is_settled() -> bool {
    uptime() >= SETTLED_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_without_a_chip_is_none() {
        let driver = "serinfo:1.0 driver revision:\n0: uart:16550A port:000003F8 irq:4\n1: uart:unknown port:000002F8\n";
        assert_eq!(serial_ports(driver).collect::<Vec<_>>(), ["ttyS0"]);
    }
}
