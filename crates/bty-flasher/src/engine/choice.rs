//! Whether to look at what the disk holds before writing: worth it where enough of it is right already.

use std::{fmt, time::Duration};

/// Whether the disk is compared with the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compare {
    /// Where it pays, as measured on the way.
    #[default]
    Auto,
    /// Everywhere.
    On,
    /// Nowhere.
    Off,
}

impl Compare {
    /// As the command line and the contract have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// How much the latest measurement counts against those before.
const LATEST: f64 = 0.25;
/// Where comparing doesn't pay, it is still tried so often: the next part of the disk may be another matter.
const TRY_EVERY: u32 = 32;
/// What writing costs against comparing before any was measured.
const USUAL_COST: f64 = 3.0;
/// Seconds for a byte that writing costs at least, however fast it is: it wears the disk.
const LEAST_WRITING: f64 = 2e-10;

/// Decides for each span, by what the ones before it were like.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    mode: Compare,
    /// Whether what is written is read back: then a span that was compared and is right spares that too.
    readback: bool,
    /// Seconds for a byte.
    comparing: Option<f64>,
    writing: Option<f64>,
    /// Of the time for comparing, what a worker would have waited for the source anyway.
    idle: f64,
    /// The share of the disk that is right, as far as was seen.
    right: f64,
    not_tried: u32,
}

impl Choice {
    /// After a first look at samples, of which this share was right.
    pub(super) const fn new(mode: Compare, readback: bool, right: f64) -> Self {
        Self { mode, readback, comparing: None, writing: None, idle: 0.0, right, not_tried: 0 }
    }

    /// Whether to compare the next span.
    pub(super) fn next(&mut self) -> bool {
        let compares = match self.mode {
            Compare::On => true,
            Compare::Off => false,
            Compare::Auto => self.pays() || self.not_tried + 1 >= TRY_EVERY,
        };
        self.not_tried = if compares { 0 } else { self.not_tried + 1 };
        compares
    }

    fn pays(&self) -> bool {
        let comparing = self.comparing.unwrap_or(1.0);
        let writing = self.writing.unwrap_or(comparing * USUAL_COST).max(LEAST_WRITING);
        let spared = if self.readback { writing + comparing } else { writing };
        comparing - self.idle < self.right * spared
    }

    /// So many bytes were compared in this time, of which so many are right.
    pub(super) fn compared(&mut self, bytes: u64, right: u64, took: Duration) {
        self.compared_after(bytes, right, took, Duration::ZERO);
    }

    /// The same, where the source had kept the worker waiting for so long before.
    pub(super) fn compared_after(
        &mut self,
        bytes: u64,
        right: u64,
        took: Duration,
        idle: Duration,
    ) {
        let idle = seconds_a_byte(bytes, idle.min(took));
        self.idle += (idle - self.idle) * LATEST;
        blend(&mut self.comparing, seconds_a_byte(bytes, took));
        let share = ratio(right, bytes);
        self.right += (share - self.right) * LATEST;
    }

    /// So many bytes were fetched and written in this time.
    pub(super) fn wrote(&mut self, bytes: u64, took: Duration) {
        blend(&mut self.writing, seconds_a_byte(bytes, took));
    }
}

fn blend(value: &mut Option<f64>, latest: f64) {
    *value = Some(value.map_or(latest, |value| value + (latest - value) * LATEST));
}

fn seconds_a_byte(bytes: u64, took: Duration) -> f64 {
    took.as_secs_f64() * ratio(1, bytes.max(1))
}

#[allow(clippy::cast_precision_loss, reason = "a share of bytes need not be exact")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

impl fmt::Display for Choice {
    /// What was seen, for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |cost: Option<f64>| {
            cost.map_or_else(
                || "not measured".to_owned(),
                |cost| format!("{:.0} MB/s", 1e-6 / cost),
            )
        };
        match self.mode {
            Compare::On => return f.write_str("all of the disk was compared, as was asked for"),
            Compare::Off => {
                return f.write_str("nothing of the disk was compared, as was asked for");
            }
            Compare::Auto => {}
        }
        write!(
            f,
            "{:.0} % of the disk was right where it was looked at last; a worker compares {}, fetches and writes {}",
            self.right * 100.0,
            rate(self.comparing),
            rate(self.writing)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Compares `spans` where it says so; how many those were. Comparing takes 1 ms for a MiB, writing `writing`.
    fn run(choice: &mut Choice, spans: u32, right: bool, writing: u64) -> u32 {
        (0..spans)
            .map(|_| {
                let compares = choice.next();
                if compares {
                    choice.compared(MIB, if right { MIB } else { 0 }, Duration::from_millis(1));
                }
                if !(compares && right) {
                    choice.wrote(MIB, Duration::from_millis(writing));
                }
                u32::from(compares)
            })
            .sum()
    }

    #[test]
    fn a_blank_disk_is_looked_at_now_and_then() {
        let mut choice = Choice::new(Compare::Auto, true, 0.0);
        assert_eq!(run(&mut choice, 320, false, 3), 10);
    }

    #[test]
    fn a_disk_that_is_right_is_compared_throughout() {
        for readback in [true, false] {
            let mut choice = Choice::new(Compare::Auto, readback, 1.0);
            assert_eq!(run(&mut choice, 320, true, 3), 320, "readback {readback}");
        }
    }

    #[test]
    fn a_flash_that_was_cut_off_is_compared_until_the_cut() {
        // A third was written: a third of the samples is right.
        let mut choice = Choice::new(Compare::Auto, true, 0.33);
        assert_eq!(run(&mut choice, 100, true, 3), 100);
        let after = run(&mut choice, 200, false, 3);
        assert!(after < 15, "{after} of 200 compared in vain");
        let again = run(&mut choice, 200, true, 3);
        assert!(again > 100, "{again} of 200 that are right");
    }

    #[test]
    fn reading_that_is_slower_than_writing_pays_only_where_it_spares_reading() {
        // Writing takes half of what comparing does.
        let mut choice = Choice::new(Compare::Auto, false, 1.0);
        choice.comparing = Some(2e-9);
        choice.writing = Some(1e-9);
        assert!(!choice.pays());
        choice.readback = true;
        assert!(choice.pays());
    }

    #[test]
    fn comparing_is_free_while_the_source_is_what_takes_the_time() {
        let (took, waited) = (Duration::from_millis(2), Duration::from_millis(5));
        let mut choice = Choice::new(Compare::Auto, true, 0.9);
        for _ in 0..20 {
            choice.wrote(MIB, Duration::ZERO);
            choice.compared(MIB, MIB * 9 / 10, took);
        }
        assert!(!choice.pays(), "{choice}");
        for _ in 0..20 {
            choice.compared_after(MIB, MIB * 9 / 10, took, waited);
        }
        assert!(choice.pays(), "{choice}");
    }

    #[test]
    fn what_was_asked_for_is_done() {
        assert_eq!(run(&mut Choice::new(Compare::On, true, 0.0), 50, false, 3), 50);
        assert_eq!(run(&mut Choice::new(Compare::Off, true, 1.0), 50, true, 3), 0);
    }
}
