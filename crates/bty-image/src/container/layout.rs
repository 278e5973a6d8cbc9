//! Where things are in a container: sizes, magics, and the seek table.

use std::ops::Range;

use super::index::IndexError;

/// The chunk size of new containers but large ones. Small chunks move less where little differs; large ones compress better and cost
/// less each: docs/format/chunk-size.md measures that. A container states its own, so this can change.
pub const CHUNK_BYTES: u32 = 256 * 1024;
/// From this size on a disk has chunks of [`MAX_CHUNK_BYTES`]: who flashes it holds 40 bytes for each.
const LARGE_DISK_BYTES: u64 = 64 << 30;
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
pub(super) const SEEK_ENTRY_BYTES: usize = 8;
pub(crate) const FOOTER_BYTES: usize = 9;

/// How many frames a file of zstd's seekable format has, from its last bytes; `None` where it is none, or one with checksums in
/// its seek table, which containers do not have.
pub(crate) fn seekable_frames(tail: &[u8]) -> Option<u32> {
    let footer: &[u8; FOOTER_BYTES] = tail.last_chunk()?;
    let [c0, c1, c2, c3, descriptor, m0, m1, m2, m3] = *footer;
    let ours = u32::from_le_bytes([m0, m1, m2, m3]) == SEEK_TABLE_MAGIC && descriptor == 0;
    ours.then(|| u32::from_le_bytes([c0, c1, c2, c3]))
}

/// The chunk size for a new container of a disk that has at least so many bytes, where that is known.
pub fn chunk_bytes_for(raw_bytes: Option<u64>) -> u32 {
    if raw_bytes.is_some_and(|bytes| bytes >= LARGE_DISK_BYTES) {
        MAX_CHUNK_BYTES
    } else {
        CHUNK_BYTES
    }
}

/// Where the index frame's content is in a container of this length, from the last bytes of it (at least 17; [`TAIL_BYTES`] is usual).
/// The range is inside the container and less than 4 GiB long, whatever the bytes are.
pub fn locate(tail: &[u8], container_bytes: u64) -> Result<Range<u64>, IndexError> {
    find(tail, container_bytes).ok_or(IndexError::NotAContainer)
}

fn find(tail: &[u8], container_bytes: u64) -> Option<Range<u64>> {
    let frames = seekable_frames(tail)?;
    let (entries, _) = tail.split_last_chunk::<FOOTER_BYTES>()?;
    let (index_frame_bytes, index_raw_bytes) = seek_entry(*entries.last_chunk()?);
    let end = container_bytes.checked_sub(seek_table_bytes(frames.into()))?;
    let start = end.checked_sub(index_frame_bytes.into())?.checked_add(SKIPPABLE_HEADER_BYTES)?;
    let chunks = end.checked_sub(start)?.checked_sub(INDEX_HEADER_BYTES)? / ENTRY_BYTES;
    let fits = chunks > 0 && chunks < frames.into() && index_bytes(chunks) == end - start;
    (fits && index_raw_bytes == 0).then_some(start..end)
}

/// Compressed and decompressed size of a frame.
pub(super) fn seek_entry(bytes: [u8; SEEK_ENTRY_BYTES]) -> (u32, u32) {
    let [c0, c1, c2, c3, d0, d1, d2, d3] = bytes;
    (u32::from_le_bytes([c0, c1, c2, c3]), u32::from_le_bytes([d0, d1, d2, d3]))
}

/// The largest frame that a chunk of this size may have: zstd's own bound is a 256th more than the chunk and a few bytes.
pub(crate) fn max_frame_bytes(chunk_bytes: u32) -> u32 {
    chunk_bytes + chunk_bytes / 128 + 1024
}

/// Size of the index of so many chunks, at most 2^32.
pub(super) fn index_bytes(chunks: u64) -> u64 {
    INDEX_HEADER_BYTES + ENTRY_BYTES * chunks
}

pub(super) fn seek_table_bytes(frames: u64) -> u64 {
    SKIPPABLE_HEADER_BYTES
        + u64::try_from(SEEK_ENTRY_BYTES).unwrap_or_default() * frames
        + u64::try_from(FOOTER_BYTES).unwrap_or_default()
}

/// Magic and content size of a skippable frame that is so long with them.
pub(super) fn skippable_header(magic: u32, frame_bytes: u64) -> Option<[u8; 8]> {
    let content = u32::try_from(frame_bytes.checked_sub(SKIPPABLE_HEADER_BYTES)?).ok()?;
    Some((u64::from(magic) | u64::from(content) << 32).to_le_bytes())
}

/// The seek table frame for so many frames of these compressed and decompressed sizes.
pub(super) fn seek_table(count: u64, frames: impl Iterator<Item = (u32, u32)>) -> Option<Vec<u8>> {
    let count = u32::try_from(count).ok()?;
    let header = seek_table_header(count)?;
    let mut table = Vec::with_capacity(usize::try_from(seek_table_bytes(count.into())).ok()?);
    table.extend(header);
    for (compressed, decompressed) in frames {
        table.extend(compressed.to_le_bytes());
        table.extend(decompressed.to_le_bytes());
    }
    table.extend(count.to_le_bytes());
    table.push(0);
    table.extend(SEEK_TABLE_MAGIC.to_le_bytes());
    Some(table)
}

pub(super) fn seek_table_header(frames: u32) -> Option<[u8; 8]> {
    skippable_header(SEEK_TABLE_FRAME_MAGIC, seek_table_bytes(frames.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_disk_has_large_chunks() {
        assert_eq!(chunk_bytes_for(None), 256 << 10);
        assert_eq!(chunk_bytes_for(Some((64 << 30) - 512)), 256 << 10);
        assert_eq!(chunk_bytes_for(Some(64 << 30)), 1 << 20);
    }
}
