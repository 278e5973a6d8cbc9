//! How a command is shown: a bar on a terminal, a line now and then in a log, JSON lines for programs.

#![allow(clippy::print_stdout, reason = "results go to standard output")]

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bty_api::registry::v1::NextBoot;
use bty_disk::Disk;
use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Format;
use crate::{
    engine::{Event, Record, Step},
    firmware,
    fixup::{self, FixUpResult},
    progress_text,
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
    now: Mutex<Now>,
}

#[derive(Debug)]
enum Way {
    Bar(ProgressBar),
    Lines,
    Json,
}

/// What was shown.
#[derive(Debug)]
struct Now {
    /// The last event, and when its step began.
    last: Option<(Event, Instant)>,
    /// When a line was written.
    said: Instant,
}

/// Between two lines of one step.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at the clock: the bar shows that something lives where no bytes come.
const TICK: Duration = Duration::from_millis(250);

impl Show {
    pub(super) fn new(format: Format) -> Self {
        let way = match format {
            Format::Json => Way::Json,
            Format::Text if std::io::stderr().is_terminal() => Way::Bar(bar()),
            Format::Text => Way::Lines,
        };
        Self { way, now: Mutex::new(Now { last: None, said: Instant::now() }) }
    }

    pub(super) fn event(&self, event: Event) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(self.way, Way::Json) {
            if let Ok(line) = serde_json::to_string(&event) {
                println!("{line}");
            }
            return;
        }
        let began = match now.last {
            Some((last, began)) if last.step == event.step => began,
            Some((last, began)) => {
                self.above(last, began.elapsed());
                Instant::now()
            }
            None => Instant::now(),
        };
        now.last = Some((event, began));
        match &self.way {
            Way::Bar(bar) => {
                let [above, below] = progress_text::picture(&event);
                bar.set_message(above);
                bar.set_prefix(below);
            }
            _ if now.said.elapsed() >= LINE_EVERY => {
                now.said = Instant::now();
                eprintln!("{}", progress_text::line(&event));
            }
            _ => {}
        }
    }

    /// A step that is over stays on the screen.
    fn above(&self, last: Event, took: Duration) {
        if last.step == Step::Gate {
            return;
        }
        let line = progress_text::ended(last.step, last.done_bytes, took);
        match &self.way {
            Way::Bar(bar) => bar.println(line),
            _ => eprintln!("{line}"),
        }
    }

    /// A line for people.
    pub(super) fn line(&self, text: &str) {
        match &self.way {
            Way::Bar(bar) => bar.println(text),
            Way::Lines => eprintln!("{text}"),
            Way::Json => {}
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
        println!("{} {proof}\n{}", disk.path, record.id);
        let seconds = Duration::from_millis(record.elapsed_ms).as_secs_f64();
        let [raw, right, fetched, written, zeroed] = [
            record.raw_bytes,
            record.right_bytes,
            record.fetched_bytes,
            record.written_bytes,
            record.zeroed_bytes,
        ]
        .map(DecimalBytes);
        let moved = format!(
            "{raw} of disk in {seconds:.1} s: {right} right already, {fetched} fetched, {written} written, {zeroed} zeroed"
        );
        println!("{}\n{}", progress_text::page(&moved), progress_text::page(&record.choice));
        let (chunks, requests) = (record.refetched_chunks, record.retried_requests);
        if chunks + requests > 0 {
            println!(
                "{chunks} chunks came wrong and {requests} requests failed, and were repeated"
            );
        }
        for line in fixup::lines(fix_ups).into_iter().chain(boot_entry) {
            println!("{line}");
        }
    }

    /// Nothing more comes: what was drawn goes, and a step that came to its end stays.
    pub(super) fn end(&self) {
        let last = self.now.lock().unwrap_or_else(PoisonError::into_inner).last.take();
        if let Some((event, began)) = last
            && !matches!(self.way, Way::Json)
            && event.percent == Some(100)
        {
            self.above(event, began.elapsed());
        }
        if let Way::Bar(bar) = &self.way {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
    if let Ok(style) = ProgressStyle::with_template("{msg}\n{prefix}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}
