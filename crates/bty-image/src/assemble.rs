//! A container put together from chunks that come one by one, in their order: in frames that somebody else made, from another container,
//! or zeros.
//!
//! Every frame is unpacked and compared with its value before it is written, so that what comes out is as good as an import.

use std::io::{self, Write};

use bty_types::{ErrorKind, ImageId};
use zstd::{bulk::Compressor, zstd_safe};

use crate::{
    ReadAt,
    container::{
        Chunk, ChunkDecoder, ChunkError, Entries, Entry, Finish, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES,
        chunk_value, max_frame_bytes,
    },
    import::Summary,
    inspect::{self, inspect},
    is_zero,
    source::Format,
};

const SECTOR_BYTES: u64 = 512;
const LEVEL: i32 = 3;

/// A container that is not whole yet.
pub struct Assembly<W> {
    destination: W,
    raw_bytes: u64,
    chunk_bytes: u32,
    entries: Entries,
    container_bytes: u64,
    decoder: ChunkDecoder,
    raw: Vec<u8>,
    /// The frame of a whole chunk of zeros.
    hole: Option<Vec<u8>>,
    head: Vec<u8>,
}

impl<W> std::fmt::Debug for Assembly<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembly").field("raw_bytes", &self.raw_bytes).finish_non_exhaustive()
    }
}

/// A container that can't be put together. The destination holds rubbish.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// No disk has such a size, or no container such chunks.
    #[error("a disk of {raw_bytes} bytes in chunks of {chunk_bytes} bytes is none")]
    NoDisk {
        /// What was said.
        raw_bytes: u64,
        /// What was said.
        chunk_bytes: u32,
    },
    /// More chunks came than the disk has, or fewer.
    #[error("the disk has {wanted} chunks, and {found} came")]
    Count {
        /// What it has.
        wanted: u64,
        /// What came.
        found: u64,
    },
    /// A frame is none of those that containers have.
    #[error("the frame of chunk {number} {problem}")]
    Frame {
        /// The chunk.
        number: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// A chunk is not what it should be.
    #[error("verifying what came")]
    Chunk(#[from] ChunkError),
    /// The other container has no chunk that fits, or can't be read.
    #[error("taking chunk {number} from the base image")]
    Base {
        /// The chunk.
        number: u64,
        /// Why not.
        source: io::Error,
    },
    /// The whole is another image than the sender has read.
    #[error("the image is {found}, and its sender read {wanted}")]
    WrongId {
        /// What was read.
        wanted: ImageId,
        /// What came.
        found: ImageId,
    },
    /// It can't be written.
    #[error("writing the container")]
    Write(#[source] io::Error),
}

impl AssembleError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoDisk { .. } | Self::Count { .. } | Self::Frame { .. } => {
                ErrorKind::InvalidInput
            }
            Self::Chunk(problem) => problem.kind(),
            Self::WrongId { .. } => ErrorKind::Corrupt,
            Self::Base { .. } => ErrorKind::Unavailable,
            Self::Write(problem) if problem.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Exhausted
            }
            Self::Write(_) => ErrorKind::Internal,
        }
    }
}

impl<W: Write> Assembly<W> {
    /// Begins a container of a disk of so many bytes. Takes memory for a chunk or two, and 40 bytes for each that has come.
    pub fn new(destination: W, raw_bytes: u64, chunk_bytes: u32) -> Result<Self, AssembleError> {
        let fits = raw_bytes > 0
            && raw_bytes.is_multiple_of(SECTOR_BYTES)
            && chunk_bytes.is_power_of_two()
            && (MIN_CHUNK_BYTES..=MAX_CHUNK_BYTES).contains(&chunk_bytes);
        if !fits {
            return Err(AssembleError::NoDisk { raw_bytes, chunk_bytes });
        }
        Ok(Self {
            destination,
            raw_bytes,
            chunk_bytes,
            entries: Entries::new(),
            container_bytes: 0,
            decoder: ChunkDecoder::new().map_err(AssembleError::Write)?,
            raw: vec![0; usize::try_from(chunk_bytes).unwrap_or_default()],
            hole: None,
            head: Vec::new(),
        })
    }

    /// How many chunks have come: the number of the next one.
    pub fn next_number(&self) -> u64 {
        self.entries.len()
    }

    /// Bytes of the raw disk that have come.
    pub fn done_bytes(&self) -> u64 {
        (self.next_number() * u64::from(self.chunk_bytes)).min(self.raw_bytes)
    }

    /// Bytes that were written.
    pub fn container_bytes(&self) -> u64 {
        self.container_bytes
    }

    fn chunks(&self) -> u64 {
        self.raw_bytes.div_ceil(self.chunk_bytes.into())
    }

    /// Size of the next chunk on the disk.
    fn next_bytes(&self) -> Result<u32, AssembleError> {
        let (number, chunk_bytes) = (self.next_number(), u64::from(self.chunk_bytes));
        let left = self.raw_bytes.saturating_sub(number * chunk_bytes);
        let bytes = u32::try_from(left.min(chunk_bytes)).ok().filter(|&bytes| bytes > 0);
        bytes.ok_or_else(|| AssembleError::Count { wanted: self.chunks(), found: number + 1 })
    }

