//! What was served lately, for `btyctl` and whoever asks.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bty_api::tftp::v1::Transfer;

/// Transfers that are remembered; the oldest are forgotten first.
pub(crate) const REMEMBERED: usize = 1024;

/// The latest transfers. Clones share everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(Arc<Mutex<VecDeque<Record>>>);

/// One transfer, kept up to date while it goes on.
#[derive(Debug, Clone)]
pub(crate) struct Record(Arc<Mutex<Transfer>>);

impl History {
    /// Remembers a transfer that begins.
    pub(crate) fn begin(&self, transfer: Transfer) -> Record {
        let record = Record(Arc::new(Mutex::new(transfer)));
        let mut records = self.lock();
        if records.len() >= REMEMBERED {
            records.pop_front();
        }
        records.push_back(record.clone());
        record
    }

    /// The latest transfers, newest first.
    pub(crate) fn latest(&self, most: usize) -> Vec<Transfer> {
        let records: Vec<Record> = self.lock().iter().rev().take(most).cloned().collect();
        records.iter().map(|record| record.lock().clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// The transfer, to be read or changed. Held for a moment only.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Transfer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_and_the_oldest_are_forgotten() {
        let history = History::default();
        for number in 0..REMEMBERED + 5 {
            history.begin(Transfer { file: number.to_string(), ..Transfer::default() });
        }
        let latest = history.latest(usize::MAX);
        assert_eq!(latest.len(), REMEMBERED);
        assert_eq!((latest[0].file.as_str(), latest[1].file.as_str()), ("1028", "1027"));
        assert_eq!(latest.last().unwrap().file, "5");
    }
}
