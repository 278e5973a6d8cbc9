//! How much of the whole work is done, and how long the rest takes: pure, with the time as a parameter.
//!
//! Not every byte of an image is the same work. One that the disk holds already is only read; one that it doesn't is fetched, unpacked,
//! written and read back; zeros are nearly nothing. So work is counted in what a byte costs against one that is written, and what is to
//! come is taken to be like what has been.

use std::{collections::VecDeque, time::Instant};

use super::event::Step;

/// What reading a byte costs against fetching and writing it: to compare it, or to prove it.
const READ: f64 = 0.4;
/// What making a byte zero costs.
const ZERO: f64 = 1.0 / 16.0;
/// What reading a byte back costs that was made zero: the device mostly knows.
const READ_ZERO: f64 = 0.1;
/// What is left to be said when all is read back.
const PROVED_PERCENT: f64 = 99.0;
/// The rate is that of the last so many looks, four a second.
const LOOKS: usize = 32;
/// Below that, a rate says nothing.
const SHORTEST_SECONDS: f64 = 0.4;

/// What there is to do, as far as it is known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Job {
    /// Bytes of the image that come first in [`Step::Write`]: its data.
    pub data_bytes: u64,
    /// Bytes of its holes, which come after those.
    pub hole_bytes: u64,
    /// Whether what is written is read back.
    pub readback: bool,
}

/// What was done, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Done {
    /// Bytes of this step.
    pub(super) bytes: u64,
    /// Bytes that were right.
    pub(super) right_bytes: u64,
    /// Bytes that were made zero.
    pub(super) zeroed_bytes: u64,
}

/// What can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) percent: Option<u8>,
    pub(super) bytes_per_second: u64,
    pub(super) left_ms: Option<u64>,
}

/// Looks at the work now and then.
#[derive(Debug)]
pub(super) struct Outlook {
    job: Job,
    step: Step,
    total_bytes: u64,
    /// Percent of the whole when this step began, and the most that was ever said.
    began_at: f64,
    said: f64,
    /// When was how much of this step done, in bytes and in work.
    looks: VecDeque<(Instant, f64, f64)>,
    /// Work a second, as last seen; of the step before while this one is too young.
    pace: Option<f64>,
    /// Bytes of data that were right, as last seen before the holes began.
    right: f64,
}

impl Outlook {
    pub(super) const fn new(job: Job) -> Self {
        Self {
            job,
            step: Step::Gate,
            total_bytes: 0,
            began_at: 0.0,
            said: 0.0,
            looks: VecDeque::new(),
            pace: None,
            right: 0.0,
        }
    }

    /// A step begins.
    pub(super) fn begin(&mut self, step: Step, total_bytes: u64) {
        if step == Step::FirstChunk {
            self.said = self.said.max(PROVED_PERCENT);
        }
        (self.step, self.total_bytes, self.began_at) = (step, total_bytes, self.said);
        self.looks.clear();
    }

    /// All is done.
    pub(super) fn end(&mut self) {
        self.said = 100.0;
    }

    /// What can be said now, when so much is done.
    pub(super) fn look(&mut self, now: Instant, done: Done) -> Seen {
        let (spent, whole) = self.work(done);
        self.looks.push_back((now, float(done.bytes), spent));
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
        let mut bytes_per_second = 0.0;
        if let (Some(first), Some(last)) = (self.looks.front(), self.looks.back()) {
            let seconds = last.0.saturating_duration_since(first.0).as_secs_f64();
            if seconds >= SHORTEST_SECONDS {
                bytes_per_second = (last.1 - first.1) / seconds;
                self.pace = Some((last.2 - first.2) / seconds);
            }
        }
        let is_over = self.said >= 100.0;
        let is_known = whole > 0.0 || is_over;
        if whole > 0.0 && !is_over {
            let room = match self.step {
                // The whole of these is the whole work.
                Step::Write | Step::Compare | Step::Capture | Step::Erase => PROVED_PERCENT,
                _ => PROVED_PERCENT - self.began_at,
            };
            let came_to = self.began_at + room * (spent / whole).min(1.0);
            self.said = self.said.max(came_to.min(PROVED_PERCENT));
        }
        let left = match self.pace {
            _ if is_over => Some(0.0),
            Some(pace) if pace > 0.0 && whole > 0.0 => Some((whole - spent).max(0.0) / pace),
            _ => None,
        };
        Seen {
            percent: (is_known || self.said > 0.0).then(|| self.whole_percent()),
            bytes_per_second: whole_number(bytes_per_second),
            left_ms: left.map(|seconds| whole_number(seconds * 1000.0)),
        }
    }

