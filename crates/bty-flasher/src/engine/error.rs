//! Why a flash failed.

use std::io;

use bty_image::container::{ChunkError, NotAHole};
use bty_types::{ErrorKind, ImageId};

use crate::supply::SupplyError;

/// A flash that failed. Where anything was written, the disk is blanked and doesn't boot; else it is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// The image doesn't fit; nothing was written.
    #[error(
        "the disk is too small: the image needs {needs} bytes, the disk has {has}; nothing was written"
    )]
    TooSmall {
        /// What the image needs.
        needs: u64,
        /// What the disk has.
        has: u64,
    },
    /// An image whose size was not known turned out not to fit.
    #[error("the disk has {has} bytes, and the image has more; {}", left(*.blanked))]
    Overflow {
        /// What the disk has.
        has: u64,
        /// Whether the disk was written to.
        blanked: bool,
    },
    /// The image's bytes did not come.
    #[error("fetching the image")]
    Supply(#[from] SupplyError),
    /// The image is another one, as its index says; nothing was written.
    #[error("the image is {found}, and {wanted} was asked for; nothing was written")]
    OtherImage {
        /// What was asked for.
        wanted: ImageId,
        /// What it is.
        found: ImageId,
    },
    /// There is no memory to decompress with.
    #[error("making ready to decompress")]
    Decoder(#[source] io::Error),
    /// The image's bytes are not what they should be.
    #[error("verifying the image")]
    Chunk(#[from] ChunkError),
    /// A part of the image that is said to be zeros, and has not the hash of zeros.
    #[error("verifying the image")]
    NoHole(#[from] NotAHole),
    /// The disk refuses to be written.
    #[error("writing the disk at byte {offset}; is it failing?")]
    Write {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The disk refuses to be read.
    #[error("reading the disk back at byte {offset}; is it failing?")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The disk could not make its writes last.
    #[error("flushing the disk; is it failing?")]
    Flush(#[source] io::Error),
    /// The disk holds something else than was written.
    #[error(
        "the disk gave other bytes at {offset} than were written there: it is failing, or lies about its size"
    )]
    Mismatch {
        /// Where.
        offset: u64,
    },
    /// The image is another one.
    #[error("the image is {}, and {wanted} was asked for", found.map_or_else(|| "incomplete".to_owned(), |id| id.to_string()))]
    WrongId {
        /// What was asked for.
        wanted: ImageId,
        /// What it is.
        found: Option<ImageId>,
    },
    /// The supply ended before the image was whole.
    #[error("the image ended before it was whole")]
    Incomplete,
    /// Somebody called it off.
    #[error("the flash was cancelled; {}", left(*.blanked))]
    Cancelled {
        /// Whether the disk was written to.
        blanked: bool,
    },
}

/// What state the disk was left in.
const fn left(blanked: bool) -> &'static str {
    if blanked { "the disk is not bootable now" } else { "nothing was written" }
}

impl FlashError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooSmall { .. } | Self::Overflow { .. } => ErrorKind::Precondition,
            Self::Supply(problem) => problem.kind(),
            Self::Chunk(problem) => problem.kind(),
            Self::Write { .. } | Self::Read { .. } | Self::Flush(_) => ErrorKind::Unavailable,
            Self::Mismatch { .. }
            | Self::NoHole(_)
            | Self::OtherImage { .. }
            | Self::WrongId { .. }
            | Self::Incomplete => ErrorKind::Corrupt,
            Self::Decoder(_) => ErrorKind::Exhausted,
            Self::Cancelled { .. } => ErrorKind::Cancelled,
        }
    }

    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooSmall { .. } | Self::Overflow { .. } => "DISK_TOO_SMALL",
            Self::Supply(problem) => problem.reason(),
            Self::Chunk(_)
            | Self::NoHole(_)
            | Self::OtherImage { .. }
            | Self::WrongId { .. }
            | Self::Incomplete => "IMAGE_CORRUPT",
            Self::Decoder(_) => "OUT_OF_MEMORY",
            Self::Write { .. } => "WRITE_FAILED",
            Self::Read { .. } => "READ_FAILED",
            Self::Flush(_) => "FLUSH_FAILED",
            Self::Mismatch { .. } => "READBACK_MISMATCH",
            Self::Cancelled { .. } => "CANCELLED",
        }
    }
}
