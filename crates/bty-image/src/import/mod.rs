//! Import: a source becomes a container, on all cores, in bounded memory.
//!
//! One thread reads raw bytes, workers hash and compress chunks, and the caller's thread writes frames in order. The caller owns the
//! destination and throws it away after an error.
//!
//! # Memory
//!
//! Raw buffers go round: the reader waits for a used one once there are three per worker, and as nothing else holds raw bytes, that
//! bounds chunks and frames anywhere in the pipeline: about `workers * (6 * chunk size + 2 MiB)` with the compressors, 9 MiB for
//! two workers. The source adds what its format needs ([`crate::source::Limits`]), and the index 90 bytes per chunk while it is
//! collected, and again while it is written: 18 MiB for each 50 GiB in chunks of 256 KiB.

mod pipeline;
mod worker;

use std::{
    io::{self, Write},
    sync::atomic::AtomicBool,
    thread,
};

use bty_types::{ErrorKind, ImageId};

use crate::{
    container::Index,
    inspect::Inspection,
    source::{FinishError, Format, Source},
};

/// How to import.
#[derive(Debug, Clone)]
pub struct Options {
    /// Chunk size in bytes: a power of two from 64 KiB to 1 MiB; where none is said, [`chunk_bytes_for`](crate::container::chunk_bytes_for) the disk.
    pub chunk_bytes: Option<u32>,
    /// zstd's level.
    pub level: i32,
    /// Worker threads; at least one.
    pub workers: usize,
    /// A raw disk of more bytes is refused: a decompression bomb, or a mistake.
    pub max_raw_bytes: u64,
    /// How many times its source's size what is unpacked may come to. Zeros don't count: they cost nothing, and [`Self::max_raw_bytes`]
    /// bounds them.
    pub max_ratio: u64,
    /// From how many unpacked bytes on that is looked at.
    pub ratio_from_bytes: u64,
    /// The id that the image must turn out to have.
    pub expect_id: Option<ImageId>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            chunk_bytes: None,
            level: 3,
            workers: thread::available_parallelism().map_or(1, usize::from),
            max_raw_bytes: 1 << 40,
            max_ratio: 1000,
            ratio_from_bytes: 1 << 30,
            expect_id: None,
        }
    }
}

/// How far an import has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the source read.
    pub source_bytes: u64,
    /// Size of the source, where it is known.
    pub source_total_bytes: Option<u64>,
    /// Bytes of the raw disk seen.
    pub raw_bytes: u64,
    /// Bytes of the container written.
    pub container_bytes: u64,
}

/// What an import made.
#[derive(Debug)]
pub struct Summary {
    /// The container's index; it has the id.
    pub index: Index,
    /// Size of the container in bytes.
    pub container_bytes: u64,
    /// The source's format.
    pub format: Format,
    /// What is in the image.
    pub inspection: Inspection,
}

/// An import that failed. The destination holds rubbish.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source can't be read, is cut off or damaged.
    #[error("reading the image after {raw_bytes} bytes of its disk")]
    Read {
        /// How far it was good.
        raw_bytes: u64,
        /// Why it went no further.
        source: io::Error,
    },
    /// The source is whole and not what it should be.
    #[error("checking the image's source")]
    Finish(#[from] FinishError),
    /// The destination can't be written.
    #[error("writing the container")]
    Write(#[source] io::Error),
    /// The image is larger than allowed.
    #[error("the image's disk has over {0} bytes, which is the most that is allowed")]
    TooLarge(u64),
    /// It unpacks to more than anything that somebody wants on a disk.
    #[error(
        "{source_bytes} bytes of the image unpack to {raw_bytes} bytes that are not zeros, over {most} times as many: it is made to fill \
         a store; if it is meant, unpack it and import what comes out"
    )]
    Bomb {
        /// What was read of the source.
        source_bytes: u64,
        /// What that came to.
        raw_bytes: u64,
        /// How many times as many are allowed.
        most: u64,
    },
    /// No disk has such a size.
    #[error(
        "the image's disk has {0} bytes, which is no number of 512-byte sectors: it is no disk image, or cut off"
    )]
    NoDisk(u64),
    /// It is another image.
    #[error("the image is {found}, and {wanted} was asked for")]
    WrongId {
        /// What was asked for.
        wanted: ImageId,
        /// What it is.
        found: ImageId,
    },
    /// Somebody called it off.
    #[error("the import was cancelled")]
    Cancelled,
    /// A thread or compressor could not be had.
    #[error("starting the import")]
    Start(#[source] io::Error),
}

impl ImportError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                ErrorKind::InvalidInput
            }
            Self::Read { .. } => ErrorKind::Unavailable,
            Self::Finish(problem) => problem.kind(),
            Self::Write(problem) if problem.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Exhausted
            }
            Self::Start(problem) if problem.kind() == io::ErrorKind::InvalidInput => {
                ErrorKind::InvalidInput
            }
            Self::Write(_) | Self::Start(_) => ErrorKind::Internal,
            Self::TooLarge(_) | Self::Bomb { .. } | Self::NoDisk(_) => ErrorKind::InvalidInput,
            Self::WrongId { .. } => ErrorKind::Corrupt,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }
}

/// Imports a source into a container. `progress` is called after each chunk; `cancelled` is looked at before each.
pub fn import(
    source: Source,
    destination: &mut impl Write,
    options: &Options,
    cancelled: &AtomicBool,
    progress: impl FnMut(Progress),
) -> Result<Summary, ImportError> {
    pipeline::run(source, destination, options, cancelled, progress)
}