    /// What was said, without what is not whole.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    const fn whole_percent(&self) -> u8 {
        self.said as u8
    }

    /// The work that was done in this step, and all that is to be done from its beginning; 0 where that is not known.
    fn work(&mut self, done: Done) -> (f64, f64) {
        match self.step {
            Step::Write => self.writing(done),
            Step::Prove => (float(done.bytes) * READ, float(self.total_bytes) * READ),
            Step::Compare | Step::Capture | Step::Erase => {
                (float(done.bytes), float(self.total_bytes))
            }
            Step::Gate | Step::Flush | Step::FirstChunk | Step::FixUps => (0.0, 0.0),
        }
    }

    fn writing(&mut self, done: Done) -> (f64, f64) {
        let (data, holes) = (float(self.job.data_bytes), float(self.job.hole_bytes));
        let data_done = float(done.bytes).min(data);
        let holes_done = (float(done.bytes) - data_done).min(holes);
        if holes_done <= 0.0 {
            self.right = float(done.right_bytes).min(data_done);
        }
        let right = self.right;
        let spent = right * READ + (data_done - right) + holes_done * ZERO;
        if data + holes <= 0.0 {
            return (spent, 0.0);
        }
        let share = if data_done > 0.0 { right / data_done } else { 0.0 };
        let wrong_to_come = (data - data_done) * (1.0 - share);
        let right_to_come = (data - data_done) * share;
        let mut to_come =
            wrong_to_come + right_to_come * READ + (holes - holes_done).max(0.0) * ZERO;
        let changes = data_done - right + wrong_to_come > 0.0 || done.zeroed_bytes > 0;
        if self.job.readback && changes {
            to_come += (data_done - right + wrong_to_come) * READ;
            to_come += (float(done.zeroed_bytes) + (holes - holes_done).max(0.0)) * READ_ZERO;
        }
        (spent, spent + to_come)
    }
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
const fn float(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as casts saturate")]
fn whole_number(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const MB: u64 = 1_000_000;

    fn done(bytes: u64, right_bytes: u64, zeroed_bytes: u64) -> Done {
        Done { bytes, right_bytes, zeroed_bytes }
    }

    /// Percent and milliseconds left after four looks a second, at this many MB each.
    fn after(
        outlook: &mut Outlook,
        looks: u64,
        each: u64,
        right: bool,
    ) -> (Option<u8>, Option<u64>) {
        let began = Instant::now();
        let mut seen = outlook.look(began, Done::default());
        for look in 1..=looks {
            let bytes = look * each * MB;
            let right = if right { bytes } else { 0 };
            let at = began + Duration::from_millis(250 * look);
            seen = outlook.look(at, done(bytes, right, 0));
        }
        (seen.percent, seen.left_ms)
    }

    fn blank_disk() -> Outlook {
        let job = Job { data_bytes: 1000 * MB, hole_bytes: 3000 * MB, readback: true };
        let mut outlook = Outlook::new(job);
        outlook.begin(Step::Write, 4000 * MB);
        outlook
    }

    #[test]
    fn holes_are_little_work_and_reading_back_is_some() {
        let mut outlook = blank_disk();
        // All the data is written, and that is a quarter of the disk.
        let (percent, _) = after(&mut outlook, 40, 25, false);
        assert_eq!(percent, Some(52));
        let seen = outlook.look(Instant::now(), done(4000 * MB, 0, 3000 * MB));
        assert_eq!(seen.percent, Some(62));
        outlook.begin(Step::Flush, 0);
        assert_eq!(outlook.look(Instant::now(), Done::default()).percent, Some(62));
        outlook.begin(Step::Prove, 4000 * MB);
        let half = outlook.look(Instant::now(), done(2000 * MB, 0, 3000 * MB));
        assert_eq!(half.percent, Some(80));
        outlook.begin(Step::FirstChunk, 0);
        assert_eq!(outlook.look(Instant::now(), Done::default()).percent, Some(99));
        outlook.end();
        let over = outlook.look(Instant::now(), Done::default());
        assert_eq!((over.percent, over.left_ms), (Some(100), Some(0)));
    }

    #[test]
    fn a_disk_that_is_right_is_half_done_at_its_half() {
        let job = Job { data_bytes: 1000 * MB, hole_bytes: 0, readback: true };
        let mut outlook = Outlook::new(job);
        outlook.begin(Step::Write, 1000 * MB);
        // 500 MB in five seconds: five seconds are left.
        assert_eq!(after(&mut outlook, 20, 25, true), (Some(49), Some(5000)));
    }

    #[test]
    fn what_is_left_follows_the_pace() {
        let job = Job { data_bytes: 1000 * MB, hole_bytes: 0, readback: false };
        let mut outlook = Outlook::new(job);
        outlook.begin(Step::Write, 1000 * MB);
        assert_eq!(after(&mut outlook, 10, 20, false), (Some(19), Some(10_000)));
    }

    #[test]
    fn of_a_size_that_nobody_knows_only_the_rate_is_said() {
        let mut outlook = Outlook::new(Job { readback: true, ..Job::default() });
        outlook.begin(Step::Write, 0);
        assert_eq!(after(&mut outlook, 20, 25, false), (None, None));
        let began = Instant::now();
        outlook.begin(Step::Write, 0);
        outlook.look(began, Done::default());
        let seen = outlook.look(began + Duration::from_secs(2), done(50 * MB, 0, 0));
        assert_eq!(seen.bytes_per_second, 25 * MB);
    }

    proptest! {
        #[test]
        fn the_percentage_only_grows_and_reaches_a_hundred_at_the_end_only(
            job in (any::<u64>(), any::<u64>(), any::<bool>()),
            looks in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), 0_u8..5), 1..60),
        ) {
            let (data_bytes, hole_bytes, readback) = job;
            let mut outlook = Outlook::new(Job { data_bytes, hole_bytes, readback });
            let steps = [Step::Write, Step::Flush, Step::Prove, Step::FirstChunk];
            let mut last = 0;
            let mut now = Instant::now();
            for (bytes, right, zeroed, step) in looks {
                if let Some(&step) = steps.get(usize::from(step)) {
                    outlook.begin(step, bytes);
                }
                now += Duration::from_millis(250);
                let percent = outlook.look(now, done(bytes, right, zeroed)).percent.unwrap_or(last);
                prop_assert!(percent >= last && percent < 100, "{percent} after {last}");
                last = percent;
            }
        }
    }
}
