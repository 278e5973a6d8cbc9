//! Time that goes on evenly while somebody sets the machine's clock.
//!
//! A server without a battery for its clock starts in another year and is set right by NTP minutes later, while machines boot. What
//! lasts for a while (a token, a lease, a silence) must neither end then nor last for ever.

use std::time::{Duration, Instant, SystemTime};

/// Less is NTP being precise, and harms nothing.
const TOLERANCE: Duration = Duration::from_secs(5);

/// The time of day when it was started, carried on by a count that nobody sets.
#[derive(Debug, Clone, Copy)]
pub struct SteadyClock {
    started_at: SystemTime,
    since: Instant,
}

impl SteadyClock {
    /// Reads the machine's clock, for the last time.
    pub fn start() -> Self {
        Self { started_at: SystemTime::now(), since: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> SystemTime {
        self.started_at.checked_add(self.since.elapsed()).unwrap_or(self.started_at)
    }

    /// A time by this clock as the machine's clock tells it now: for people, and for what outlives this process.
    pub fn by_machine(&self, at: SystemTime) -> SystemTime {
        between_clocks(self.now(), SystemTime::now(), at)
    }
}

/// Notices that the machine's clock was set.
#[derive(Debug)]
pub struct ClockWatch(SteadyClock);

impl Default for ClockWatch {
    fn default() -> Self {
        Self(SteadyClock::start())
    }
}

impl ClockWatch {
    /// By how many seconds it was set since the last look, if it was.
    pub fn look(&mut self) -> Option<i64> {
        let seconds = set_by(self.0.now(), SystemTime::now())?;
        self.0 = SteadyClock::start();
        Some(seconds)
    }
}

/// `at` by the one clock, told by the other.
fn between_clocks(one: SystemTime, other: SystemTime, at: SystemTime) -> SystemTime {
    let told = match at.duration_since(one) {
        Ok(until) => other.checked_add(until),
        Err(ago) => other.checked_sub(ago.duration()),
    };
    told.unwrap_or(at)
}

fn set_by(expected: SystemTime, found: SystemTime) -> Option<i64> {
    let (by, sign) = match found.duration_since(expected) {
        Ok(forward) => (forward, 1),
        Err(back) => (back.duration(), -1),
    };
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    (by > TOLERANCE).then_some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_and_one_that_is_corrected_is_not() {
        assert_eq!(set_by(at(1000), at(1000)), None);
        assert_eq!(set_by(at(1000), at(1004)), None);
        assert_eq!(set_by(at(1000), at(996)), None);
        assert_eq!(set_by(at(1000), at(1000 + 86_400)), Some(86_400));
        assert_eq!(set_by(at(100_000), at(100_000 - 86_400)), Some(-86_400));
    }

    #[test]
    fn what_ends_in_a_minute_ends_in_a_minute_by_either_clock() {
        assert_eq!(between_clocks(at(100), at(5000), at(160)), at(5060));
        assert_eq!(between_clocks(at(5000), at(100), at(4990)), at(90));
        assert_eq!(between_clocks(at(100), at(100), at(160)), at(160));
    }

    #[test]
    fn a_clock_that_nobody_sets_goes_with_the_machines() {
        let clock = SteadyClock::start();
        assert_eq!(ClockWatch::default().look(), None);
        assert_eq!(set_by(clock.now(), SystemTime::now()), None);
    }
}
