//! Where an image's chunks come from: a container, in a file or at a server, or any format that can be read from end to end.

mod container_file;
mod container_http;
mod holes;
mod raw_stream;

use bty_image::{
    container::{Chunk, ChunkError, IndexError},
    source::{FinishError, SourceError},
};
use bty_types::{ErrorKind, ImageId};

pub use container_file::ContainerFile;
pub use container_http::ContainerHttp;
pub use raw_stream::RawStream;

/// A part of an image, in the order of the disk. Pieces follow each other without gaps.
#[derive(Debug)]
pub struct Piece {
    /// The number of its (first) chunk.
    pub number: u64,
    /// Where it is on the disk.
    pub raw_offset: u64,
    /// Its size on the disk.
    pub raw_bytes: u64,
    /// Whether the image is this one chunk.
    pub is_whole_disk: bool,
    /// Its bytes, in whatever form they came.
    pub payload: Payload,
}

/// The bytes of a piece.
#[derive(Debug)]
pub enum Payload {
    /// One chunk, compressed; to be decompressed and verified.
    Frame(Chunk, Vec<u8>),
    /// One chunk as it is.
    Raw(Vec<u8>),
    /// One or more chunks of zeros, and the value of each.
    Hole(Vec<[u8; 32]>),
}

/// Gives an image piece by piece.
pub trait Supply: Send {
    /// Size of the image's chunks.
    fn chunk_bytes(&self) -> u32;

    /// Size of the raw disk, where it is known before the end.
    fn raw_bytes(&self) -> Option<u64>;

    /// The image's id, where it is known before the end.
    fn id(&self) -> Option<ImageId>;

    /// The next piece; `None` after the last.
    fn next_piece(&mut self) -> Result<Option<Piece>, SupplyError>;

    /// Bytes that were read from the source so far.
    fn fetched_bytes(&self) -> u64;
}

/// An image that does not come.
#[derive(Debug, thiserror::Error)]
pub enum SupplyError {
    /// A container without a good index.
    #[error("reading the image's index")]
    Index(#[from] IndexError),
    /// Its index is another one than the plan names.
    #[error("the image's index is {found}, and the plan names {wanted}")]
    WrongIndex {
        /// What the plan names.
        wanted: ImageId,
        /// What it is.
        found: ImageId,
    },
    /// A file that is no image.
    #[error("opening the image")]
    Source(#[from] SourceError),
    /// A source that turned out wrong at its end.
    #[error("checking the image")]
    Finish(#[from] FinishError),
    /// Its bytes are wrong.
    #[error("verifying the image")]
    Chunk(#[from] ChunkError),
    /// Reading failed.
    #[error("reading the image after {raw_bytes} bytes of its disk")]
    Read {
        /// How far it was good.
        raw_bytes: u64,
        /// Why it went no further.
        source: std::io::Error,
    },
    /// The server did not give it.
    #[error("fetching {url}: {problem}")]
    Http {
        /// What was asked for.
        url: String,
        /// What went wrong, and how often it was tried.
        problem: String,
    },
}

impl SupplyError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Index(problem) => problem.kind(),
            Self::WrongIndex { .. } => ErrorKind::Corrupt,
            Self::Source(problem) => problem.kind(),
            Self::Finish(problem) => problem.kind(),
            Self::Chunk(problem) => problem.kind(),
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => {
                ErrorKind::InvalidInput
            }
            Self::Read { .. } | Self::Http { .. } => ErrorKind::Unavailable,
        }
    }
}
