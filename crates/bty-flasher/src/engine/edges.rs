//! The places that make a disk bootable: its beginning, and its end, where a backup partition table is.

use bty_image::container::{Chunk, Index};

/// How much at the disk's beginning and end is blanked while it is not the image: boot code, and a GPT or its backup, which with
/// 4096-byte sectors and 128 partitions takes six of them (UEFI 2.10, section 5.3).
const EDGE_BYTES: u64 = 128 << 10;

/// The edges of a disk of this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edges {
    disk_bytes: u64,
    bytes: u64,
}

impl Edges {
    pub(super) fn of(disk_bytes: u64) -> Self {
        Self { disk_bytes, bytes: EDGE_BYTES.min(disk_bytes) }
    }

    /// None, where nothing is to be held back.
    pub(super) const fn none() -> Self {
        Self { disk_bytes: u64::MAX, bytes: 0 }
    }

    /// Size of each.
    pub(super) const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Where the last one begins.
    pub(super) const fn end(self) -> u64 {
        self.disk_bytes - self.bytes
    }

    /// The data of this image that is in them.
    pub(super) fn chunks(self, index: &Index) -> Vec<Chunk> {
        let chunk_bytes = u64::from(index.chunk_bytes());
        let beginning = self.bytes().div_ceil(chunk_bytes).min(index.len());
        let end = (self.end() / chunk_bytes).max(beginning);
        let chunks = (0..beginning).chain(end..index.len());
        let is_held =
            |chunk: &Chunk| !chunk.is_hole && self.touch(chunk.raw_offset, chunk.raw_bytes.into());
        chunks.filter_map(|number| index.chunk(number)).filter(is_held).collect()
    }

    /// Whether these bytes are in one of them, or partly.
    pub(super) fn touch(self, offset: u64, bytes: u64) -> bool {
        offset < self.bytes() || offset + bytes > self.end()
    }
}
