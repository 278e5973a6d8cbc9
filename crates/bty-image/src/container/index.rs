//! The chunk index: what is where in a container, and what each chunk must be.

use std::{io, ops::Range};

use bty_types::{ErrorKind, ImageId};

use super::{
    layout::{
        ENTRY_BYTES, Entry, FOOTER_BYTES, HOLE, INDEX_FRAME_MAGIC, INDEX_HEADER_BYTES, INDEX_MAGIC,
        INDEX_VERSION, MAX_CHUNK_LOG2, MIN_CHUNK_LOG2, SEEK_ENTRY_BYTES, SKIPPABLE_HEADER_BYTES,
        TAIL_BYTES, index_bytes, locate, max_frame_bytes, seek_entry, seek_table_header,
        seekable_frames, skippable_header,
    },
    tree,
};
use crate::ReadAt;

const TOO_LARGE: &str = "it is too large for this machine";
// The parsers below split by these numbers.
const _: () = assert!(INDEX_HEADER_BYTES == 32 && ENTRY_BYTES == 40);

/// The index of a container. Reading one checks everything that it says against itself and the container's length; what remains is
/// to compare its [`id`](Self::id) or [`digest`](Self::digest) with the one that is wanted.
#[derive(Clone, PartialEq, Eq)]
pub struct Index {
    raw_bytes: u64,
    chunk_log2: u8,
    entries: Vec<Entry>,
    /// Where each frame begins; one more, where the last one ends.
    offsets: Vec<u64>,
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
        Self::parse_end(&end, &place)
    }

    /// Parses what is from the index frame to the end of a container.
    fn parse_end(end: &[u8], place: &Range<u64>) -> Result<Self, IndexError> {
        let size =
            usize::try_from(place.end - place.start).map_err(|_| IndexError::Damaged(TOO_LARGE))?;
        let (header, rest) = end.split_first_chunk::<8>().ok_or(IndexError::NotAContainer)?;
        let (content, table) = rest.split_at_checked(size).ok_or(IndexError::NotAContainer)?;
        let index = Self::parse(content, place.start)?;
        let frame_bytes = SKIPPABLE_HEADER_BYTES + (place.end - place.start);
        if Some(*header) != skippable_header(INDEX_FRAME_MAGIC, frame_bytes) {
            return Err(IndexError::Damaged("its frame has another magic or size"));
        }
        if !index.has_seek_table(table, place.end) {
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

    /// Parses the content of an index frame that begins at `place` of the container ([`super::locate`]). Takes memory in
    /// proportion to `content`, whatever that says.
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
        let most = max_frame_bytes(1 << chunk_log2);
        let (entries, _) = entries.as_chunks::<40>();
        let entries: Vec<Entry> =
            entries.iter().map(|entry| parse_entry(entry, most)).collect::<Result<_, _>>()?;
        let digest = blake3::hash(content).into();
        let index = Self::new(raw_bytes, chunk_log2, entries, digest);
        if index.frames_end().checked_add(SKIPPABLE_HEADER_BYTES).is_none_or(|end| end > place) {
            return Err(IndexError::Damaged("the frames are longer than the file up to it"));
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
        let id = tree::merge(&entries, &|entry| entry.value);
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

    /// The chaining value over these chunks, which are a whole subtree: as many as a power of two, from a multiple of it, or fewer at
    /// the disk's end.
    pub(super) fn value_over(&self, chunks: Range<u64>) -> Option<tree::ChainingValue> {
        let range = usize::try_from(chunks.start).ok()?..usize::try_from(chunks.end).ok()?;
        let entries = self.entries.get(range).filter(|entries| !entries.is_empty())?;
        Some(tree::subtree(entries, &|entry| entry.value))
    }

    /// All chunks, in order.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks { index: self, next: 0 }
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

fn parse_entry(bytes: &[u8; 40], max_frame_bytes: u32) -> Result<Entry, IndexError> {
    let damaged = IndexError::Damaged("an entry is cut off");
    let (value, rest) = bytes.split_first_chunk::<32>().ok_or(damaged)?;
    let &[s0, s1, s2, s3, f0, f1, f2, f3] = rest else {
        return Err(IndexError::Damaged("an entry is cut off"));
    };
    let frame_bytes = u32::from_le_bytes([s0, s1, s2, s3]);
    if frame_bytes == 0 || frame_bytes > max_frame_bytes {
        return Err(IndexError::Damaged("a frame is smaller or larger than any"));
    }
    let is_hole = match u32::from_le_bytes([f0, f1, f2, f3]) {
        0 => false,
        HOLE => true,
        _ => return Err(IndexError::Damaged("an entry has flags that nobody set")),
    };
    Ok(Entry { value: *value, frame_bytes, is_hole })
}
