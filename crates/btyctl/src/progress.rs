//! Progress on standard error: a bar on a terminal, a line now and then elsewhere, nothing for programs.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{Output, bytes, plain};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how far something has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a log.
    Lines {
        /// When the last line was written.
        last: Option<Instant>,
    },
    /// For programs, which get the events themselves.
    Silent,
}

impl Progress {
    /// Fit for where results go.
    pub(crate) fn new(output: Output) -> Self {
        if output.is_json() {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: None };
        }
        let bar = ProgressBar::new(0);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self::Bar(bar)
    }

    /// So much is done.
    pub(crate) fn update(&mut self, what: &str, done: u64, total: Option<u64>) {
        let what = plain(what);
        match self {
            Self::Silent => {}
            Self::Bar(bar) => {
                let template = if total.is_some() {
                    "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}"
                } else {
                    "{msg} {spinner} {bytes} {binary_bytes_per_sec}"
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                bar.set_message(what);
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            Self::Lines { last } => {
                if last.is_some_and(|last| last.elapsed() < LINE_EVERY) {
                    return;
                }
                *last = Some(Instant::now());
                match total {
                    Some(total) => eprintln!("{what}: {} of {}", bytes(done), bytes(total)),
                    None => eprintln!("{what}: {}", bytes(done)),
                }
            }
        }
    }

    /// So many percent of the whole are done.
    pub(crate) fn percent(&mut self, what: &str, percent: u32, pace: &str) {
        let (what, pace) = (plain(what), plain(pace));
        match self {
            Self::Silent => {}
            Self::Bar(bar) => {
                let template = "{msg:12} [{bar:24}] {pos:>3} %{prefix}";
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_length(100);
                bar.set_position(percent.min(100).into());
                bar.set_message(what);
                bar.set_prefix(pace);
            }
            Self::Lines { last } => {
                if last.is_some_and(|last| last.elapsed() < LINE_EVERY) {
                    return;
                }
                *last = Some(Instant::now());
                eprintln!("{what}: {percent} %{pace}");
            }
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
