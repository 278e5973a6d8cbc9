//! The chunk index: what is where in a container, and what each chunk must be.

use std::{io, ops::Range};

use bty_types::{ErrorKind, ImageId};

use super::{
    entries::{self, Entries},
    layout::{
        FOOTER_BYTES, INDEX_FRAME_MAGIC, INDEX_MAGIC, INDEX_VERSION, MAX_CHUNK_LOG2,
        MIN_CHUNK_LOG2, SEEK_ENTRY_BYTES, SKIPPABLE_HEADER_BYTES, TAIL_BYTES, index_bytes, locate,
        max_frame_bytes, seek_entry, seek_table_header, seekable_frames, skippable_header,
    },
    tree,
};
use crate::ReadAt;

const TOO_LARGE: &str = "it is too large for this machine";
/// Of every so many frames it is kept where they begin; where others do is summed up from there.
const STRIDE: usize = 32;

/// The index of a container. Reading one checks everything that it says against itself and the container's length; what remains is
/// to compare its [`id`](Self::id) or [`digest`](Self::digest) with the one that is wanted.
#[derive(Clone, PartialEq, Eq)]
pub struct Index {
    raw_bytes: u64,
    chunk_log2: u8,
    entries: Entries,
    /// Where each [`STRIDE`]th frame begins.
    offsets: Vec<u64>,
    frames_end: u64,
    id: ImageId,
    digest: ImageId,
}

