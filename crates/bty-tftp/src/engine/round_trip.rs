//! How long a client takes to answer, and so how long to wait before sending again (RFC 6298).

use std::time::Duration;

/// Before anything is measured. RFC 6298 §2.1.
const INITIAL: Duration = Duration::from_secs(1);
/// Never wait less: a client that writes to its screen is not a lost datagram. RFC 6298 says 1 s, which is for the internet;
/// a boot program crosses a room.
const SHORTEST: Duration = Duration::from_millis(20);
/// Never wait longer: a link that comes back is used again soon.
const LONGEST: Duration = Duration::from_secs(4);

/// The measured round trip of one transfer.
#[derive(Debug, Clone)]
pub(super) struct RoundTrip {
    fixed: Option<Duration>,
    smoothed: Option<Duration>,
    variation: Duration,
    fastest: Option<Duration>,
    doublings: u32,
}

impl RoundTrip {
    /// Nothing measured yet. `fixed` is the client's own wish (RFC 2349), which nothing measured changes.
    pub(super) fn new(fixed: Option<Duration>) -> Self {
        Self { fixed, smoothed: None, variation: Duration::ZERO, fastest: None, doublings: 0 }
    }

    /// Takes a measurement. The caller leaves out answers to what was sent twice (Karn's algorithm, RFC 6298 §3).
    pub(super) fn sample(&mut self, measured: Duration) {
        self.doublings = 0;
        self.fastest = Some(self.fastest.map_or(measured, |fastest| fastest.min(measured)));
        match self.smoothed {
            None => {
                self.smoothed = Some(measured);
                self.variation = measured / 2;
            }
            Some(smoothed) => {
                let off = smoothed.abs_diff(measured);
                self.variation = (self.variation * 3 + off) / 4;
                self.smoothed = Some((smoothed * 7 + measured) / 8);
            }
        }
    }

    /// How long to wait for an answer now.
    pub(super) fn patience(&self) -> Duration {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let measured = self.smoothed.map_or(INITIAL, |smoothed| smoothed + self.variation * 4);
        measured.clamp(SHORTEST, LONGEST).saturating_mul(1 << self.doublings).min(LONGEST)
    }

    /// Waited in vain: wait twice as long next time (RFC 6298 §5.5), until an answer is measured again.
    pub(super) fn back_off(&mut self) {
        self.doublings = (self.doublings + 1).min(8);
    }

    /// The fastest answer so far: nothing that arrives sooner after a datagram can be an answer to it.
    pub(super) fn fastest(&self) -> Duration {
        self.fastest.unwrap_or(Duration::ZERO)
    }
}
