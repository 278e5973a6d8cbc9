//! Values of subtrees of zeros, known beforehand: what an index calls holes is verified without hashing them, which for a large image
//! with little in it would take longer than the flash.
//!
//! A chunk's value depends on where on the disk it is, so there is one for each place. `zeros.bin` holds them for each 64 MiB of the
//! first 64 GiB, then for each GiB of the first TiB. What is beyond, or doesn't fill such a part, is hashed.
//! `cargo run --release -p bty-image --example zeros -- crates/bty-image/src/container/zeros.bin` makes it.

use std::ops::Range;

use super::{
    index::Index,
    tree::{ChainingValue, chunk_value},
};

const SMALL_BYTES: u64 = 64 << 20;
const LARGE_BYTES: u64 = 1 << 30;
/// How many values of each there are.
const COUNT: usize = 1024;

/// The parts of a disk whose values are known: their size in bytes, and how many from the disk's beginning.
pub const ZERO_PARTS: [(u64, usize); 2] = [(SMALL_BYTES, COUNT), (LARGE_BYTES, COUNT)];

static VALUES: &[u8; 2 * COUNT * 32] = include_bytes!("zeros.bin");

/// The value of this many zeros at this offset, where it is known.
fn known(bytes: u64, offset: u64) -> Option<ChainingValue> {
    let (small, large) = VALUES.as_chunks::<32>().0.split_at(COUNT);
    let values = if bytes == SMALL_BYTES { small } else { large };
    values.get(usize::try_from(offset / bytes).ok()?).copied()
}

/// A chunk that an index calls a hole, and whose value is not that of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "chunk {number} (disk offset {raw_offset}) is marked as a hole and isn't one: the image is damaged"
)]
pub struct NotAHole {
    /// The chunk.
    pub number: u64,
    /// Where it is on the disk.
    pub raw_offset: u64,
}

impl Index {
    /// How many blocks there are for [`verify_holes`](Self::verify_holes).
    pub fn hole_blocks(&self) -> u64 {
        self.raw_bytes().div_ceil(LARGE_BYTES)
    }

    /// Verifies that what the index calls holes in this block of the disk are zeros in the image: the id vouches for the values of
    /// chunks, not for the flags.
    pub fn verify_holes(&self, block: u64) -> Result<(), NotAHole> {
        let offset = block * LARGE_BYTES;
        if self.is_known_hole(offset, LARGE_BYTES) {
            return Ok(());
        }
        let zeros = vec![0; usize::try_from(self.chunk_bytes()).unwrap_or_default()];
        for offset in
            (offset..offset + LARGE_BYTES).step_by(usize::try_from(SMALL_BYTES).unwrap_or(1))
        {
            if !self.is_known_hole(offset, SMALL_BYTES) {
                self.hash_holes(self.part(offset, SMALL_BYTES), &zeros)?;
            }
        }
        Ok(())
    }

    /// The numbers of the chunks in a part of the disk.
    fn part(&self, offset: u64, bytes: u64) -> Range<u64> {
        let chunk_bytes = u64::from(self.chunk_bytes());
        (offset / chunk_bytes).min(self.len())..((offset + bytes) / chunk_bytes).min(self.len())
    }

    /// Whether this part is whole, all of it is said to be holes, and it has the known value of zeros.
    fn is_known_hole(&self, offset: u64, bytes: u64) -> bool {
        let part = self.part(offset, bytes);
        offset + bytes <= self.raw_bytes()
            && part.clone().all(|number| self.chunk(number).is_some_and(|chunk| chunk.is_hole))
            && known(bytes, offset).is_some_and(|value| self.value_over(part) == Some(value))
    }

    fn hash_holes(&self, part: Range<u64>, zeros: &[u8]) -> Result<(), NotAHole> {
        for chunk in part.filter_map(|number| self.chunk(number)).filter(|chunk| chunk.is_hole) {
            let size = usize::try_from(chunk.raw_bytes).unwrap_or_default();
            let zeros = zeros.get(..size).unwrap_or_default();
            if chunk_value(zeros, chunk.raw_offset, chunk.is_whole_disk) != chunk.value {
                return Err(NotAHole { number: chunk.number, raw_offset: chunk.raw_offset });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_values_are_those_of_zeros() {
        let zeros = vec![0; 64 << 20];
        let hasher = |bytes: u64, offset: u64| {
            let mut hasher = blake3::Hasher::new();
            blake3::hazmat::HasherExt::set_input_offset(&mut hasher, offset);
            (0..bytes / SMALL_BYTES).for_each(|_| {
                hasher.update(&zeros);
            });
            blake3::hazmat::HasherExt::finalize_non_root(&hasher)
        };
        for number in [0, 1, 2, 510, 1023] {
            let offset = number * SMALL_BYTES;
            assert_eq!(known(SMALL_BYTES, offset), Some(hasher(SMALL_BYTES, offset)), "{number}");
        }
        for number in [0, 1023] {
            let offset = number * LARGE_BYTES;
            assert_eq!(known(LARGE_BYTES, offset), Some(hasher(LARGE_BYTES, offset)), "{number}");
        }
        assert_eq!(known(SMALL_BYTES, 1024 * SMALL_BYTES), None);
        // Large ones merge from small ones, as far as there are such.
        for large in 0..64 {
            let small: Vec<ChainingValue> = (0..16)
                .filter_map(|part| known(SMALL_BYTES, large * LARGE_BYTES + part * SMALL_BYTES))
                .collect();
            let merged = super::super::tree::subtree(&small, &|value: &ChainingValue| *value);
            assert_eq!(known(LARGE_BYTES, large * LARGE_BYTES), Some(merged), "{large}");
        }
    }
}
