//! What differs between two images, as their indexes tell: without a look at any data.

use super::{
    index::{Chunk, Index},
    tree::ChainingValue,
};

/// A chunk of the image that a disk is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkDiff {
    /// The chunk.
    pub chunk: Chunk,
    /// Whether the disk that holds the other image has it already.
    pub is_same: bool,
}

/// Every chunk of `to`, and whether a disk that holds `from` has it already: the same bytes at the same place.
///
/// Where `to` has smaller chunks than `from`, all that lie in one chunk of `from` count as different when one is. What is behind the end
/// of `from` nobody knows, so it is different too.
pub fn diff<'a>(from: &'a Index, to: &'a Index) -> impl Iterator<Item = ChunkDiff> + 'a {
    let is_whole = from.id() == to.id();
    let block_bytes = u64::from(from.chunk_bytes().max(to.chunk_bytes()));
    let mut last: Option<(u64, bool)> = None;
    to.chunks().map(move |chunk| {
        let block = chunk.raw_offset / block_bytes;
        let is_same = match last {
            _ if is_whole => true,
            Some((known, is_same)) if known == block => is_same,
            _ => {
                let value = value_of(to, block, block_bytes);
                value.is_some() && value == value_of(from, block, block_bytes)
            }
        };
        last = Some((block, is_same));
        ChunkDiff { chunk, is_same }
    })
}

/// The size and the chaining value of a block of an image; `None` where it has none: past its end, or a disk of one chunk, whose
/// value is another sort of hash.
fn value_of(index: &Index, block: u64, block_bytes: u64) -> Option<(u64, ChainingValue)> {
    let start = block.checked_mul(block_bytes)?;
    let bytes = index.raw_bytes().checked_sub(start).filter(|&bytes| bytes > 0)?.min(block_bytes);
    (index.len() > 1).then_some(())?;
    let chunk_bytes = u64::from(index.chunk_bytes());
    let chunks = start / chunk_bytes..(start + bytes).div_ceil(chunk_bytes);
    Some((bytes, index.value_over(chunks)?))
}
