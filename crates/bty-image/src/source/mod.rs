//! Reading the formats that images come in, as a stream of raw disk bytes.
//!
//! The format is found by its first bytes, never by a file's name. Decoders work in bounded memory, and an error says whether the
//! source could not be read, is cut off, or is damaged. What bty does not read is refused by its name, with what to do.

mod detect;
mod qcow2;
mod tap;

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use bty_types::{Checksum, ErrorKind};

pub use detect::Format;
pub use tap::Position;
use tap::{Named, Tap};

/// Memory that an xz stream may ask for: what `xz -9` needs, and some.
const XZ_MEMORY_BYTES: u64 = 128 << 20;
/// The largest zstd window, as a power of two: what `zstd -d` takes without being told, and `zstd --long` makes.
const ZSTD_WINDOW_LOG: u32 = 27;
/// How much is read at a time from a compressed source.
const BUFFER_BYTES: usize = 256 * 1024;
/// How many of a source's first bytes tell its format.
const HEAD_BYTES: usize = 64 * 1024;

/// A source that is open: its raw bytes are read from it.
pub struct Source {
    reader: Box<dyn Read + Send>,
    tap: Tap,
    format: Format,
    raw_bytes: Option<u64>,
    total_bytes: Option<u64>,
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
    #[error("qcow2 can't be read from a stream: it has to be a file")]
    NeedsFile,
    /// It is a qcow2 that must not or can't be read.
    #[error("reading the qcow2 image")]
    Qcow2(#[from] qcow2::Qcow2Error),
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
            Self::Head(_) => ErrorKind::InvalidInput,
            Self::Empty | Self::Unsupported { .. } | Self::NeedsFile | Self::Qcow2(_) => {
                ErrorKind::InvalidInput
            }
        }
    }
}

/// Opens a file in any format. With a checksum, [`Source::finish`] compares it with the file's bytes as they are.
pub fn open_file(path: &Path, checksum: Option<Checksum>) -> Result<Source, SourceError> {
    let opening = |source| SourceError::Open { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(opening)?;
    let metadata = file.metadata().map_err(opening)?;
    if metadata.is_dir() {
        return Err(opening(io::ErrorKind::IsADirectory.into()));
    }
    let mut head = Vec::new();
    (&mut file).take(4).read_to_end(&mut head).map_err(SourceError::Head)?;
    let size = metadata.is_file().then_some(metadata.len());
    if detect::is_qcow2(&head) && size.is_some() {
        return qcow2::open(file, checksum);
    }
    open(Cursor::new(head).chain(file), size, checksum)
}

/// Opens a stream in any format that needs no going back, of this size where it is known.
pub fn open_stream(
    stream: impl Read + Send + 'static,
    source_bytes: Option<u64>,
    checksum: Option<Checksum>,
) -> Result<Source, SourceError> {
    open(stream, source_bytes, checksum)
}

/// Whether a source with these first bytes (at least four) has to be a file.
pub fn needs_file(head: &[u8]) -> bool {
    detect::is_qcow2(head)
}

fn open(
    stream: impl Read + Send + 'static,
    source_bytes: Option<u64>,
    checksum: Option<Checksum>,
) -> Result<Source, SourceError> {
    let tap = Tap::new(stream, checksum);
    let (format, peeked) = peek(tap.clone())?;
    let input = BufReader::with_capacity(BUFFER_BYTES, peeked);
    let decoded: Box<dyn Read + Send> = match format {
        Format::Raw => Box::new(input),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Format::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES, flags)
                .map_err(|problem| SourceError::Head(problem.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Format::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(input).map_err(SourceError::Head)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(SourceError::Head)?;
            Box::new(decoder)
        }
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Format::Qcow2 => return Err(SourceError::NeedsFile),
    };
    let reader = unwrapped(format, decoded)?;
    let raw_bytes = source_bytes.filter(|_| format == Format::Raw);
    Ok(Source { reader, tap, format, raw_bytes, total_bytes: source_bytes })
}

fn peek(mut tap: Tap) -> Result<(Format, impl Read + Send), SourceError> {
    let mut head = Vec::new();
    tap.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(SourceError::Head)?;
    let format = detect::format(&head)?;
    Ok((format, Cursor::new(head).chain(tap)))
}

/// Looks at the first raw bytes: what was unpacked must be a disk, and no archive or image in an image.
fn unwrapped(
    format: Format,
    decoded: Box<dyn Read + Send>,
) -> Result<Box<dyn Read + Send>, SourceError> {
    let mut named = Named::new(format, decoded);
    if format == Format::Raw {
        return Ok(Box::new(named));
    }
    let mut head = Vec::new();
    named.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(SourceError::Head)?;
    match detect::format(&head)? {
        Format::Raw => Ok(Box::new(Cursor::new(head).chain(named))),
        Format::Gzip | Format::Xz | Format::Zstd | Format::Bzip2 | Format::Qcow2 => {
            Err(SourceError::Unsupported {
                what: "packed twice",
                advice: "unpack it once and import what comes out",
            })
        }
    }
}

impl Source {
    /// Its format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Size of the raw disk, where the format says it for sure.
    pub fn raw_bytes(&self) -> Option<u64> {
        self.raw_bytes
    }

    /// Size of the source as it is, where it is known.
    pub fn source_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// How many of the source's bytes have been read; can be asked from another thread.
    pub fn position(&self) -> Position {
        self.tap.position()
    }

    /// After the last raw byte: reads what is left of the source, and compares the checksum where one was given.
    pub fn finish(self) -> Result<(), FinishError> {
        self.tap.finish()
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
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
            Self::Read(_) => ErrorKind::Unavailable,
        }
    }
}
