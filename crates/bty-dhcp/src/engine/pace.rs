//! How often one machine may ask: a client that has gone mad costs the others nothing.

use std::time::{Duration, SystemTime};

use bty_types::MacAddr;

use super::recent::Recent;

/// Packets of one machine that are looked at within [`WINDOW`]. Firmware, iPXE and an operating system that start one after the other
/// send some thirty.
pub(super) const MOST_PACKETS: u32 = 200;
/// The time over which they are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Machines that are counted at a time. A flood of others pushes them out, and costs itself no less.
const MOST_MACHINES: usize = 4096;

/// What each machine has sent lately.
#[derive(Debug)]
pub(super) struct Pace(Recent<MacAddr, Count>);

#[derive(Debug, Clone, Copy)]
struct Count {
    since: SystemTime,
    packets: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self(Recent::new(MOST_MACHINES, WINDOW))
    }
}

impl Pace {
    /// Whether one packet more of this machine is to be looked at.
    pub(super) fn admits(&mut self, now: SystemTime, mac: MacAddr) -> bool {
        let begins = Count { since: now, packets: 0 };
        let count = self.0.get(now, &mac).copied().unwrap_or(begins);
        // A clock that was set back begins anew.
        let goes_on = now.duration_since(count.since).is_ok_and(|age| age < WINDOW);
        let count = if goes_on { count } else { begins };
        if count.packets >= MOST_PACKETS {
            return false;
        }
        self.0.put(now, mac, Count { packets: count.packets + 1, ..count });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(1) + Duration::from_millis(milliseconds)
    }

    fn mac(last: u8) -> MacAddr {
        MacAddr::new([0x52, 0x54, 0, 0, 0, last]).unwrap()
    }

    #[test]
    fn a_machine_has_its_packets_and_no_more_until_the_window_has_passed() {
        let mut pace = Pace::default();
        let admitted = |pace: &mut Pace, from: u64, packets: u64, last| {
            (0..packets).filter(|n| pace.admits(at(from + n), mac(last))).count()
        };
        assert_eq!(admitted(&mut pace, 0, 1000, 1), 200);
        assert_eq!(admitted(&mut pace, 1000, 50, 2), 50, "another has its own");
        assert_eq!(admitted(&mut pace, 9_000, 100, 1), 0);
        assert_eq!(admitted(&mut pace, 10_001, 1000, 1), 200);
        assert!(pace.admits(at(0), mac(1)), "the clock was set back");
    }

    #[test]
    fn forged_machines_take_bounded_memory() {
        let mut pace = Pace::default();
        for number in 0..20_000_u32 {
            let [_, _, high, low] = number.to_be_bytes();
            assert!(pace.admits(at(0), MacAddr::new([2, 0, 0, 0, high, low]).unwrap()));
        }
        assert_eq!(pace.0.count(), MOST_MACHINES);
    }
}
