//! Reading the formats that images come in, as a stream of raw disk bytes.
//!
//! The format is found by its first bytes, never by a file's name. Decoders work in bounded memory, and an error says whether the
//! source could not be read, is cut off, or is damaged. What bty does not read is refused by its name, with what to do.

mod archive;
mod detect;
mod lz4;
mod mapped;
mod qcow2;
mod size;
mod stream;
mod tap;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

use std::{
    fs::File,
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
};

use bty_types::{Checksum, ErrorKind};

use crate::container::{MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, seekable_frames};
pub use detect::Format;
pub use mapped::MappedError;
use stream::open;
pub use tap::Position;
use tap::Tap;
use vhd::Footless;

/// zstd's smallest and largest window, as powers of two.
const ZSTD_WINDOW_LOGS: (u32, u32) = (10, 31);
/// How many of a source's first bytes [`needs_file`] looks at.
pub const TELLING_BYTES: u64 = 512;

/// A source that is open: its raw bytes are read from it.
pub struct Source {
    reader: Reader,
    tap: Tap,
    format: Format,
    raw_bytes: Option<u64>,
    /// What the first zstd frame says that it unpacks to.
    first_frame_raw_bytes: Option<u64>,
    /// What an archive says that its file has, less what may be no part of the disk.
    member_raw_bytes: Option<u64>,
    total_bytes: Option<u64>,
    /// Raw bytes read so far.
    read_bytes: u64,
}

/// Where the raw bytes come from.
enum Reader {
    /// By a map.
    Mapped(Box<dyn Read + Send>),
    /// One after the other; a VHD's footer may be the last of them.
    Stream(Footless<Box<dyn Read + Send>>),
}

/// How much a source may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory that unpacking may take, in bytes. It is what the source's own window needs, so it says which sources are refused:
    /// 128 MiB are enough for everything that was packed without asking for more (`xz -9` takes 65 MiB, `zstd --long` 128 MiB).
    pub memory_bytes: u64,
}

impl Default for Limits {
    /// Whatever the formats' own tools make, `zstd --long=31` included.
    fn default() -> Self {
        Self { memory_bytes: 2 << 30 }
    }
}

impl Limits {
    fn zstd_window_log(self) -> u32 {
        let (smallest, largest) = ZSTD_WINDOW_LOGS;
        self.memory_bytes.checked_ilog2().unwrap_or_default().clamp(smallest, largest)
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("format", &self.format)
            .field("raw_bytes", &self.raw_bytes)
            .finish_non_exhaustive()
    }
}

/// A source that can't be read as an image.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file can't be opened.
    #[error("opening the image {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its first bytes can't be read.
    #[error("reading the beginning of the image")]
    Head(#[source] io::Error),
    /// It has no bytes.
    #[error("the image is empty")]
    Empty,
    /// It is in a format that bty doesn't read.
    #[error("the image is {what}; {advice}")]
    Unsupported {
        /// The format.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// It must be a file, and is a stream.
    #[error("{0} can't be read from a stream: it has to be a file")]
    NeedsFile(&'static str),
    /// It is in a mapped format and must not or can't be read.
    #[error("reading the {format} image")]
    Mapped {
        /// The format.
        format: &'static str,
        /// Why not.
        source: MappedError,
    },
}

impl SourceError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            // What is known of the content is said so; anything else is a source that can't be read.
            Self::Head(source) if source.kind() != io::ErrorKind::InvalidData => {
                ErrorKind::Unavailable
            }
            Self::Head(_) => ErrorKind::InvalidInput,
            Self::Mapped { source: MappedError::Read(source), .. }
                if source.kind() != io::ErrorKind::InvalidData =>
            {
                ErrorKind::Unavailable
            }
            Self::Empty | Self::Unsupported { .. } | Self::NeedsFile(_) | Self::Mapped { .. } => {
                ErrorKind::InvalidInput
            }
        }
    }
}

/// Opens a file in any format. With a checksum, [`Source::finish`] compares it with the file's bytes as they are.
pub fn open_file(path: &Path, checksum: Option<Checksum>) -> Result<Source, SourceError> {
    open_file_within(path, checksum, Limits::default())
}

