//! Where an image comes from: a container, whose chunks can be had in any order, in a file or at a server; or any format that is read
//! from its first byte to its last.

mod begun;
mod container_file;
mod http;
mod raw_stream;

use std::path::Path;

use bty_image::{
    container::{ChunkDecoder, ChunkError, Index, IndexError},
    inspect::{HEAD_BYTES, Inspection, inspect},
    source::{FinishError, SourceError},
};
use bty_types::{ErrorKind, ImageId};

use begun::Begun;
pub use container_file::ContainerFile;
pub use http::ContainerHttp;
pub use raw_stream::RawStream;

/// An image.
pub enum Image {
    /// Its chunks can be had in any order.
    Container(Box<dyn Container>),
    /// It comes once, from its beginning to its end.
    Stream(Box<dyn Stream>),
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Container(_) => "Container",
            Self::Stream(_) => "Stream",
        })
    }
}

/// An image whose chunks can be had in any order.
pub trait Container: Send + Sync {
    /// What is where in it.
    fn index(&self) -> &Index;

    /// Whether the index is known to be the one that was meant. Else what it says of holes has to be proved.
    fn is_pinned(&self) -> bool;

    /// A way to its frames, for one thread.
    fn frames(&self) -> Result<Box<dyn Frames + '_>, SupplyError>;

    /// How many of those are of use at a time, for so many processors.
    fn lanes(&self, processors: usize) -> usize;

    /// Bytes that were read from it so far.
    fn fetched_bytes(&self) -> u64;

    /// Requests that failed and were made again so far.
    fn retried_requests(&self) -> u64;
}

/// A way to a container's frames.
pub trait Frames {
    /// Fills `room` from this offset of the container.
    fn read(&mut self, offset: u64, room: &mut [u8]) -> Result<(), SupplyError>;

    /// What was read last was wrong: the next read is to come by another way, where there is one.
    fn distrust(&mut self);
}

/// An image that comes once.
pub trait Stream: Send {
    /// Size of the pieces that are not holes, but the last, in bytes.
    fn chunk_bytes(&self) -> u32;

    /// Size of the raw disk, where it is known before the end.
    fn raw_bytes(&self) -> Option<u64>;

    /// The next piece; `None` after the last. Pieces follow each other without gaps.
    fn next_piece(&mut self) -> Result<Option<Piece>, SupplyError>;

    /// Bytes that were read from the source so far.
    fn fetched_bytes(&self) -> u64;
}

/// A part of an image that comes once.
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
    /// Its bytes.
    pub payload: Payload,
}

/// The bytes of a piece.
#[derive(Debug)]
pub enum Payload {
    /// One chunk as it is.
    Raw(Vec<u8>),
    /// One or more chunks of zeros.
    Hole,
}

impl Image {
    /// Size of the raw disk, where it is known before the end.
    pub fn raw_bytes(&self) -> Option<u64> {
        match self {
            Self::Container(container) => Some(container.index().raw_bytes()),
            Self::Stream(stream) => stream.raw_bytes(),
        }
    }

    /// The image's id, where it is known before the end.
    pub fn id(&self) -> Option<ImageId> {
        match self {
            Self::Container(container) => Some(container.index().id()),
            Self::Stream(_) => None,
        }
    }

    /// Bytes that were read from the source so far.
    pub fn fetched_bytes(&self) -> u64 {
        match self {
            Self::Container(container) => container.fetched_bytes(),
            Self::Stream(stream) => stream.fetched_bytes(),
        }
    }

    /// Requests to the source that failed and were made again so far.
    pub fn retried_requests(&self) -> u64 {
        match self {
            Self::Container(container) => container.retried_requests(),
            Self::Stream(_) => 0,
        }
    }
}

/// An image, and what a look at its beginning tells.
#[derive(Debug)]
pub struct Opened {
    /// The image, from its beginning.
    pub image: Image,
    /// What its first bytes say: partitions, and the sectors that they count in.
    pub inspection: Inspection,
}

/// An image as it may be shown and recorded: a URL without what lets anybody in.
pub fn named(image: &str) -> String {
    if is_url(image) { http::named(image) } else { image.to_owned() }
}

fn is_url(image: &str) -> bool {
    image.contains("://")
}

/// Opens an image: the http or https URL of a container, or a file in any format that the importer reads.
pub fn open(image: &str) -> Result<Opened, SupplyError> {
    if is_url(image) {
        return open_container(ContainerHttp::open(image, None)?);
    }
    let path = Path::new(image);
    if let Some(container) = ContainerFile::open(path)? {
        return open_container(container);
    }
    let stream = RawStream::open(path)?;
    let inspection = look_at(stream.head());
    Ok(Opened { image: Image::Stream(Box::new(stream)), inspection })
}

/// A first chunk that is not what it should be is found here, before anything is written.
fn open_container(container: impl Container + 'static) -> Result<Opened, SupplyError> {
    let first = container.index().chunk(0).filter(|first| !first.is_hole);
    let Some(first) = first else {
        let image = Image::Container(Box::new(container));
        return Ok(Opened { image, inspection: Inspection::default() });
    };
    let mut frame = vec![0; usize::try_from(first.frame_bytes).unwrap_or_default()];
    container.frames()?.read(first.frame_offset, &mut frame)?;
    let failed = |source| SupplyError::Read { offset: first.frame_offset, source };
    let mut decoder = ChunkDecoder::new().map_err(failed)?;
    let mut room = vec![0; usize::try_from(first.raw_bytes).unwrap_or_default()];
    let inspection = look_at(decoder.decode(&first, &frame, &mut room)?);
    let container = Begun::new(container, first.frame_offset, frame);
    Ok(Opened { image: Image::Container(Box::new(container)), inspection })
}

fn look_at(beginning: &[u8]) -> Inspection {
    inspect(beginning.get(..HEAD_BYTES).unwrap_or(beginning))
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
    #[error("reading the image at its byte {offset}")]
    Read {
        /// Where: in a container's file, or on the disk of an image that is read from its beginning.
        offset: u64,
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