    /// The next chunk, which has this value, in its frame.
    pub fn frame(&mut self, value: [u8; 32], frame: &[u8]) -> Result<(), AssembleError> {
        let (number, raw_bytes) = (self.next_number(), self.next_bytes()?);
        check_frame(frame, raw_bytes, self.chunk_bytes)
            .map_err(|problem| AssembleError::Frame { number, problem })?;
        let chunk = Chunk {
            number,
            raw_offset: number * u64::from(self.chunk_bytes),
            raw_bytes,
            frame_offset: self.container_bytes,
            frame_bytes: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            is_hole: false,
            value,
            is_whole_disk: self.chunks() == 1,
        };
        let raw = self.decoder.decode(&chunk, frame, &mut self.raw)?;
        let is_hole = is_zero(raw);
        self.head.extend(raw.iter().take(inspect::HEAD_BYTES.saturating_sub(self.head.len())));
        self.add(Entry { value, frame_bytes: chunk.frame_bytes, is_hole }, frame)
    }

    /// The next chunk, as it is in another container.
    pub fn same(
        &mut self,
        container: &(impl ReadAt + ?Sized),
        chunk: Option<Chunk>,
    ) -> Result<(), AssembleError> {
        let (number, raw_bytes) = (self.next_number(), self.next_bytes()?);
        let is_whole_disk = self.chunks() == 1;
        let fits = |chunk: &Chunk| {
            (chunk.number, chunk.raw_bytes, chunk.is_whole_disk)
                == (number, raw_bytes, is_whole_disk)
        };
        let failed = |source| AssembleError::Base { number, source };
        let Some(chunk) = chunk.filter(fits) else {
            return Err(failed(io::Error::other("it has no such chunk")));
        };
        let mut frame = vec![0; usize::try_from(chunk.frame_bytes).unwrap_or_default()];
        container.read_exact_at(&mut frame, chunk.frame_offset).map_err(failed)?;
        self.frame(chunk.value, &frame)
    }

    /// The next chunk, which is all zeros.
    pub fn zeros(&mut self) -> Result<(), AssembleError> {
        let (number, raw_bytes) = (self.next_number(), self.next_bytes()?);
        let raw = self.raw.get_mut(..usize::try_from(raw_bytes).unwrap_or_default());
        let raw = raw.unwrap_or_default();
        raw.fill(0);
        let value = chunk_value(
            raw,
            number * u64::from(self.chunk_bytes),
            self.raw_bytes <= self.chunk_bytes.into(),
        );
        let is_whole = raw_bytes == self.chunk_bytes;
        let frame = match self.hole.take().filter(|_| is_whole) {
            Some(frame) => frame,
            None => compress(raw).map_err(AssembleError::Write)?,
        };
        self.head.extend(raw.iter().take(inspect::HEAD_BYTES.saturating_sub(self.head.len())));
        let frame_bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let added = self.add(Entry { value, frame_bytes, is_hole: true }, &frame);
        self.hole = Some(frame).filter(|_| is_whole);
        added
    }

    fn add(&mut self, entry: Entry, frame: &[u8]) -> Result<(), AssembleError> {
        self.destination.write_all(frame).map_err(AssembleError::Write)?;
        self.container_bytes += u64::from(entry.frame_bytes);
        self.entries.push(entry);
        Ok(())
    }

    /// Ends the container, which has to be this image.
    pub fn finish(mut self, wanted: ImageId) -> Result<Summary, AssembleError> {
        let counts = (self.chunks(), self.next_number());
        if counts.0 != counts.1 {
            return Err(AssembleError::Count { wanted: counts.0, found: counts.1 });
        }
        let (raw_bytes, chunk_bytes) = (self.raw_bytes, self.chunk_bytes);
        let finish = Finish::new(raw_bytes, chunk_bytes, self.entries)
            .ok_or(AssembleError::NoDisk { raw_bytes, chunk_bytes })?;
        let found = finish.index.id();
        if found != wanted {
            return Err(AssembleError::WrongId { wanted, found });
        }
        finish.write(&mut self.destination).map_err(AssembleError::Write)?;
        Ok(Summary {
            container_bytes: finish.container_bytes(),
            index: finish.index,
            format: Format::Raw,
            inspection: inspect(&self.head),
        })
    }
}

/// A frame as all containers have them, which other readers of the format rely on.
pub fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
    frame_compressor(LEVEL)?.compress(raw)
}

/// Makes frames as all containers have them: they state their size, and have a checksum.
pub fn frame_compressor(level: i32) -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.include_contentsize(true)?;
    Ok(compressor)
}

