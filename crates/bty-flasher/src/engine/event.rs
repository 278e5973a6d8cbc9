//! How a flash says how far it is: typed steps, the same for agent, command and daemon.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

/// A step of a flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The gate.
    Gate,
    /// Blanking what makes the disk bootable.
    Blank,
    /// Writing.
    Write,
    /// Making writes last.
    Flush,
    /// Reading back.
    Prove,
    /// Writing what was held back.
    FirstChunk,
}

impl Step {
    /// Its name in the contract (`RunStep.name`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Blank => "blank",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Prove => "prove",
            Self::FirstChunk => "first-chunk",
        }
    }
}

/// How far a flash is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The step.
    pub step: Step,
    /// Bytes done in it.
    pub done_bytes: u64,
    /// Bytes in all; 0 where it isn't counted in bytes or nobody knows.
    pub total_bytes: u64,
}

/// Between two reports of one step.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// Counts bytes and reports now and then.
pub struct Meter<'a> {
    report: &'a (dyn Fn(Event) + Sync),
    done_bytes: AtomicU64,
    state: Mutex<State>,
}

impl std::fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("done_bytes", &self.done_bytes).finish_non_exhaustive()
    }
}

struct State {
    step: Step,
    total_bytes: u64,
    reported: Instant,
}

impl<'a> Meter<'a> {
    /// Reports to this.
    pub fn new(report: &'a (dyn Fn(Event) + Sync)) -> Self {
        let state = State { step: Step::Gate, total_bytes: 0, reported: Instant::now() };
        Self { report, done_bytes: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// The next step began.
    pub fn step(&self, step: Step, total_bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.done_bytes.store(0, Ordering::Relaxed);
        *state = State { step, total_bytes, reported: Instant::now() };
        (self.report)(Event { step, done_bytes: 0, total_bytes });
    }

    /// So many bytes more are done.
    pub fn advance(&self, bytes: u64) {
        let done_bytes = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Whoever else holds the lock reports for us.
        let Ok(mut state) = self.state.try_lock() else { return };
        if state.reported.elapsed() >= REPORT_EVERY {
            state.reported = Instant::now();
            (self.report)(Event { step: state.step, done_bytes, total_bytes: state.total_bytes });
        }
    }

    /// The last step ended.
    pub fn end(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let done_bytes = self.done_bytes.load(Ordering::Relaxed);
        (self.report)(Event { step: state.step, done_bytes, total_bytes: state.total_bytes });
    }
}
