//! What the machine's screen and serial port show, and what is kept of it for a failure's report.

use std::{
    collections::VecDeque,
    fs,
    io::Write,
    sync::{Mutex, PoisonError},
};

/// How much is kept, in bytes: what the contract allows a failure's log.
const KEPT_BYTES: usize = 60 * 1024;

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

    /// Each console by itself: /dev/console is only the last one of the command line.
    fn show(line: &str) {
        let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let mut shown = false;
        for console in active.split_ascii_whitespace() {
            let opened = fs::OpenOptions::new().write(true).open(format!("/dev/{console}"));
            shown |= opened.and_then(|mut console| write!(console, "{line}\r\n")).is_ok();
        }
        if !shown {
            eprintln!("{line}");
        }
    }
}

/// Seconds since the kernel started.
pub(super) fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_ascii_whitespace()
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or_default()
}
