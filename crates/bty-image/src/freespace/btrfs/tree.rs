//! btrfs's trees: nodes that prove themselves, and a walk over the leaves from a key on.

use super::{
    super::map::{Doubt, Part, have, read},
    chunks::Chunks,
};
use crate::fields::{array, u32_le, u64_le};

const HEADER_BYTES: usize = 101;
const ITEM_BYTES: usize = 25;
const POINTER_BYTES: usize = 33;
const MOST_LEVEL: u8 = 7;
const DAMAGED: Doubt = Doubt::Odd("a node of its trees is damaged");

/// What all nodes have to be.
#[derive(Debug)]
pub(super) struct Trees {
    pub(super) node_bytes: u64,
    pub(super) generation: u64,
    /// Whether their checksums are CRC-32C, which is looked at.
    pub(super) has_sums: bool,
}

/// What items are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) object: u64,
    pub(super) kind: u8,
    pub(super) offset: u64,
}

/// An item of a leaf.
type Item = (Key, Vec<u8>);

impl Key {
    pub(super) const BYTES: usize = 17;

    pub(super) fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let [kind] = array(bytes, at + 8)?;
        Some(Self { object: u64_le(bytes, at)?, kind, offset: u64_le(bytes, at + 9)? })
    }
}

impl Trees {
    /// A node, which has to have this level, and how many items are in it.
    fn node(
        &self,
        part: &Part<'_>,
        chunks: &Chunks,
        logical: u64,
        level: u8,
    ) -> Result<(Vec<u8>, usize), Doubt> {
        let node = read(part, chunks.place(logical, self.node_bytes)?, self.node_bytes)?;
        let body = node.get(32..).unwrap_or_default();
        let has_sum = !self.has_sums || u32_le(&node, 0) == Some(crc32c::crc32c(body));
        let is_it = has_sum
            && u64_le(&node, 0x30) == Some(logical)
            && u64_le(&node, 0x50).is_some_and(|generation| generation <= self.generation)
            && node.get(0x64) == Some(&level);
        let items = have(u32_le(&node, 0x60).and_then(|items| usize::try_from(items).ok()))?;
        let size = if level == 0 { ITEM_BYTES } else { POINTER_BYTES };
        if !is_it || items > (node.len() - HEADER_BYTES) / size {
            return Err(DAMAGED);
        }
        Ok((node, items))
    }
}

/// A walk over a tree's leaves, from the one in which a key would be.
#[derive(Debug)]
pub(super) struct Walk {
    /// From the root down: each inner node's pointers that are still to come, the next one last.
    levels: Vec<(u8, Vec<(Key, u64)>)>,
    from: Key,
    last: Option<Key>,
    /// A root that is a leaf.
    root: Option<u64>,
}

impl Walk {
    pub(super) fn new(
        trees: &Trees,
        part: &Part<'_>,
        chunks: &Chunks,
        (root, level): (u64, u8),
        from: Key,
    ) -> Result<Self, Doubt> {
        if level > MOST_LEVEL {
            return Err(DAMAGED);
        }
        let mut walk = Self { levels: Vec::new(), from, last: None, root: None };
        match level {
            0 => walk.root = Some(root),
            _ => walk.descend(trees, part, chunks, root, level)?,
        }
        Ok(walk)
    }

    /// Takes an inner node's pointers.
    fn descend(
        &mut self,
        trees: &Trees,
        part: &Part<'_>,
        chunks: &Chunks,
        logical: u64,
        level: u8,
    ) -> Result<(), Doubt> {
        let (node, items) = trees.node(part, chunks, logical, level)?;
        let mut pointers = Vec::with_capacity(items);
        for item in 0..items {
            let at = HEADER_BYTES + item * POINTER_BYTES;
            let pointer = Key::read(&node, at).zip(u64_le(&node, at + Key::BYTES));
            pointers.push(have(pointer)?);
        }
        // Every inner node leads to a leaf, so that no walk is longer than there are items.
        if items == 0 || !pointers.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(DAMAGED);
        }
        // What is behind a pointer ends where the next one begins.
        let before = pointers.iter().skip(1).filter(|(key, _)| *key <= self.from).count();
        pointers.drain(..before);
        pointers.reverse();
        self.levels.push((level, pointers));
        Ok(())
    }

    /// The items of the next leaf, from the key on; `None` behind the last leaf.
    pub(super) fn leaf(
        &mut self,
        trees: &Trees,
        part: &Part<'_>,
        chunks: &Chunks,
    ) -> Result<Option<Vec<Item>>, Doubt> {
        let leaf = loop {
            if let Some(root) = self.root.take() {
                break root;
            }
            let Some((level, pointers)) = self.levels.last_mut() else { return Ok(None) };
            let level = *level;
            let Some((_, logical)) = pointers.pop() else {
                self.levels.pop();
                continue;
            };
            if level == 1 {
                break logical;
            }
            self.descend(trees, part, chunks, logical, level - 1)?;
        };
        let (node, count) = trees.node(part, chunks, leaf, 0)?;
        let mut items = Vec::with_capacity(count);
        // Items that lie over each other would be more bytes than there are.
        let mut left = node.len();
        for item in 0..count {
            let at = HEADER_BYTES + item * ITEM_BYTES;
            let key = have(Key::read(&node, at))?;
            // So each leaf is behind the one before it, whatever the pointers say.
            if self.last.is_some_and(|last| key <= last) {
                return Err(DAMAGED);
            }
            self.last = Some(key);
            if key < self.from {
                continue;
            }
            let place = u32_le(&node, at + Key::BYTES).zip(u32_le(&node, at + Key::BYTES + 4));
            let (offset, size) = have(place)?;
            let start = usize::try_from(offset).ok().and_then(|at| HEADER_BYTES.checked_add(at));
            let bytes = node.get(have(start)?..).unwrap_or_default();
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            left = left.checked_sub(size).ok_or(DAMAGED)?;
            items.push((key, have(bytes.get(..size))?.to_vec()));
        }
        if count == 0 && !self.levels.is_empty() {
            return Err(DAMAGED);
        }
        Ok(Some(items))
    }
}
