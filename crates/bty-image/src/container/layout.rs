//! Where things are in a container: sizes, magics, and the seek table.

use std::ops::Range;

use super::{index::IndexError, tree::ChainingValue};

/// The chunk size of new containers. Small chunks move less where little differs; large ones compress better and cost less
/// each. docs/chunk-size.md has the measurements.
pub const CHUNK_BYTES: u32 = 256 * 1024;
/// The smallest chunk size.
pub const MIN_CHUNK_BYTES: u32 = 1 << MIN_CHUNK_LOG2;
/// The largest chunk size.
pub const MAX_CHUNK_BYTES: u32 = 1 << MAX_CHUNK_LOG2;
/// How much of a container's end a reader fetches first: the seek table and the index of most images' worth of a small disk, and
/// always the footer that says where they are.
pub const TAIL_BYTES: u64 = 64 * 1024;

pub(super) const MIN_CHUNK_LOG2: u8 = 16;
pub(super) const MAX_CHUNK_LOG2: u8 = 20;
/// Magic of the index frame, one of the sixteen that RFC 8878 section 3.1.2 leaves to users.
pub(super) const INDEX_FRAME_MAGIC: u32 = 0x184D_2A5B;
/// First bytes of the index.
pub(super) const INDEX_MAGIC: &[u8; 8] = b"BTYINDEX";
pub(super) const INDEX_VERSION: u16 = 1;
pub(super) const INDEX_HEADER_BYTES: u64 = 32;
pub(super) const ENTRY_BYTES: u64 = 40;
pub(super) const HOLE: u32 = 1;
/// Magic and size before a skippable frame's content.
pub(super) const SKIPPABLE_HEADER_BYTES: u64 = 8;

const SEEK_TABLE_FRAME_MAGIC: u32 = 0x184D_2A5E;
const SEEK_TABLE_MAGIC: u32 = 0x8F92_EAB1;
const SEEK_ENTRY_BYTES: u64 = 8;
const FOOTER_BYTES: usize = 9;

/// What the index says of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// BLAKE3 chaining value.
    pub(crate) value: ChainingValue,
    /// Size of its frame in bytes.
    pub(crate) frame_bytes: u32,
    /// Whether it is all zeros.
    pub(crate) is_hole: bool,
}

/// Where the index frame's content is in a container of this length, from the last bytes of it (at least 9; [`TAIL_BYTES`] is usual).
pub fn locate(tail: &[u8], container_bytes: u64) -> Result<Range<u64>, IndexError> {
    let footer: &[u8; FOOTER_BYTES] = tail.last_chunk().ok_or(IndexError::NotAContainer)?;
    let [c0, c1, c2, c3, descriptor, m0, m1, m2, m3] = *footer;
    if u32::from_le_bytes([m0, m1, m2, m3]) != SEEK_TABLE_MAGIC || descriptor != 0 {
        return Err(IndexError::NotAContainer);
    }
    let frames = u64::from(u32::from_le_bytes([c0, c1, c2, c3]));
    let chunks =
        frames.checked_sub(1).filter(|&chunks| chunks > 0).ok_or(IndexError::NotAContainer)?;
    let end =
        container_bytes.checked_sub(seek_table_bytes(frames)).ok_or(IndexError::NotAContainer)?;
    let start = end.checked_sub(index_bytes(chunks)).ok_or(IndexError::NotAContainer)?;
    Ok(start..end)
}

/// Size of the index of so many chunks. A seek table holds at most 2^32 frames, so this can't overflow.
pub(super) fn index_bytes(chunks: u64) -> u64 {
    INDEX_HEADER_BYTES + ENTRY_BYTES * chunks
}

fn seek_table_bytes(frames: u64) -> u64 {
    SKIPPABLE_HEADER_BYTES
        + SEEK_ENTRY_BYTES * frames
        + u64::try_from(FOOTER_BYTES).unwrap_or_default()
}

/// The seek table frame for frames of these compressed and decompressed sizes.
pub(super) fn seek_table(frames: impl ExactSizeIterator<Item = (u32, u32)>) -> Option<Vec<u8>> {
    let count = u32::try_from(frames.len()).ok()?;
    let content = u32::try_from(seek_table_bytes(count.into()) - SKIPPABLE_HEADER_BYTES).ok()?;
    let mut table = Vec::new();
    table.extend(SEEK_TABLE_FRAME_MAGIC.to_le_bytes());
    table.extend(content.to_le_bytes());
    for (compressed, decompressed) in frames {
        table.extend(compressed.to_le_bytes());
        table.extend(decompressed.to_le_bytes());
    }
    table.extend(count.to_le_bytes());
    table.push(0);
    table.extend(SEEK_TABLE_MAGIC.to_le_bytes());
    Some(table)
}
