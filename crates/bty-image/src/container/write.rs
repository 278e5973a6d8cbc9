//! The end of a container: index and seek table.

use std::io::{self, Write};

use super::{
    entries::Entries,
    index::Index,
    layout::{INDEX_FRAME_MAGIC, SKIPPABLE_HEADER_BYTES, seek_table, skippable_header},
};

/// What follows the last frame.
#[derive(Debug)]
pub(crate) struct Finish {
    /// The index.
    pub(crate) index: Index,
    frame_header: [u8; 8],
    seek_table: Vec<u8>,
}

impl Finish {
    /// For a disk of `raw_bytes` whose chunks have these entries. `None` where there are more chunks than a container holds.
    pub(crate) fn new(raw_bytes: u64, chunk_bytes: u32, entries: Entries) -> Option<Self> {
        let index = Index::build(raw_bytes, chunk_bytes, entries)?;
        let frame_bytes = SKIPPABLE_HEADER_BYTES + u64::try_from(index.content().len()).ok()?;
        let frame_header = skippable_header(INDEX_FRAME_MAGIC, frame_bytes)?;
        let chunks = index.chunks().map(|chunk| (chunk.frame_bytes, chunk.raw_bytes));
        let frames = chunks.chain([(u32::try_from(frame_bytes).ok()?, 0)]);
        let seek_table = seek_table(index.len() + 1, frames)?;
        Some(Self { index, frame_header, seek_table })
    }

    /// Writes it, which makes the container whole.
    pub(crate) fn write(&self, destination: &mut impl Write) -> io::Result<()> {
        destination.write_all(&self.frame_header)?;
        destination.write_all(self.index.content())?;
        destination.write_all(&self.seek_table)?;
        destination.flush()
    }

    /// Size of the whole container in bytes.
    pub(crate) fn container_bytes(&self) -> u64 {
        let end = [self.frame_header.len(), self.index.content().len(), self.seek_table.len()];
        self.index.frames_end() + end.iter().map(|&bytes| bytes as u64).sum::<u64>()
    }
}
