//! What the index says of each chunk, kept as the bytes that the container has: 40 for each chunk, and no second copy. A terabyte in
//! chunks of a MiB takes 40 MiB.

use super::{
    index::IndexError,
    layout::{ENTRY_BYTES, HOLE, INDEX_HEADER_BYTES},
    tree::ChainingValue,
};

const HEADER: usize = 32;
const SIZE: usize = 40;
const _: () = assert!(INDEX_HEADER_BYTES == HEADER as u64 && ENTRY_BYTES == SIZE as u64);

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

/// An index's content: its header, all zeros until it is finished, and the entries.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entries {
    content: Vec<u8>,
}

impl Entries {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { content: vec![0; HEADER] }
    }

    /// The next chunk's.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.content.extend(entry.value);
        self.content.extend(entry.frame_bytes.to_le_bytes());
        self.content.extend((if entry.is_hole { HOLE } else { 0 }).to_le_bytes());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        u64::try_from(self.encoded().len()).unwrap_or(u64::MAX)
    }

    pub(super) fn with_header(mut self, header: [u8; HEADER]) -> Self {
        if let Some(room) = self.content.first_chunk_mut() {
            *room = header;
        }
        self
    }

    /// Those of a content that was read, whose frames are at most so long.
    pub(super) fn parse(content: Vec<u8>, max_frame_bytes: u32) -> Result<Self, IndexError> {
        let entries = Self { content };
        for entry in entries.encoded() {
            check(fields(entry), max_frame_bytes)?;
        }
        Ok(entries)
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    /// Every entry as it is in the content.
    pub(super) fn encoded(&self) -> &[[u8; SIZE]] {
        self.content.get(HEADER..).unwrap_or_default().as_chunks().0
    }

    pub(super) fn get(&self, number: usize) -> Option<Entry> {
        let (value, frame_bytes, flags) = fields(self.encoded().get(number)?);
        Some(Entry { value, frame_bytes, is_hole: flags == HOLE })
    }
}

/// The chaining value of an entry.
pub(super) fn value(entry: &[u8; SIZE]) -> ChainingValue {
    fields(entry).0
}

/// The size of an entry's frame in bytes.
pub(super) fn frame_bytes(entry: &[u8; SIZE]) -> u64 {
    fields(entry).1.into()
}

/// Chaining value, size of the frame, flags.
fn fields(entry: &[u8; SIZE]) -> (ChainingValue, u32, u32) {
    let mut value = [0; 32];
    let (start, rest) = entry.split_at(value.len());
    value.copy_from_slice(start);
    let &[s0, s1, s2, s3, f0, f1, f2, f3] = rest else { return (value, 0, 0) };
    (value, u32::from_le_bytes([s0, s1, s2, s3]), u32::from_le_bytes([f0, f1, f2, f3]))
}

fn check(
    (_, frame_bytes, flags): (ChainingValue, u32, u32),
    max_frame_bytes: u32,
) -> Result<(), IndexError> {
    if frame_bytes == 0 || frame_bytes > max_frame_bytes {
        return Err(IndexError::Damaged("a frame is smaller or larger than any"));
    }
    if ![0, HOLE].contains(&flags) {
        return Err(IndexError::Damaged("an entry has flags that nobody set"));
    }
    Ok(())
}
