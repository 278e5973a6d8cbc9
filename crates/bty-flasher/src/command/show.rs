//! How a write is shown: a bar on a terminal, a line a second elsewhere, JSON lines for programs.

#![allow(clippy::print_stdout, reason = "results go to standard output")]

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bty_api::registry::v1::NextBoot;
use bty_disk::Disk;
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Format;
use crate::{
    engine::{Event, Record, Step},
    firmware,
    fixup::{self, FixUpResult},
};

/// What a write came to.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) record: Record,
    pub(super) fix_ups: Vec<FixUpResult>,
    pub(super) next_boot: Option<NextBoot>,
}

/// The same as programs see it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    record: &'a Record,
    fix_ups: &'a [FixUpResult],
    /// What the firmware was told, and warnings of it.
    boot_entry: Vec<String>,
}

/// Shows events.
#[derive(Debug)]
pub(super) struct Show {
    way: Way,
    last: Mutex<Option<(Step, Instant)>>,
}

#[derive(Debug)]
enum Way {
    Bar(ProgressBar),
    Lines,
    Json,
}

const LINE_EVERY: Duration = Duration::from_secs(1);

impl Show {
    pub(super) fn new(format: Format) -> Self {
        let way = match format {
            Format::Json => Way::Json,
            Format::Text if std::io::stderr().is_terminal() => Way::Bar(ProgressBar::new(0)),
            Format::Text => Way::Lines,
        };
        Self { way, last: Mutex::new(None) }
    }

    pub(super) fn event(&self, event: Event) {
        match &self.way {
            Way::Json => {
                if let Ok(line) = serde_json::to_string(&event) {
                    println!("{line}");
                }
            }
            Way::Bar(bar) => bar_event(bar, event),
            Way::Lines => {
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                let due =
                    last.is_none_or(|(step, at)| step != event.step || at.elapsed() >= LINE_EVERY);
                if due {
                    *last = Some((event.step, Instant::now()));
                    eprintln!("{}", line(event));
                }
            }
        }
    }

    pub(super) fn record(&self, written: &Written, disk: &Disk) {
        self.end();
        let Written { record, fix_ups, next_boot } = written;
        let boot_entry: Vec<String> = next_boot.iter().flat_map(firmware::lines).collect();
        if matches!(self.way, Way::Json) {
            if let Ok(line) = serde_json::to_string(&Shown { record, fix_ups, boot_entry }) {
                println!("{line}");
            }
            return;
        }
        let proof = if record.proved { "holds" } else { "was given, and not proved to hold," };
        println!("{} {proof} {}", disk.path, record.id);
        let seconds = Duration::from_millis(record.elapsed_ms).as_secs_f64();
        let [raw, right, fetched, written, zeroed] = [
            record.raw_bytes,
            record.right_bytes,
            record.fetched_bytes,
            record.written_bytes,
            record.zeroed_bytes,
        ]
        .map(DecimalBytes);
        println!(
            "{raw} of disk in {seconds:.1} s: {right} right already, {fetched} fetched, {written} written, {zeroed} zeroed"
        );
        println!("{}", record.choice);
        for line in fixup::lines(fix_ups).into_iter().chain(boot_entry) {
            println!("{line}");
        }
    }

    pub(super) fn end(&self) {
        if let Way::Bar(bar) = &self.way {
            bar.finish_and_clear();
        }
    }
}

fn bar_event(bar: &ProgressBar, event: Event) {
    let template = if event.total_bytes > 0 {
        "{msg:12} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}"
    } else {
        "{msg:12} {bytes}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(event.step.as_str());
    bar.set_length(event.total_bytes);
    bar.set_position(event.done_bytes);
}

fn line(event: Event) -> String {
    match event.done_bytes.saturating_mul(100).checked_div(event.total_bytes) {
        Some(percent) => {
            format!("{}: {percent} % of {} bytes", event.step.as_str(), event.total_bytes)
        }
        None => event.step.as_str().to_owned(),
    }
}
