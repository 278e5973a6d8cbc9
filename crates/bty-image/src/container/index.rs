//! The chunk index: what is where in a container, and what each chunk must be.

use std::io;

use bty_types::{ErrorKind, ImageId};

use super::{
    layout::{
        ENTRY_BYTES, Entry, HOLE, INDEX_HEADER_BYTES, INDEX_MAGIC, INDEX_VERSION, MAX_CHUNK_LOG2,
        MIN_CHUNK_LOG2, SKIPPABLE_HEADER_BYTES, TAIL_BYTES, index_bytes, locate,
    },
    tree::{self, ChainingValue},
};
use crate::ReadAt;

/// The index of a container. Reading one checks everything that it says against itself and the container's length; what remains is
/// to compare its [`id`](Self::id) or [`digest`](Self::digest) with the one that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    raw_bytes: u64,
    chunk_log2: u8,
    entries: Vec<Entry>,
    /// Where each frame begins; one more, where the last one ends.
    offsets: Vec<u64>,
    id: ImageId,
    digest: ImageId,
}

/// One chunk of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its number, from 0.
    pub number: u64,
    /// Where it is on the disk, in bytes.
    pub raw_offset: u64,
    /// Its size on the disk, in bytes.
    pub raw_bytes: u32,
    /// Where its frame is in the container, in bytes.
    pub frame_offset: u64,
    /// Size of its frame, in bytes.
    pub frame_bytes: u32,
    /// Whether it is all zeros.
    pub is_hole: bool,
    /// Its BLAKE3 chaining value (the disk's hash, where it is the only chunk).
    pub value: [u8; 32],
    /// Whether it is the only chunk.
    pub is_whole_disk: bool,
}

/// A container whose index can't be read or can't be right.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It has no seek table of ours at its end.
    #[error("this is no bty container: its end has no chunk index; import the image first")]
    NotAContainer,
    /// A newer bty made it.
    #[error("the chunk index has version {0}, and this bty reads version 1; use a newer bty")]
    Version(u16),
    /// It contradicts itself or the length of the file.
    #[error("the chunk index is damaged: {0}")]
    Damaged(&'static str),
    /// Reading failed.
    #[error("reading the chunk index")]
    Read(#[from] io::Error),
}

impl IndexError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAContainer | Self::Version(_) => ErrorKind::InvalidInput,
            Self::Damaged(_) => ErrorKind::Corrupt,
            Self::Read(_) => ErrorKind::Unavailable,
        }
    }
}

impl Index {
    /// Reads the index of a whole container, with two reads at most.
    pub fn read(container: &(impl ReadAt + ?Sized)) -> Result<Self, IndexError> {
        let length = container.length()?;
        let tail_bytes = length.min(TAIL_BYTES);
        let tail_start = length - tail_bytes;
        let mut tail = vec![0; usize::try_from(tail_bytes).unwrap_or_default()];
        container.read_exact_at(&mut tail, tail_start)?;
        let place = locate(&tail, length)?;
        let size = usize::try_from(place.end - place.start)
            .map_err(|_| IndexError::Damaged("it is too large"))?;
        let mut content = vec![0; size];
        container.read_exact_at(&mut content, place.start)?;
        Self::parse(&content, place.start)
    }

    /// Parses the content of an index frame that begins at `place` of the container ([`super::locate`]).
    pub fn parse(content: &[u8], place: u64) -> Result<Self, IndexError> {
        let (header, entries) =
            content.split_first_chunk::<32>().ok_or(IndexError::NotAContainer)?;
        let (chunk_log2, raw_bytes, chunks) = parse_header(header)?;
        if u64::try_from(content.len()).ok() != Some(index_bytes(chunks)) {
            return Err(IndexError::Damaged("its size does not fit its number of chunks"));
        }
        if raw_bytes.div_ceil(1 << chunk_log2) != chunks {
            return Err(IndexError::Damaged(
                "its number of chunks does not fit the size of the disk",
            ));
        }
        let entries: Vec<Entry> = entries
            .chunks_exact(usize::try_from(ENTRY_BYTES).unwrap_or(usize::MAX))
            .map(parse_entry)
            .collect::<Option<_>>()
            .ok_or(IndexError::Damaged("an entry has flags that nobody set"))?;
        let digest = blake3::hash(content).into();
        let index = Self::new(raw_bytes, chunk_log2, entries, digest);
        if index.frames_end().checked_add(SKIPPABLE_HEADER_BYTES) != Some(place) {
            return Err(IndexError::Damaged(
                "the sizes of the frames do not add up to where it is",
            ));
        }
        Ok(index)
    }

    fn new(raw_bytes: u64, chunk_log2: u8, entries: Vec<Entry>, digest: ImageId) -> Self {
        let mut offsets = Vec::with_capacity(entries.len() + 1);
        let mut offset = 0_u64;
        offsets.push(offset);
        for entry in &entries {
            // 2^32 frames of 2^32 bytes: no overflow.
            offset += u64::from(entry.frame_bytes);
            offsets.push(offset);
        }
        let values: Vec<ChainingValue> = entries.iter().map(|entry| entry.value).collect();
        let id = tree::merge(&values);
        Self { raw_bytes, chunk_log2, entries, offsets, id, digest }
    }