/// [`open_file`] with other limits.
pub fn open_file_within(
    path: &Path,
    checksum: Option<Checksum>,
    limits: Limits,
) -> Result<Source, SourceError> {
    let opening = |source| SourceError::Open { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(opening)?;
    let metadata = file.metadata().map_err(opening)?;
    if metadata.is_dir() {
        return Err(opening(io::ErrorKind::IsADirectory.into()));
    }
    let mut head = Vec::new();
    (&mut file).take(TELLING_BYTES).read_to_end(&mut head).map_err(SourceError::Head)?;
    if !metadata.is_file() {
        return open(Cursor::new(head).chain(file), None, checksum, limits);
    }
    if let Some(format) = detect::mapped(&head) {
        return mapped::open(format, file, checksum);
    }
    let ending = file.try_clone().map_err(SourceError::Head)?;
    if detect::is_zip(&head) {
        archive::zip::directory::check(&ending).map_err(SourceError::Head)?;
    }
    let stream = Cursor::new(head).chain(file);
    let mut source = open(stream, Some(metadata.len()), checksum, limits)?;
    match source.format {
        Format::Xz => source.raw_bytes = size::of_xz(&ending),
        Format::Zstd => source.raw_bytes = size::of_zstd(&ending),
        Format::Raw => source.raw_bytes = vhd::disk_bytes(&ending).or(source.raw_bytes),
        _ => {}
    }
    Ok(source)
}

/// Opens a stream in any format that needs no going back, of this size where it is known.
pub fn open_stream(
    stream: impl Read + Send + 'static,
    source_bytes: Option<u64>,
    checksum: Option<Checksum>,
) -> Result<Source, SourceError> {
    open(stream, source_bytes, checksum, Limits::default())
}

/// [`open_stream`] with other limits.
pub fn open_stream_within(
    stream: impl Read + Send + 'static,
    source_bytes: Option<u64>,
    checksum: Option<Checksum>,
    limits: Limits,
) -> Result<Source, SourceError> {
    open(stream, source_bytes, checksum, limits)
}

/// Takes a stream for the bytes of a disk of this size, whatever they look like.
pub fn open_disk(stream: impl Read + Send + 'static, raw_bytes: u64) -> Source {
    let tap = Tap::new(stream, None);
    Source::mapped(Box::new(tap.clone()), tap, Format::Raw, raw_bytes, raw_bytes)
}

/// Whether a source with these first bytes ([`TELLING_BYTES`], where it has so many) has to be a file.
pub fn needs_file(head: &[u8]) -> bool {
    detect::mapped(head).is_some()
}

impl Source {
    fn new(reader: Reader, tap: Tap, format: Format, total_bytes: Option<u64>) -> Self {
        Self {
            reader,
            tap,
            format,
            raw_bytes: None,
            first_frame_raw_bytes: None,
            member_raw_bytes: None,
            total_bytes,
            read_bytes: 0,
        }
    }

    fn mapped(
        reader: Box<dyn Read + Send>,
        tap: Tap,
        format: Format,
        total_bytes: u64,
        raw_bytes: u64,
    ) -> Self {
        let source = Self::new(Reader::Mapped(reader), tap, format, Some(total_bytes));
        Self { raw_bytes: Some(raw_bytes), ..source }
    }

    /// Its format. That it is a VHD of fixed size and not raw shows only at its end.
    pub fn format(&self) -> Format {
        match &self.reader {
            Reader::Stream(stream) if self.format == Format::Raw && stream.had_footer() => {
                Format::Vhd
            }
            Reader::Stream(_) | Reader::Mapped(_) => self.format,
        }
    }

    /// Size of the raw disk, where the format states it: raw (as a stream, a VHD's footer is counted), the formats of virtual
    /// machines, and files that are xz or bty's container.
    pub fn raw_bytes(&self) -> Option<u64> {
        self.raw_bytes
    }

    /// What the raw disk has at least: its size where that is known, else what an archive states, or the first frame of zstd data,
    /// which nearly always is the only one.
    pub fn raw_bytes_at_least(&self) -> Option<u64> {
        self.raw_bytes.or(self.member_raw_bytes).or(self.first_frame_raw_bytes)
    }

    /// Size of the source as it is, where it is known.
    pub fn source_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// How many of the source's bytes have been read; can be asked from another thread.
    pub fn position(&self) -> Position {
        self.tap.position()
    }

    /// After the last raw byte: reads what is left of the source, compares the checksum where one was given, and refuses a container
    /// without its index, which shows only at the end.
    pub fn finish(self) -> Result<(), FinishError> {
        let is_cut_container = self.begins_like_a_container();
        let source_tail = self.tap.finish()?;
        if is_cut_container && seekable_frames(source_tail.bytes()).is_none() {
            let what = "the zstd data is one frame per chunk and has no seek table at its end: the source was cut off";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what).into());
        }
        Ok(())
    }

    /// Whether its first frame is a chunk of a container, and not its only one. Where a file was cut between two frames, the zstd data
    /// is whole as far as zstd can tell.
    fn begins_like_a_container(&self) -> bool {
        self.first_frame_raw_bytes.is_some_and(|bytes| {
            let chunks = u64::from(MIN_CHUNK_BYTES)..=u64::from(MAX_CHUNK_BYTES);
            chunks.contains(&bytes) && bytes.is_power_of_two() && self.read_bytes > bytes
        })
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.reader {
            Reader::Mapped(reader) => reader.read(buffer)?,
            Reader::Stream(stream) => stream.read(buffer)?,
        };
        self.read_bytes += u64::try_from(read).unwrap_or_default();
        Ok(read)
    }
}

/// A source that was read to its end and is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// Its checksum is another.
    #[error(
        "the source has {found}, and {wanted} was asked for: it is not the publisher's file, or damaged"
    )]
    Checksum {
        /// What was given.
        wanted: Box<Checksum>,
        /// What it has.
        found: Box<Checksum>,
    },
    /// What is left of it can't be read.
    #[error("reading the end of the source")]
    Read(#[from] io::Error),
}

impl FinishError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Checksum { .. } => ErrorKind::Corrupt,
            Self::Read(source) if source.kind() == io::ErrorKind::InvalidData => {
                ErrorKind::InvalidInput
            }
            Self::Read(_) => ErrorKind::Unavailable,
        }
    }
}
