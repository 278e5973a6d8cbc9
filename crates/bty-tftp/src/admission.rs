//! Who may start a transfer: bounds on what a LAN can ask, so that one bad client does not hurt the others.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// Addresses whose rate is known at a time. When there are more, those share one rate.
const MAX_SOURCES: usize = 4096;
/// How many seconds' worth of requests may come at once.
const BURST_SECONDS: u32 = 4;

/// The rate of requests from each address.
#[derive(Debug)]
pub(crate) struct Rates {
    per_second: u32,
    sources: HashMap<Ipv4Addr, Bucket>,
    /// For the addresses that have no place of their own.
    rest: Option<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Requests that may come now, in thousandths.
    tokens: u64,
    at: Instant,
}

impl Rates {
    /// Allows so many requests a second from each address.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, sources: HashMap::new(), rest: None }
    }

    /// Whether a request from this address is admitted now.
    pub(crate) fn admit(&mut self, now: Instant, source: Ipv4Addr) -> bool {
        let full = u64::from(self.per_second) * u64::from(BURST_SECONDS) * 1000;
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_SOURCES {
            // A bucket that has had the time to fill up again says no more than none.
            let filled = Duration::from_secs(BURST_SECONDS.into());
            self.sources.retain(|_, bucket| now.saturating_duration_since(bucket.at) < filled);
        }
        let new = Bucket { tokens: full, at: now };
        let bucket = if self.sources.len() < MAX_SOURCES || self.sources.contains_key(&source) {
            self.sources.entry(source).or_insert(new)
        } else {
            self.rest.get_or_insert(new)
        };
        bucket.take(now, self.per_second, full)
    }
}

impl Bucket {
    fn take(&mut self, now: Instant, per_second: u32, full: u64) -> bool {
        let passed = now.saturating_duration_since(self.at);
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let earned = passed_ms.saturating_mul(per_second.into());
        if earned > 0 {
            // A thousandth of a request a millisecond, for each request a second.
            self.tokens = self.tokens.saturating_add(earned).min(full);
            self.at = now;
        }
        let admitted = self.tokens >= 1000;
        if admitted {
            self.tokens -= 1000;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn admitted(rates: &mut Rates, now: Instant, source: Ipv4Addr, requests: u32) -> u32 {
        (0..requests).map(|_| u32::from(rates.admit(now, source))).sum()
    }

    #[test]
    fn a_burst_and_then_a_rate_are_admitted_from_each_address() {
        let now = Instant::now();
        let mut rates = Rates::new(10);
        assert_eq!(admitted(&mut rates, now, A, 100), 40);
        assert_eq!(admitted(&mut rates, now, B, 100), 40);
        assert_eq!(admitted(&mut rates, now + Duration::from_millis(500), A, 100), 5);
        assert_eq!(admitted(&mut rates, now + Duration::from_mins(1), A, 100), 40);
    }

    #[test]
    fn forged_addresses_take_bounded_memory_and_share_a_rate() {
        let now = Instant::now();
        let mut rates = Rates::new(10);
        let forged = (0..20_000).map(|number| Ipv4Addr::from(0x0a00_0000 + number));
        let admitted = forged.filter(|&source| rates.admit(now, source)).count();
        assert_eq!(admitted, MAX_SOURCES + 40);
        assert_eq!(rates.sources.len(), MAX_SOURCES);
        assert!(!rates.admit(now, A));
        assert!(rates.admit(now + Duration::from_secs(5), A), "places are free again");
        assert!(rates.sources.len() < MAX_SOURCES);
    }
}