    /// An index and its content, from the entries of a finished container.
    pub(super) fn build(
        raw_bytes: u64,
        chunk_bytes: u32,
        entries: Vec<Entry>,
    ) -> Option<(Self, Vec<u8>)> {
        let chunk_log2 = u8::try_from(chunk_bytes.ilog2()).ok()?;
        let chunks = u64::try_from(entries.len()).ok()?;
        let mut content = Vec::new();
        content.extend(INDEX_MAGIC);
        content.extend(INDEX_VERSION.to_le_bytes());
        content.push(chunk_log2);
        content.extend([0; 5]);
        content.extend(raw_bytes.to_le_bytes());
        content.extend(chunks.to_le_bytes());
        for entry in &entries {
            content.extend(entry.value);
            content.extend(entry.frame_bytes.to_le_bytes());
            content.extend((if entry.is_hole { HOLE } else { 0 }).to_le_bytes());
        }
        let digest = blake3::hash(&content).into();
        Some((Self::new(raw_bytes, chunk_log2, entries, digest), content))
    }

    /// The image's id: the BLAKE3 of the raw disk.
    pub fn id(&self) -> ImageId {
        self.id
    }

    /// The BLAKE3 of the index itself.
    pub fn digest(&self) -> ImageId {
        self.digest
    }

    /// Size of the raw disk in bytes.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Size of every chunk but the last, in bytes.
    pub fn chunk_bytes(&self) -> u32 {
        1 << self.chunk_log2
    }

    /// Bytes of the raw disk in chunks that are not holes.
    pub fn mapped_bytes(&self) -> u64 {
        self.chunks().filter(|chunk| !chunk.is_hole).map(|chunk| u64::from(chunk.raw_bytes)).sum()
    }

    /// How many chunks there are; at least one.
    pub fn len(&self) -> u64 {
        u64::try_from(self.entries.len()).unwrap_or(u64::MAX)
    }

    /// Never: an image has at least one chunk.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where the last frame ends in the container.
    fn frames_end(&self) -> u64 {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// The chunk with this number.
    pub fn chunk(&self, number: u64) -> Option<Chunk> {
        let at = usize::try_from(number).ok()?;
        let entry = self.entries.get(at)?;
        let raw_offset = number << self.chunk_log2;
        let raw_bytes = (self.raw_bytes - raw_offset).min(u64::from(self.chunk_bytes()));
        Some(Chunk {
            number,
            raw_offset,
            raw_bytes: u32::try_from(raw_bytes).unwrap_or_else(|_| self.chunk_bytes()),
            frame_offset: *self.offsets.get(at)?,
            frame_bytes: entry.frame_bytes,
            is_hole: entry.is_hole,
            value: entry.value,
            is_whole_disk: self.entries.len() == 1,
        })
    }

    /// All chunks, in order.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks { index: self, next: 0 }
    }
}

/// The chunks of an index, in order.
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    index: &'a Index,
    next: u64,
}

impl Iterator for Chunks<'_> {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let chunk = self.index.chunk(self.next)?;
        self.next += 1;
        Some(chunk)
    }
}

/// Chunk size as a power of two, raw size, number of chunks.
fn parse_header(header: &[u8; 32]) -> Result<(u8, u64, u64), IndexError> {
    debug_assert_eq!(INDEX_HEADER_BYTES, 32);
    let (magic, rest) = header.split_first_chunk::<8>().ok_or(IndexError::NotAContainer)?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or(IndexError::NotAContainer)?;
    let (&[chunk_log2], rest) = rest.split_first_chunk::<1>().ok_or(IndexError::NotAContainer)?;
    let (zeros, rest) = rest.split_first_chunk::<5>().ok_or(IndexError::NotAContainer)?;
    let (raw_bytes, rest) = rest.split_first_chunk::<8>().ok_or(IndexError::NotAContainer)?;
    let (chunks, _) = rest.split_first_chunk::<8>().ok_or(IndexError::NotAContainer)?;
    if magic != INDEX_MAGIC {
        return Err(IndexError::NotAContainer);
    }
    let version = u16::from_le_bytes(*version);
    if version != INDEX_VERSION {
        return Err(IndexError::Version(version));
    }
    if !(MIN_CHUNK_LOG2..=MAX_CHUNK_LOG2).contains(&chunk_log2) {
        return Err(IndexError::Damaged("its chunk size is not from 64 KiB to 1 MiB"));
    }
    if *zeros != [0; 5] {
        return Err(IndexError::Damaged("what must be zero is not"));
    }
    let raw_bytes = u64::from_le_bytes(*raw_bytes);
    if raw_bytes == 0 {
        return Err(IndexError::Damaged("the disk has no bytes"));
    }
    let chunks = u64::from_le_bytes(*chunks);
    if chunks > u64::from(u32::MAX) {
        return Err(IndexError::Damaged("it has more chunks than a container holds"));
    }
    Ok((chunk_log2, raw_bytes, chunks))
}

fn parse_entry(bytes: &[u8]) -> Option<Entry> {
    let (value, rest) = bytes.split_first_chunk::<32>()?;
    let (frame_bytes, rest) = rest.split_first_chunk::<4>()?;
    let (flags, _) = rest.split_first_chunk::<4>()?;
    let is_hole = match u32::from_le_bytes(*flags) {
        0 => false,
        HOLE => true,
        _ => return None,
    };
    Some(Entry { value: *value, frame_bytes: u32::from_le_bytes(*frame_bytes), is_hole })
}
