//! Where btrfs's logical addresses are on its one device.

use super::{
    super::map::{Doubt, Part, have},
    tree::{Key, Trees, Walk},
};
use crate::fields::{array, u16_le, u64_le};

const CHUNK_ITEM: u8 = 228;
const CHUNK_TREE_OBJECT: u64 = 256;
const CHUNK_HEADER_BYTES: usize = 48;
const STRIPE_BYTES: usize = 32;
/// In a chunk's type: it is there twice, on the same device.
const TWICE: u64 = 0x20;
/// The profiles that need several devices.
const PROFILES: u64 = 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400;
/// Chunks have a GiB or so each: some 64 TiB.
const MOST_CHUNKS: usize = 1 << 16;

/// The chunks, or the copies of them.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// In the order of their places on the device.
    pub(super) stripes: Vec<Stripe>,
}

/// A chunk, as it is on the device once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stripe {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) bytes: u64,
    /// Whether it is the second one of the same chunk.
    pub(super) is_copy: bool,
}

impl Chunks {
    /// The chunks that the tree of chunks is in, which the superblock has.
    pub(super) fn of_superblock(mut list: &[u8], device: u64) -> Result<Self, Doubt> {
        let mut chunks = Self::default();
        while !list.is_empty() {
            let key = have(Key::read(list, 0))?;
            let item = list.get(Key::BYTES..).unwrap_or_default();
            let bytes = have(chunks.add(key, item, device))?;
            list = item.get(bytes..).unwrap_or_default();
        }
        Ok(chunks)
    }

    /// All chunks.
    pub(super) fn of_tree(
        trees: &Trees,
        part: &Part<'_>,
        first: &Self,
        root: (u64, u8),
        device: u64,
    ) -> Result<Self, Doubt> {
        let from = Key { object: CHUNK_TREE_OBJECT, kind: CHUNK_ITEM, offset: 0 };
        let mut walk = Walk::new(trees, part, first, root, from)?;
        let mut chunks = Self::default();
        while let Some(leaf) = walk.leaf(trees, part, first)? {
            for (key, item) in leaf {
                if key.object == CHUNK_TREE_OBJECT && key.kind == CHUNK_ITEM {
                    have(chunks.add(key, &item, device))?;
                }
            }
        }
        chunks.stripes.sort_by_key(|stripe| stripe.physical);
        Ok(chunks)
    }

    /// Adds a chunk; its size in bytes. `None` where it is one that a single device does not have.
    fn add(&mut self, key: Key, item: &[u8], device: u64) -> Option<usize> {
        let (bytes, kind) = (u64_le(item, 0)?, u64_le(item, 24)?);
        let count = usize::from(u16_le(item, 44)?);
        let wanted = match kind & PROFILES {
            0 => 1,
            TWICE => 2,
            _ => return None,
        };
        if count != wanted || self.stripes.len() >= MOST_CHUNKS {
            return None;
        }
        key.offset.checked_add(bytes)?;
        for number in 0..count {
            let stripe = array::<STRIPE_BYTES>(item, CHUNK_HEADER_BYTES + number * STRIPE_BYTES)?;
            if u64_le(&stripe, 0)? != device {
                return None;
            }
            let (logical, physical) = (key.offset, u64_le(&stripe, 8)?);
            self.stripes.push(Stripe { logical, physical, bytes, is_copy: number > 0 });
        }
        Some(CHUNK_HEADER_BYTES + count * STRIPE_BYTES)
    }

    /// Where so many bytes of a logical address are on the device.
    pub(super) fn place(&self, logical: u64, bytes: u64) -> Result<u64, Doubt> {
        let place = self.stripes.iter().find_map(|stripe| {
            let within = logical.checked_sub(stripe.logical)?;
            let fits = within.checked_add(bytes)? <= stripe.bytes;
            fits.then(|| stripe.physical.checked_add(within)).flatten()
        });
        have(place)
    }
}
