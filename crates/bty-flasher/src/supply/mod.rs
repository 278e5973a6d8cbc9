//! Where an image's chunks come from: a container, in a file or at a server, or any format that can be read from end to end.

mod container_file;
mod container_http;
mod holes;
mod raw_stream;

use std::path::Path;

use bty_image::{
    container::{Chunk, ChunkDecoder, ChunkError, IndexError},
    inspect::{HEAD_BYTES, inspect},
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

/// An image, and what a look at its beginning tells.
pub struct Opened {
    /// The image, from its first piece.
    pub supply: Box<dyn Supply>,
    /// The sector size that its partition table was made for; 0 where any will do.
    pub sector_bytes: u32,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("sector_bytes", &self.sector_bytes).finish_non_exhaustive()
    }
}

/// Opens an image: the http URL of a container, or a file in any format that the importer reads.
pub fn open(image: &str) -> Result<Opened, SupplyError> {
    let mut supply: Box<dyn Supply> = if image.contains("://") {
        Box::new(ContainerHttp::open(image, None)?)
    } else {
        let path = Path::new(image);
        match ContainerFile::open(path)? {
            Some(container) => Box::new(container),
            None => Box::new(RawStream::open(path)?),
        }
    };
    let first = supply.next_piece()?;
    let sector_bytes = first.as_ref().map_or(Ok(0), sector_bytes)?;
    Ok(Opened { supply: Box::new(Peeked { first, rest: supply }), sector_bytes })
}

/// What the partition table at the image's beginning counts in. A first chunk that is not what it should be is found here, before
/// anything is written.
fn sector_bytes(first: &Piece) -> Result<u32, SupplyError> {
    let head = |bytes: &[u8]| inspect(bytes.get(..HEAD_BYTES).unwrap_or(bytes)).sector_bytes;
    match &first.payload {
        Payload::Hole(_) => Ok(0),
        Payload::Raw(bytes) => Ok(head(bytes)),
        Payload::Frame(chunk, frame) => {
            let failed = |source| SupplyError::Read { raw_bytes: 0, source };
            let mut decoder = ChunkDecoder::new().map_err(failed)?;
            let mut room = vec![0; usize::try_from(chunk.raw_bytes).unwrap_or_default()];
            Ok(head(decoder.decode(chunk, frame, &mut room)?))
        }
    }
}

/// A supply whose first piece was looked at.
struct Peeked {
    first: Option<Piece>,
    rest: Box<dyn Supply>,
}

impl Supply for Peeked {
    fn chunk_bytes(&self) -> u32 {
        self.rest.chunk_bytes()
    }

    fn raw_bytes(&self) -> Option<u64> {
        self.rest.raw_bytes()
    }

    fn id(&self) -> Option<ImageId> {
        self.rest.id()
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, SupplyError> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.rest.next_piece(),
        }
    }

    fn fetched_bytes(&self) -> u64 {
        self.rest.fetched_bytes()
    }
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
    #[error("the image can't be used")]
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

    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Index(IndexError::Read(_))
            | Self::Source(_)
            | Self::Read { .. }
            | Self::Http { .. } => "FETCH_FAILED",
            Self::Index(_) | Self::WrongIndex { .. } | Self::Finish(_) | Self::Chunk(_) => {
                "IMAGE_CORRUPT"
            }
        }
    }
}
