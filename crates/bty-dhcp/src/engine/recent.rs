//! A bounded memory of the latest things said about a key.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::{Duration, SystemTime},
};

/// Remembers a value per key for a while, and no more than so many keys: where it is full, the oldest goes. Each call takes
/// constant time on average, also in a flood of new keys.
#[derive(Debug)]
pub struct Recent<K, V> {
    most: usize,
    lasts: Duration,
    entries: HashMap<K, Entry<V>>,
    /// Keys in the order in which they were put. A key that was put again is here more than once; its latest turn counts.
    order: VecDeque<(K, u64)>,
    turns: u64,
}

#[derive(Debug)]
struct Entry<V> {
    at: SystemTime,
    turn: u64,
    value: V,
}

impl<K: Eq + Hash + Copy, V> Recent<K, V> {
    /// At most `most` keys, each for `lasts` after it was put.
    pub fn new(most: usize, lasts: Duration) -> Self {
        Self { most, lasts, entries: HashMap::new(), order: VecDeque::new(), turns: 0 }
    }

    /// How many keys are remembered.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// What was put last, unless it is too old. A clock that was set back makes nothing old.
    pub fn get(&self, now: SystemTime, key: &K) -> Option<&V> {
        let entry = self.entries.get(key)?;
        is_fresh(now, entry.at, self.lasts).then_some(&entry.value)
    }

    /// Puts a value in place of the one before.
    pub fn put(&mut self, now: SystemTime, key: K, value: V) {
        self.turns += 1;
        self.entries.insert(key, Entry { at: now, turn: self.turns, value });
        self.order.push_back((key, self.turns));
        while self.entries.len() > self.most {
            let Some((key, turn)) = self.order.pop_front() else { return };
            if is_latest(&self.entries, key, turn) {
                self.entries.remove(&key);
            }
        }
        if self.order.len() > self.most.saturating_mul(2) {
            let entries = &self.entries;
            self.order.retain(|&(key, turn)| is_latest(entries, key, turn));
        }
    }
}

fn is_latest<K: Eq + Hash + Copy, V>(entries: &HashMap<K, Entry<V>>, key: K, turn: u64) -> bool {
    entries.get(&key).is_some_and(|entry| entry.turn == turn)
}

fn is_fresh(now: SystemTime, at: SystemTime, lasts: Duration) -> bool {
    now.duration_since(at).is_ok_and(|age| age < lasts) || now < at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn it_forgets_the_old_and_never_grows_beyond_its_bound() {
        let mut recent = Recent::new(2, Duration::from_secs(10));
        for key in 0..100_u64 {
            recent.put(at(key), key, key);
            assert!(recent.entries.len() <= 2 && recent.order.len() <= 4);
        }
        assert_eq!(recent.get(at(99), &99), Some(&99));
        assert_eq!(recent.get(at(99), &98), Some(&98));
        assert_eq!(recent.get(at(99), &97), None);
        assert_eq!(recent.get(at(109), &99), None, "it is too old");
        assert_eq!(recent.get(at(5), &99), Some(&99), "the clock was set back");
    }

    #[test]
    fn a_key_that_is_put_again_is_young_again() {
        let mut recent = Recent::new(2, Duration::from_secs(10));
        for turn in 0..50 {
            recent.put(at(0), 'a', turn);
            assert!(recent.order.len() <= 4);
        }
        recent.put(at(0), 'b', 1);
        recent.put(at(0), 'a', 2);
        recent.put(at(0), 'c', 3);
        let kept = ['a', 'b', 'c'].map(|key| recent.get(at(0), &key).copied());
        assert_eq!(kept, [Some(2), None, Some(3)]);
    }
}
