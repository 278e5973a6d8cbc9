//! A bounded memory of the latest things said about a key.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, SystemTime},
};

/// Remembers a value per key for a while, and no more than so many keys: where it is full, the oldest goes.
#[derive(Debug)]
pub struct Recent<K, V> {
    most: usize,
    lasts: Duration,
    entries: HashMap<K, (SystemTime, V)>,
}

impl<K: Eq + Hash + Copy, V> Recent<K, V> {
    /// At most `most` keys, each for `lasts` after it was put.
    pub fn new(most: usize, lasts: Duration) -> Self {
        Self { most, lasts, entries: HashMap::new() }
    }

    /// What was put last, unless it is too old. A clock that was set back makes nothing old.
    pub fn get(&self, now: SystemTime, key: &K) -> Option<&V> {
        let (at, value) = self.entries.get(key)?;
        is_fresh(now, *at, self.lasts).then_some(value)
    }

    /// Puts a value in place of the one before.
    pub fn put(&mut self, now: SystemTime, key: K, value: V) {
        if self.entries.len() >= self.most && !self.entries.contains_key(&key) {
            let lasts = self.lasts;
            self.entries.retain(|_, (at, _)| is_fresh(now, *at, lasts));
            if self.entries.len() >= self.most {
                let oldest = self.entries.iter().min_by_key(|(_, (at, _))| *at);
                if let Some(oldest) = oldest.map(|(key, _)| *key) {
                    self.entries.remove(&oldest);
                }
            }
        }
        self.entries.insert(key, (now, value));
    }
}

fn is_fresh(now: SystemTime, at: SystemTime, lasts: Duration) -> bool {
    now.duration_since(at).is_ok_and(|age| age < lasts) || now < at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_the_old_and_never_grows_beyond_its_bound() {
        let start = SystemTime::UNIX_EPOCH;
        let mut recent = Recent::new(2, Duration::from_secs(10));
        for key in 0..100_u64 {
            recent.put(start + Duration::from_secs(key), key, key);
            assert!(recent.entries.len() <= 2);
        }
        let now = start + Duration::from_secs(99);
        assert_eq!(recent.get(now, &99), Some(&99));
        assert_eq!(recent.get(now, &98), Some(&98));
        assert_eq!(recent.get(now, &97), None);
        assert_eq!(recent.get(now + Duration::from_secs(10), &99), None);
    }
}
