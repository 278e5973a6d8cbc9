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
    /// Reading a disk into an image.
    Capture,
    /// Comparing, to say what differs.
    Compare,
    /// Comparing and writing.
    Write,
    /// Making writes last.
    Flush,
    /// Reading back.
    Prove,
    /// Writing what was held back.
    FirstChunk,
    /// Changing the disk after its proof.
    FixUps,
}

impl Step {
    /// Its name in the contract (`RunStep.name`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Capture => "capture",
            Self::Compare => "compare",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Prove => "prove",
            Self::FirstChunk => "first-chunk",
            Self::FixUps => "fix-ups",
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

/// How long a step took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StepTime {
    /// The step.
    pub step: Step,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
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
    began: Instant,
    reported: Instant,
    ended: Vec<StepTime>,
}

impl State {
    fn end_step(&mut self) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ended.push(StepTime { step: self.step, elapsed_ms });
    }
}

impl<'a> Meter<'a> {
    /// Reports to this.
    pub fn new(report: &'a (dyn Fn(Event) + Sync)) -> Self {
        let now = Instant::now();
        let state = State {
            step: Step::Gate,
            total_bytes: 0,
            began: now,
            reported: now,
            ended: Vec::new(),
        };
        Self { report, done_bytes: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// The next step began.
    pub fn step(&self, step: Step, total_bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.done_bytes.store(0, Ordering::Relaxed);
        state.end_step();
        let now = Instant::now();
        (state.step, state.total_bytes, state.began, state.reported) =
            (step, total_bytes, now, now);
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

    /// The last step ended; gives how long each took.
    pub fn end(&self) -> Vec<StepTime> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let done_bytes = self.done_bytes.load(Ordering::Relaxed);
        (self.report)(Event { step: state.step, done_bytes, total_bytes: state.total_bytes });
        state.end_step();
        std::mem::take(&mut state.ended)
    }
}
