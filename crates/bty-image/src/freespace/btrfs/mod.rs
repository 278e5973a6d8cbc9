//! btrfs on a single device: what of the device no chunk has, and what of the chunks no extent has (btrfs documentation, On-disk Format).
//!
//! The committed trees are always whole, also after a power cut; what is taken for free is what they leave over. The tree of extents is
//! asked, and not the one of free space, which is only a copy. What the extents come to must be what the superblock says is used.

mod chunks;
mod tree;

use std::{cmp::Ordering, ops::Range};

use super::map::{Doubt, FreeMap, Part, have, read};
use crate::{
    ReadAt as _,
    fields::{has, u16_le, u32_le, u64_le},
};
use chunks::{Chunks, Stripe};
use tree::{Key, Trees, Walk};

const SUPERBLOCK_AT: u64 = 64 << 10;
/// Features that change nothing about extents and chunks; with any other the file system is not understood.
const INCOMPATIBLE: u64 = 0xfff | 0x1_0000;
const READ_ONLY: u64 = 0x1 | 0x2 | 0x4 | 0x8;
const SEEDING: u64 = 1 << 32;
const CRC_32C: u16 = 0;
/// Where no chunk is: boot loaders have the first MiB.
const FIRST_CHUNK_AT: u64 = 1 << 20;
/// Where copies of the superblock are, and what is kept clear around each.
const COPIES: [u64; 2] = [64 << 20, 256 << 30];
const COPY_BYTES: u64 = 64 << 10;
const ROOT_ITEM: u8 = 132;
const EXTENT_TREE: u64 = 2;
const EXTENT_ITEM: u8 = 168;
const METADATA_ITEM: u8 = 169;

/// A btrfs, and how far it was gone through.
pub(super) struct Btrfs {
    trees: Trees,
    chunks: Chunks,
    extent_root: (u64, u8),
    device_bytes: u64,
    used_bytes: u64,
    /// Bytes of extents that were seen, each once.
    seen_bytes: u64,
    /// The stripe that comes next, in their order on the device.
    stripe: usize,
    /// What is gone through.
    at: Option<Inside>,
    /// Where the last stripe ended on the device.
    end: u64,
}

/// Where in a stripe a walk is.
struct Inside {
    walk: Walk,
    stripe: Stripe,
    /// Where the last extent ended.
    logical: u64,
}

impl Btrfs {
    pub(super) fn open(part: &Part<'_>) -> Result<Self, Doubt> {
        let block = read(part, SUPERBLOCK_AT, 4096)?;
        let u64_at = |at| have(u64_le(&block, at));
        let byte_at = |at: usize| have(block.get(at).copied());
        if u64_at(0x88)? != 1 || u64_at(0x38)? & SEEDING != 0 {
            return Err(Doubt::Odd("it has several devices, or is the seed of others"));
        }
        if u64_at(0xbc)? & !INCOMPATIBLE != 0 || u64_at(0xb4)? & !READ_ONLY != 0 {
            return Err(Doubt::Odd("it has features that bty does not know"));
        }
        if u64_at(0x60)? != 0 {
            return Err(Doubt::Odd("its log has to be played back first: it was not unmounted"));
        }
        let has_sums = have(u16_le(&block, 0xc4))? == CRC_32C;
        let body = block.get(32..).unwrap_or_default();
        if has_sums && u32_le(&block, 0) != Some(crc32c::crc32c(body)) {
            return Err(Doubt::Odd("its superblock is damaged"));
        }
        let node_bytes = u64::from(have(u32_le(&block, 0x94))?);
        let (device, device_bytes) = (u64_at(0xc9)?, u64_at(0xd1)?);
        let fits = has(&block, 0x40, b"_BHRfS_M")
            && u64_at(0x30)? == SUPERBLOCK_AT
            && node_bytes.is_power_of_two()
            && (4096..=65536).contains(&node_bytes)
            && device_bytes <= part.length()?;
        if !fits {
            return Err(Doubt::Odd(
                "its superblock contradicts itself or the size of its partition",
            ));
        }
        let system = block.get(0x32b..0x32b + 2048).unwrap_or_default();
        let system_bytes = usize::try_from(have(u32_le(&block, 0xa0))?).unwrap_or(usize::MAX);
        let system = have(system.get(..system_bytes))?;
        let first = Chunks::of_superblock(system, device)?;
        let trees = Trees { node_bytes, generation: u64_at(0x48)?, has_sums };
        let chunk_root = (u64_at(0x58)?, byte_at(0xc7)?);
        let chunks = Chunks::of_tree(&trees, part, &first, chunk_root, device)?;
        let root = (u64_at(0x50)?, byte_at(0xc6)?);
        let extent_root = extent_root(&trees, part, &chunks, root)?;
        Ok(Self {
            trees,
            chunks,
            extent_root,
            device_bytes,
            used_bytes: u64_at(0x78)?,
            seen_bytes: 0,
            stripe: 0,
            at: None,
            end: FIRST_CHUNK_AT,
        })
    }

