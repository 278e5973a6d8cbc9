//! How a flash says how far it is: typed steps, the same for agent, command and daemon.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    outlook::{Done, Job, Outlook},
    work::Counts,
};

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
    /// Making all that the disk holds go.
    Erase,
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
            Self::Erase => "erase",
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
    /// How much of the whole work is done; `None` where nobody knows how much that is.
    pub percent: Option<u8>,
    /// Bytes done a second, lately; 0 where that is not known yet.
    pub bytes_per_second: u64,
    /// How long the rest of the whole work takes, in milliseconds; `None` where that is not known yet.
    pub left_ms: Option<u64>,
    /// Bytes of the image that the disk held already.
    pub right_bytes: u64,
    /// Bytes written to the disk.
    pub written_bytes: u64,
    /// Bytes made zero by the device.
    pub zeroed_bytes: u64,
}

impl Event {
    /// A step that begins, before anything is known of the work.
    pub const fn begin(step: Step) -> Self {
        Self {
            step,
            done_bytes: 0,
            total_bytes: 0,
            percent: None,
            bytes_per_second: 0,
            left_ms: None,
            right_bytes: 0,
            written_bytes: 0,
            zeroed_bytes: 0,
        }
    }
}

/// What a step took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StepTime {
    /// The step.
    pub step: Step,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
    /// Bytes done in it; 0 where it isn't counted in bytes.
    pub bytes: u64,
}

/// Between two reports of one step.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// Counts bytes and reports now and then.
pub struct Meter<'a> {
    report: &'a (dyn Fn(Event) + Sync),
    done_bytes: AtomicU64,
    /// Bytes by what became of them.
    pub(super) counts: Counts,
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
    outlook: Outlook,
}

impl State {
    fn end_step(&mut self, bytes: u64) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ended.push(StepTime { step: self.step, elapsed_ms, bytes });
    }
}

impl<'a> Meter<'a> {
    /// Reports to this how far this job is.
    pub fn new(job: Job, report: &'a (dyn Fn(Event) + Sync)) -> Self {
        let now = Instant::now();
        let state = State {
            step: Step::Gate,
            total_bytes: 0,
            began: now,
            reported: now,
            ended: Vec::new(),
            outlook: Outlook::new(job),
        };
        let (done_bytes, counts) = (AtomicU64::new(0), Counts::default());
        Self { report, done_bytes, counts, state: Mutex::new(state) }
    }

    /// The next step began.
    pub fn step(&self, step: Step, total_bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (done_bytes, now) = (self.done_bytes.swap(0, Ordering::Relaxed), Instant::now());
        if done_bytes > 0 {
            self.tell(&mut state, now, done_bytes);
        }
        state.end_step(done_bytes);
        (state.step, state.total_bytes, state.began, state.reported) =
            (step, total_bytes, now, now);
        state.outlook.begin(step, total_bytes);
        self.tell(&mut state, now, 0);
    }

    /// So many bytes more are done.
    pub fn advance(&self, bytes: u64) {
        let done_bytes = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.now_and_then(done_bytes);
    }

    /// So many bytes of the step are done.
    pub fn reach(&self, done_bytes: u64) {
        self.done_bytes.store(done_bytes, Ordering::Relaxed);
        self.now_and_then(done_bytes);
    }

    /// The last step ended; gives what each took.
    pub fn end(&self) -> Vec<StepTime> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let done_bytes = self.done_bytes.load(Ordering::Relaxed);
        state.outlook.end();
        self.tell(&mut state, Instant::now(), done_bytes);
        state.end_step(done_bytes);
        std::mem::take(&mut state.ended)
    }

    fn now_and_then(&self, done_bytes: u64) {
        // Whoever else holds the lock reports for us.
        let Ok(mut state) = self.state.try_lock() else { return };
        if state.reported.elapsed() >= REPORT_EVERY {
            let now = Instant::now();
            state.reported = now;
            self.tell(&mut state, now, done_bytes);
        }
    }

    fn tell(&self, state: &mut State, now: Instant, done_bytes: u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let done = Done {
            bytes: done_bytes,
            right_bytes: count(&self.counts.right),
            zeroed_bytes: count(&self.counts.zeroed),
        };
        let seen = state.outlook.look(now, done);
        (self.report)(Event {
            step: state.step,
            done_bytes,
            total_bytes: state.total_bytes,
            percent: seen.percent,
            bytes_per_second: seen.bytes_per_second,
            left_ms: seen.left_ms,
            right_bytes: done.right_bytes,
            written_bytes: count(&self.counts.written),
            zeroed_bytes: done.zeroed_bytes,
        });
    }
}
