//! What was answered lately, and why, for `btyctl dhcp log` and whoever asks.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bty_api::{convert::timestamp, dhcp::v1::Exchange as Listed};
use tokio::sync::broadcast;

use crate::engine::{Exchange, Silence, Verdict};

/// Exchanges that are remembered; the oldest are forgotten first.
pub(crate) const REMEMBERED: usize = 4096;
/// A packet is taken for a repeat of one of so many before it.
const LOOKED_BACK: usize = 64;
/// And of this time: some clients make the same transaction id at each power-on.
const LOOKED_BACK_SECONDS: i64 = 120;
/// Exchanges that wait for a slow watcher; it misses what is older.
const WAITING: usize = 256;

/// The latest exchanges.
#[derive(Debug)]
pub(crate) struct History {
    listed: Mutex<VecDeque<Listed>>,
    fresh: broadcast::Sender<Listed>,
}

impl Default for History {
    fn default() -> Self {
        Self { listed: Mutex::default(), fresh: broadcast::channel(WAITING).0 }
    }
}

impl History {
    /// Remembers an exchange; `false` where it repeats an earlier one.
    pub(crate) fn add(&self, at: SystemTime, exchange: &Exchange) -> bool {
        let listed = listed(at, exchange);
        let mut all = self.lock();
        let repeated =
            all.iter_mut().rev().take(LOOKED_BACK).find(|earlier| same(earlier, &listed));
        if let Some(earlier) = repeated {
            earlier.repeats = earlier.repeats.saturating_add(1);
            return false;
        }
        if all.len() >= REMEMBERED {
            all.pop_front();
        }
        all.push_back(listed.clone());
        // Nobody may be watching.
        let _ = self.fresh.send(listed);
        true
    }

    /// The latest exchanges of this MAC address (of all where it is empty), newest first.
    pub(crate) fn latest(&self, mac: &str, most: usize) -> Vec<Listed> {
        let all = self.lock();
        let of_mac = all.iter().rev().filter(|listed| mac.is_empty() || listed.mac == mac);
        of_mac.take(most).cloned().collect()
    }

    /// Every exchange from now on.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Listed> {
        self.fresh.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Listed>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same but for its time and how often it came.
fn same(earlier: &Listed, later: &Listed) -> bool {
    // By what differs most often first: this runs over many for each packet.
    earlier.xid == later.xid
        && earlier.mac == later.mac
        && earlier.message == later.message
        && earlier.port == later.port
        && seconds(later) - seconds(earlier) < LOOKED_BACK_SECONDS
        && Listed { at: later.at, repeats: later.repeats, ..earlier.clone() } == *later
}

fn seconds(listed: &Listed) -> i64 {
    listed.at.as_ref().map_or(0, |at| at.seconds)
}

fn listed(at: SystemTime, exchange: &Exchange) -> Listed {
    let mut listed = Listed {
        at: Some(timestamp(at)),
        interface: exchange.interface.to_string(),
        port: exchange.port.number().into(),
        reason: exchange.verdict.reason(),
        ..Listed::default()
    };
    if let Some(sender) = &exchange.sender {
        listed.mac = sender.mac.to_string();
        // What comes too often comes with another each time, and is one thing to know.
        let is_one_of_many = exchange.verdict == Verdict::Silent(Silence::TooOften);
        listed.xid = if is_one_of_many { 0 } else { sender.xid };
        listed.message = sender.message.map(|message| message.to_string()).unwrap_or_default();
        listed.architecture = sender.architecture.map(|architecture| architecture.0.into());
        listed.vendor_class.clone_from(&sender.vendor_class);
        listed.user_class.clone_from(&sender.user_class);
        sender.client.name().clone_into(&mut listed.client);
        listed.relay = sender.relay.map(|relay| relay.to_string()).unwrap_or_default();
    }
    if let Verdict::Answered(answer) = &exchange.verdict {
        listed.answer = answer.message.to_string();
        listed.leased_address = answer.leased.map(|leased| leased.to_string()).unwrap_or_default();
        listed.boot_file.clone_from(&answer.boot_file);
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Malformed, ServerPort, Silence};
    use std::time::Duration;

    fn exchange(interface: &str) -> Exchange {
        Exchange {
            interface: interface.into(),
            port: ServerPort::Dhcp,
            sender: None,
            verdict: Verdict::Silent(Silence::Malformed(Malformed::Cookie)),
        }
    }

    #[test]
    fn repeats_are_counted_and_not_listed() {
        let history = History::default();
        let mut watcher = history.watch();
        let at = SystemTime::UNIX_EPOCH;
        assert!(history.add(at, &exchange("eth0")));
        assert!(!history.add(at, &exchange("eth0")));
        assert!(history.add(at, &exchange("eth1")));
        assert!(!history.add(at + Duration::from_secs(119), &exchange("eth0")));
        let latest = history.latest("", 10);
        let shown: Vec<_> =
            latest.iter().map(|listed| (listed.interface.as_str(), listed.repeats)).collect();
        assert_eq!(shown, [("eth1", 0), ("eth0", 2)]);
        assert_eq!(watcher.try_recv().unwrap().interface, "eth0");
        assert_eq!(watcher.try_recv().unwrap().interface, "eth1");
        assert!(watcher.try_recv().is_err());
        assert!(history.add(at + Duration::from_mins(2), &exchange("eth0")), "another power-on");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let history = History::default();
        for number in 0..REMEMBERED + 5 {
            history.add(SystemTime::UNIX_EPOCH, &exchange(&number.to_string()));
        }
        let latest = history.latest("", usize::MAX);
        assert_eq!(latest.len(), REMEMBERED);
        assert_eq!(latest.last().unwrap().interface, "5");
        assert!(history.latest("52:54:00:77:00:01", 10).is_empty());
    }
}
