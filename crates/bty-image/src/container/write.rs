//! The end of a container: index and seek table.

use super::{
    index::Index,
    layout::{Entry, INDEX_FRAME_MAGIC, SKIPPABLE_HEADER_BYTES, seek_table, skippable_header},
};

/// What follows the last frame, and the index that it holds.
#[derive(Debug)]
pub(crate) struct Finish {
    /// The index frame and the seek table frame.
    pub(crate) bytes: Vec<u8>,
    /// The index.
    pub(crate) index: Index,
}

impl Finish {
    /// For a disk of `raw_bytes` whose chunks have these entries. `None` where there are more chunks than a container holds.
    pub(crate) fn new(raw_bytes: u64, chunk_bytes: u32, entries: Vec<Entry>) -> Option<Self> {
        let (index, content) = Index::build(raw_bytes, chunk_bytes, entries)?;
        let index_bytes = SKIPPABLE_HEADER_BYTES + u64::try_from(content.len()).ok()?;
        let mut bytes = skippable_header(INDEX_FRAME_MAGIC, index_bytes)?.to_vec();
        bytes.extend(content);
        let index_frame = u32::try_from(index_bytes).ok()?;
        let mut frames: Vec<(u32, u32)> =
            index.chunks().map(|chunk| (chunk.frame_bytes, chunk.raw_bytes)).collect();
        frames.push((index_frame, 0));
        bytes.extend(seek_table(frames.into_iter())?);
        Some(Self { bytes, index })
    }
}