// Without the chunks, of which there may be millions.
impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("id", &self.id)
            .field("digest", &self.digest)
            .field("raw_bytes", &self.raw_bytes)
            .field("chunk_bytes", &self.chunk_bytes())
            .finish_non_exhaustive()
    }
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
    /// Whether it is all zeros, as the index says; the image's id does not prove it, [`verify`](Self::verify) with zeros does.
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
    /// Reads the index of a whole container, with two reads at most, and checks it against the seek table too.
    pub fn read(container: &(impl ReadAt + ?Sized)) -> Result<Self, IndexError> {
        let length = container.length()?;
        let tail_start = length.saturating_sub(TAIL_BYTES);
        let mut end = vec![0; usize::try_from(length - tail_start).unwrap_or_default()];
        container.read_exact_at(&mut end, tail_start)?;
        let place = locate(&end, length)?;
        let start = place.start - SKIPPABLE_HEADER_BYTES;
        if let Some(before) = start.checked_sub(tail_start) {
            end.drain(..usize::try_from(before).unwrap_or(usize::MAX));
        } else {
            let size =
                usize::try_from(length - start).map_err(|_| IndexError::Damaged(TOO_LARGE))?;
            end = vec![0; size];
            container.read_exact_at(&mut end, start)?;
        }
        Self::parse_end(end, &place)
    }

    /// Parses what is from the index frame to the end of a container.
    fn parse_end(mut end: Vec<u8>, place: &Range<u64>) -> Result<Self, IndexError> {
        let size =
            usize::try_from(place.end - place.start).map_err(|_| IndexError::Damaged(TOO_LARGE))?;
        let frame_bytes = SKIPPABLE_HEADER_BYTES + (place.end - place.start);
        let header = end.first_chunk::<8>().copied().ok_or(IndexError::NotAContainer)?;
        if Some(header) != skippable_header(INDEX_FRAME_MAGIC, frame_bytes) {
            return Err(IndexError::Damaged("its frame has another magic or size"));
        }
        end.drain(..header.len());
        if end.len() < size {
            return Err(IndexError::NotAContainer);
        }
        let table = end.split_off(size);
        // It stays in memory as it is.
        end.shrink_to_fit();
        let index = Self::parse(end, place.start)?;
        if !index.has_seek_table(&table, place.end) {
            return Err(IndexError::Damaged("the seek table says something else"));
        }
        Ok(index)
    }

    /// Whether the seek table frame says of every frame what the index says, and nothing of raw bytes outside of chunks.
    fn has_seek_table(&self, table: &[u8], place: u64) -> bool {
        let Some((header, entries)) = table.split_first_chunk::<8>() else { return false };
        let Some((entries, _)) = entries.split_last_chunk::<FOOTER_BYTES>() else { return false };
        let (entries, rest) = entries.as_chunks::<SEEK_ENTRY_BYTES>();
        let header_fits = seekable_frames(table)
            .and_then(seek_table_header)
            .is_some_and(|wanted| wanted == *header && rest.is_empty());
        let mut chunks = self.chunks();
        let mut end = 0_u64;
        let entries_fit =
            entries.iter().copied().map(seek_entry).all(|(frame_bytes, raw_bytes)| {
                end += u64::from(frame_bytes);
                let wanted = chunks
                    .next()
                    .map_or((frame_bytes, 0), |chunk| (chunk.frame_bytes, chunk.raw_bytes));
                wanted == (frame_bytes, raw_bytes)
            });
        header_fits && entries_fit && chunks.next().is_none() && end == place
    }

    /// Parses the content of an index frame that begins at `place` of the container ([`super::locate`]), and keeps it. Takes little
    /// memory beside it, whatever it says.
    pub fn parse(content: Vec<u8>, place: u64) -> Result<Self, IndexError> {
        let header = content.first_chunk().ok_or(IndexError::NotAContainer)?;
        let (chunk_log2, raw_bytes, chunks) = parse_header(header)?;
        if u64::try_from(content.len()).ok() != Some(index_bytes(chunks)) {
            return Err(IndexError::Damaged("its size does not fit its number of chunks"));
        }
        if raw_bytes.div_ceil(1 << chunk_log2) != chunks {
            return Err(IndexError::Damaged(
                "its number of chunks does not fit the size of the disk",
            ));
        }
        let entries = Entries::parse(content, max_frame_bytes(1 << chunk_log2))?;
        let index = Self::new(raw_bytes, chunk_log2, entries);
        if index.frames_end.checked_add(SKIPPABLE_HEADER_BYTES).is_none_or(|end| end > place) {
            return Err(IndexError::Damaged("the frames are longer than the file up to it"));
        }
        Ok(index)
    }

    fn new(raw_bytes: u64, chunk_log2: u8, entries: Entries) -> Self {
        let encoded = entries.encoded();
        let mut offsets = Vec::with_capacity(encoded.len().div_ceil(STRIDE));
        let mut frames_end = 0_u64;
        for frames in encoded.chunks(STRIDE) {
            offsets.push(frames_end);
            // 2^32 frames of 2^32 bytes: no overflow.
            frames_end += frames.iter().map(entries::frame_bytes).sum::<u64>();
        }
        let id = tree::merge(encoded, &entries::value);
        let digest = blake3::hash(entries.content()).into();
        Self { raw_bytes, chunk_log2, entries, offsets, frames_end, id, digest }
    }

    /// The index of a finished container with these entries.
    pub(super) fn build(raw_bytes: u64, chunk_bytes: u32, entries: Entries) -> Option<Self> {
        let chunk_log2 = u8::try_from(chunk_bytes.ilog2()).ok()?;
        let mut header = [0; 32];
        let fields: [&[u8]; 6] = [
            INDEX_MAGIC,
            &INDEX_VERSION.to_le_bytes(),
            &[chunk_log2],
            &[0; 5],
            &raw_bytes.to_le_bytes(),
            &entries.len().to_le_bytes(),
        ];
        header.copy_from_slice(&fields.concat());
        Some(Self::new(raw_bytes, chunk_log2, entries.with_header(header)))
    }

    /// What the index frame holds.
    pub(super) fn content(&self) -> &[u8] {
        self.entries.content()
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

    /// The largest frame that the index allows, in bytes: what a reader's buffer has to hold.
    pub fn max_frame_bytes(&self) -> u32 {
        max_frame_bytes(self.chunk_bytes())
    }

    /// Bytes of the raw disk in chunks that are not holes.
    pub fn mapped_bytes(&self) -> u64 {
        self.chunks().filter(|chunk| !chunk.is_hole).map(|chunk| u64::from(chunk.raw_bytes)).sum()
    }

    /// How many chunks there are; at least one.
    pub fn len(&self) -> u64 {
        self.entries.len()
    }

    /// Never: an image has at least one chunk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the last frame ends in the container.
    pub(super) fn frames_end(&self) -> u64 {
        self.frames_end
    }

    /// The chunk with this number.
    pub fn chunk(&self, number: u64) -> Option<Chunk> {
        let at = usize::try_from(number).ok()?;
        let from = at / STRIDE;
        let before = self.entries.encoded().get(from * STRIDE..at)?;
        let before: u64 = before.iter().map(entries::frame_bytes).sum();
        self.chunk_in(number, self.offsets.get(from)? + before)
    }

    /// The chunk with this number, whose frame begins here.
    fn chunk_in(&self, number: u64, frame_offset: u64) -> Option<Chunk> {
        let entry = self.entries.get(usize::try_from(number).ok()?)?;
        let raw_offset = number << self.chunk_log2;
        let raw_bytes = (self.raw_bytes - raw_offset).min(u64::from(self.chunk_bytes()));
        Some(Chunk {
            number,
            raw_offset,
            raw_bytes: u32::try_from(raw_bytes).unwrap_or_else(|_| self.chunk_bytes()),
            frame_offset,
            frame_bytes: entry.frame_bytes,
            is_hole: entry.is_hole,
            value: entry.value,
            is_whole_disk: self.len() == 1,
        })
    }

    /// The chaining value over these chunks, which are a whole subtree: as many as a power of two, from a multiple of it, or fewer at
    /// the disk's end.
    pub(super) fn value_over(&self, chunks: Range<u64>) -> Option<tree::ChainingValue> {
        let range = usize::try_from(chunks.start).ok()?..usize::try_from(chunks.end).ok()?;
        let entries = self.entries.encoded().get(range).filter(|entries| !entries.is_empty())?;
        Some(tree::subtree(entries, &entries::value))
    }

    /// All chunks, in order.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks { index: self, next: 0, frame_offset: 0 }
    }
}

/// The size of the raw disk that the header of a container's index states, for progress and an early refusal; nothing is proved.
pub(crate) fn stated_raw_bytes(container: &(impl ReadAt + ?Sized)) -> Option<u64> {
    let length = container.length().ok()?;
    let mut tail = [0; SEEK_ENTRY_BYTES + FOOTER_BYTES];
    let tail_start = length.checked_sub(u64::try_from(tail.len()).ok()?)?;
    container.read_exact_at(&mut tail, tail_start).ok()?;
    let mut header = [0; 32];
    container.read_exact_at(&mut header, locate(&tail, length).ok()?.start).ok()?;
    parse_header(&header).ok().map(|(_, raw_bytes, _)| raw_bytes)
}

/// The chunks of an index, in order.
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    index: &'a Index,
    next: u64,
    frame_offset: u64,
}

impl Iterator for Chunks<'_> {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let chunk = self.index.chunk_in(self.next, self.frame_offset)?;
        self.next += 1;
        self.frame_offset += u64::from(chunk.frame_bytes);
        Some(chunk)
    }
}

/// Chunk size as a power of two, raw size, number of chunks.
fn parse_header(header: &[u8; 32]) -> Result<(u8, u64, u64), IndexError> {
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