/// Whether these bytes are one frame that states its size and has a checksum (RFC 8878 section 3.1.1).
fn check_frame(frame: &[u8], raw_bytes: u32, chunk_bytes: u32) -> Result<(), &'static str> {
    const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
    const CHECKSUM: u8 = 0x4;
    let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    if bytes > max_frame_bytes(chunk_bytes) {
        return Err("is larger than any");
    }
    if !frame.starts_with(&MAGIC) || frame.get(4).is_none_or(|flags| flags & CHECKSUM == 0) {
        return Err("is no zstd frame with a checksum");
    }
    if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
        return Err("is not one whole zstd frame");
    }
    match zstd_safe::get_frame_content_size(frame) {
        Ok(Some(size)) if size == u64::from(raw_bytes) => Ok(()),
        Ok(_) | Err(_) => Err("does not state the chunk's size"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::{container::Index, import, source};

    const CHUNK: usize = 64 * 1024;

    /// A disk of five chunks, the third one of zeros, the last one short.
    fn disk(odd: u8) -> Vec<u8> {
        let mut disk: Vec<u8> =
            (0..CHUNK * 4 + 1024).map(|at| u8::try_from(at % 251).unwrap() ^ odd).collect();
        disk[2 * CHUNK..3 * CHUNK].fill(0);
        disk
    }

    fn imported(raw: Vec<u8>) -> (Vec<u8>, Index) {
        let size = raw.len() as u64;
        let source = source::open_disk(io::Cursor::new(raw), size);
        let options = import::Options {
            chunk_bytes: Some(u32::try_from(CHUNK).unwrap()),
            ..Default::default()
        };
        let mut out = Vec::new();
        let summary =
            import::import(source, &mut out, &options, &AtomicBool::new(false), |_| ()).unwrap();
        (out, summary.index)
    }

    fn value(raw: &[u8], number: usize) -> [u8; 32] {
        chunk_value(raw, (number * CHUNK) as u64, false)
    }

    /// The same by pieces: what the base has not is sent.
    fn assembled(raw: &[u8], base: &[u8], index: &Index) -> Result<Vec<u8>, AssembleError> {
        let mut out = Vec::new();
        let mut assembly =
            Assembly::new(&mut out, raw.len() as u64, u32::try_from(CHUNK).unwrap())?;
        for (number, chunk) in raw.chunks(CHUNK).enumerate() {
            let value = value(chunk, number);
            let known = index.chunk(number as u64);
            if is_zero(chunk) {
                assembly.zeros()?;
            } else if known.is_some_and(|known| known.value == value) {
                assembly.same(base, known)?;
            } else {
                assembly.frame(value, &compress(chunk).unwrap())?;
            }
        }
        assembly.finish(blake3::hash(raw).into())?;
        Ok(out)
    }

    #[test]
    fn what_is_put_together_is_what_an_import_makes() {
        let (base, base_index) = imported(disk(0));
        let mut changed = disk(0);
        changed[CHUNK + 5] = 77;
        let (wanted, _) = imported(changed.clone());
        assert!(assembled(&changed, &base, &base_index).unwrap() == wanted);
        // Of another size: the last chunk of the base is not the same one.
        let longer = [disk(0), vec![9; 4096]].concat();
        let (wanted, _) = imported(longer.clone());
        assert!(assembled(&longer, &base, &base_index).unwrap() == wanted);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let raw = disk(0);
        let begin =
            || Assembly::new(Vec::new(), raw.len() as u64, u32::try_from(CHUNK).unwrap()).unwrap();
        let chunk = &raw[..CHUNK];
        let (frame, sum) = (compress(chunk).unwrap(), value(chunk, 0));
        let refused = |value, frame: &[u8]| begin().frame(value, frame).unwrap_err().to_string();
        assert!(refused([0; 32], &frame).contains("verifying"));
        assert!(refused(sum, &[frame.clone(), frame.clone()].concat()).contains("not one whole"));
        assert!(refused(sum, &frame[..frame.len() - 1]).contains("not one whole"));
        assert!(refused(sum, b"no frame").contains("no zstd frame"));
        assert!(refused(sum, &zstd::bulk::compress(chunk, 3).unwrap()).contains("checksum"));
        assert!(refused(sum, &compress(&chunk[1..]).unwrap()).contains("size"));
        let mut whole = begin();
        whole.frame(sum, &frame).unwrap();
        let problem = whole.finish(ImageId::new([0; 32])).unwrap_err();
        assert_eq!(problem.to_string(), "the disk has 5 chunks, and 1 came");
        let mut zeros = begin();
        (0..5).for_each(|_| zeros.zeros().unwrap());
        assert!(matches!(zeros.zeros(), Err(AssembleError::Count { .. })));
        let mut zeros = begin();
        (0..5).for_each(|_| zeros.zeros().unwrap());
        let problem = zeros.finish(ImageId::new([0; 32])).unwrap_err();
        assert!(matches!(problem, AssembleError::WrongId { .. }));
        for (size, chunk) in [(0, 65536), (100, 65536), (512, 65537), (512, 1 << 21)] {
            assert!(Assembly::new(Vec::new(), size, chunk).is_err(), "{size} in {chunk}");
        }
    }
}