    /// Begins the next stripe: what of the device is before it is free.
    fn begin(&mut self, part: &Part<'_>, found: &mut Vec<Range<u64>>) -> Result<bool, Doubt> {
        let Some(stripe) = self.chunks.stripes.get(self.stripe).copied() else {
            if self.end == u64::MAX {
                return Ok(false);
            }
            if self.seen_bytes != self.used_bytes {
                return Err(Doubt::Odd("its extents are not what its superblock says is used"));
            }
            push(found, self.end..self.device_bytes);
            self.end = u64::MAX;
            return Ok(true);
        };
        self.stripe += 1;
        let end = have(stripe.physical.checked_add(stripe.bytes))?;
        if stripe.physical < self.end || end > self.device_bytes {
            return Err(Doubt::Odd("its chunks overlap, or lie outside of it"));
        }
        push(found, self.end..stripe.physical);
        self.end = end;
        let from = Key { object: stripe.logical, kind: 0, offset: 0 };
        let walk = Walk::new(&self.trees, part, &self.chunks, self.extent_root, from)?;
        self.at = Some(Inside { walk, stripe, logical: stripe.logical });
        Ok(true)
    }

    /// Goes through a leaf of the tree of extents. Whether the stripe goes on behind it.
    fn leaf(
        &mut self,
        part: &Part<'_>,
        at: &mut Inside,
        found: &mut Vec<Range<u64>>,
    ) -> Result<bool, Doubt> {
        let Stripe { logical, physical, bytes, is_copy } = at.stripe;
        let end = logical + bytes;
        let leaf = at.walk.leaf(&self.trees, part, &self.chunks)?;
        let physically = |address: u64| physical + (address - logical);
        for (key, _) in leaf.iter().flatten() {
            if key.object >= end {
                push(found, physically(at.logical)..physically(end));
                return Ok(false);
            }
            let length = match key.kind {
                EXTENT_ITEM => key.offset,
                METADATA_ITEM => self.trees.node_bytes,
                _ => continue,
            };
            let behind = key.object.checked_add(length).filter(|&behind| behind <= end);
            let (Some(behind), Ordering::Less | Ordering::Equal) =
                (behind, at.logical.cmp(&key.object))
            else {
                return Err(Doubt::Odd("its extents overlap, or lie outside of their chunks"));
            };
            push(found, physically(at.logical)..physically(key.object));
            at.logical = behind;
            if !is_copy {
                self.seen_bytes = have(self.seen_bytes.checked_add(length))?;
            }
        }
        if leaf.is_none() {
            push(found, physically(at.logical)..physically(end));
        }
        Ok(leaf.is_some())
    }
}

impl FreeMap for Btrfs {
    fn next(&mut self, part: &Part<'_>, found: &mut Vec<Range<u64>>) -> Result<bool, Doubt> {
        let Some(mut at) = self.at.take() else { return self.begin(part, found) };
        if self.leaf(part, &mut at, found)? {
            self.at = Some(at);
        }
        Ok(true)
    }
}

/// Where the tree of extents is, and its level.
fn extent_root(
    trees: &Trees,
    part: &Part<'_>,
    chunks: &Chunks,
    root: (u64, u8),
) -> Result<(u64, u8), Doubt> {
    let from = Key { object: EXTENT_TREE, kind: ROOT_ITEM, offset: 0 };
    let mut walk = Walk::new(trees, part, chunks, root, from)?;
    while let Some(leaf) = walk.leaf(trees, part, chunks)? {
        if let Some((key, item)) = leaf.into_iter().next() {
            let is_it = key.object == EXTENT_TREE && key.kind == ROOT_ITEM;
            let place = u64_le(&item, 176).zip(item.get(238).copied());
            return have(place.filter(|_| is_it));
        }
    }
    Err(Doubt::Odd("it has no tree of extents"))
}

/// A free range, without what copies of the superblock need.
fn push(found: &mut Vec<Range<u64>>, range: Range<u64>) {
    let mut start = range.start;
    for copy in COPIES {
        if start < copy + COPY_BYTES && range.end > copy {
            if start < copy {
                found.push(start..copy);
            }
            start = start.max(copy + COPY_BYTES);
        }
    }
    if start < range.end {
        found.push(start..range.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_the_superblock_are_never_free() {
        let pushed = |range| {
            let mut found = Vec::new();
            push(&mut found, range);
            found
        };
        let copy = 64 << 20;
        let only = std::slice::from_ref;
        assert_eq!(pushed(0..copy), only(&(0..copy)));
        assert_eq!(pushed(5..5), []);
        assert_eq!(pushed(copy..copy + 4096), []);
        assert_eq!(pushed(copy + 4096..copy + 70000), only(&(copy + 65536..copy + 70000)));
        assert_eq!(
            pushed(0..1 << 40),
            [0..copy, copy + 65536..256 << 30, (256 << 30) + 65536..1 << 40]
        );
    }
}
