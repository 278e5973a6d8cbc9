//! Decompressing and verifying single chunks.

use bty_types::ErrorKind;
use zstd::bulk::Decompressor;

use super::{index::Chunk, tree::chunk_value};

/// A chunk that is not what the index says.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// Its frame is no zstd frame of the right size.
    #[error(
        "decompressing chunk {number} (disk offset {raw_offset}, container offset {frame_offset})"
    )]
    Decompress {
        /// The chunk.
        number: u64,
        /// Where it is on the disk.
        raw_offset: u64,
        /// Where its frame is.
        frame_offset: u64,
        /// Why not.
        source: std::io::Error,
    },
    /// Its bytes have another hash.
    #[error(
        "chunk {number} (disk offset {raw_offset}, container offset {frame_offset}) is not what the image's index says: \
         its bytes were changed or damaged on the way"
    )]
    Mismatch {
        /// The chunk.
        number: u64,
        /// Where it is on the disk.
        raw_offset: u64,
        /// Where its frame is.
        frame_offset: u64,
    },
}

impl ChunkError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Decompress { .. } | Self::Mismatch { .. } => ErrorKind::Corrupt,
        }
    }
}

impl Chunk {
    /// Whether these are the chunk's bytes.
    pub fn verify(&self, raw: &[u8]) -> Result<(), ChunkError> {
        let size_fits = u32::try_from(raw.len()) == Ok(self.raw_bytes);
        if size_fits && chunk_value(raw, self.raw_offset, self.is_whole_disk) == self.value {
            return Ok(());
        }
        let Self { number, raw_offset, frame_offset, .. } = *self;
        Err(ChunkError::Mismatch { number, raw_offset, frame_offset })
    }
}

/// Decompresses chunks, one at a time; keep one per thread, since making one costs more than a chunk.
pub struct ChunkDecoder(Decompressor<'static>);

impl std::fmt::Debug for ChunkDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkDecoder")
    }
}

impl ChunkDecoder {
    /// A decoder.
    pub fn new() -> std::io::Result<Self> {
        Decompressor::new().map(Self)
    }

    /// Decompresses a chunk's frame into the beginning of `out`, which holds at least a chunk, verifies it, and gives its bytes.
    /// Never writes more than the chunk's size, whatever the frame says.
    pub fn decode<'a>(
        &mut self,
        chunk: &Chunk,
        frame: &[u8],
        out: &'a mut [u8],
    ) -> Result<&'a mut [u8], ChunkError> {
        let size = usize::try_from(chunk.raw_bytes).unwrap_or(usize::MAX);
        let failed = |source| ChunkError::Decompress {
            number: chunk.number,
            raw_offset: chunk.raw_offset,
            frame_offset: chunk.frame_offset,
            source,
        };
        let out = out
            .get_mut(..size)
            .ok_or_else(|| failed(std::io::Error::other("no room for a whole chunk")))?;
        let written = self.0.decompress_to_buffer(frame, out).map_err(failed)?;
        if written != size {
            return Err(failed(std::io::Error::other("the frame holds less than a chunk")));
        }
        chunk.verify(out)?;
        Ok(out)
    }
}
