//! Log lines about exchanges: one for each that is not a repeat, and never more than a person could read.

use std::time::{Duration, SystemTime};

use crate::engine::{Exchange, News, Verdict};

/// Lines in a window of time; a forger of MAC addresses must not fill the journal.
const LINES: u32 = 500;
const WINDOW: Duration = Duration::from_secs(10);

/// Counts the lines of the present window.
#[derive(Debug)]
pub(crate) struct LogLines {
    began: SystemTime,
    wanted: u32,
}

impl Default for LogLines {
    fn default() -> Self {
        Self { began: SystemTime::UNIX_EPOCH, wanted: 0 }
    }
}

impl LogLines {
    /// Whether one more line may be written.
    pub(crate) fn admit(&mut self, now: SystemTime) -> bool {
        if !now.duration_since(self.began).is_ok_and(|age| age < WINDOW) {
            let left_out = self.wanted.saturating_sub(LINES);
            if left_out > 0 {
                tracing::warn!(
                    lines = left_out,
                    "lines about DHCP packets were left out: too many came"
                );
            }
            self.began = now;
            self.wanted = 0;
        }
        self.wanted = self.wanted.saturating_add(1);
        self.wanted <= LINES
    }
}

/// Writes what is new of another server.
pub(crate) fn write_news(news: &News) {
    let News { message, is_trouble, .. } = news;
    if *is_trouble {
        tracing::warn!("{message}");
    } else {
        tracing::info!("{message}");
    }
}

/// Whether the log's level lets one through: what nobody reads must not cost others their lines.
pub(crate) fn is_wanted(record: &Exchange) -> bool {
    let is_detail = match &record.verdict {
        _ if record.sender.is_none() => true,
        Verdict::Answered(_) => false,
        Verdict::Silent(silence) => !silence.is_failed_boot(),
    };
    !is_detail || tracing::enabled!(tracing::Level::DEBUG)
}

/// Writes one.
pub(crate) fn write(record: &Exchange) {
    let reason = record.verdict.reason();
    let iface = &*record.interface;
    let Some(sender) = &record.sender else {
        return tracing::debug!(iface, reason, "a packet was not answered");
    };
    let (mac, xid) = (sender.mac, sender.xid);
    let arch = sender.architecture.map(|architecture| architecture.0);
    let asked = sender.message.map_or("BOOTP", |message| message.name());
    match &record.verdict {
        Verdict::Answered(answer) if answer.no_boot.is_none() => tracing::info!(
            %mac, iface, xid, arch, answer = answer.message.name(), reason, "a {asked} was answered"
        ),
        Verdict::Answered(_) => {
            tracing::warn!(%mac, iface, xid, arch, reason, "a {asked} got a lease, but nothing to boot");
        }
        Verdict::Silent(silence) if silence.is_failed_boot() => {
            tracing::warn!(%mac, iface, xid, arch, reason, "a {asked} was not answered");
        }
        Verdict::Silent(_) => {
            tracing::debug!(%mac, iface, xid, arch, reason, "a {asked} was not answered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_off_and_the_next_window_is_open_again() {
        let mut lines = LogLines::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        let admitted = (0..10_000).filter(|_| lines.admit(now)).count();
        assert_eq!(admitted, usize::try_from(LINES).unwrap());
        assert!(!lines.admit(now + Duration::from_secs(9)));
        assert!(lines.admit(now + Duration::from_secs(10)));
        assert!(lines.admit(now), "a clock that was set back opens a window too");
    }
}
