//! A container in a local file.

use std::{fs::File, path::Path};

use bty_image::{
    ReadAt,
    container::{Index, IndexError},
    source::SourceError,
};
use bty_types::ImageId;

use super::{Payload, Piece, Supply, SupplyError, holes};

/// Chunks of a container in a file.
#[derive(Debug)]
pub struct ContainerFile {
    file: File,
    index: Index,
    next: u64,
    fetched_bytes: u64,
}

impl ContainerFile {
    /// Opens a container; `None` where the file is none, but may be an image in another format.
    pub fn open(path: &Path) -> Result<Option<Self>, SupplyError> {
        let file = File::open(path)
            .map_err(|source| SourceError::Open { path: path.to_owned(), source })?;
        match Index::read(&file) {
            Ok(index) => Ok(Some(Self { file, index, next: 0, fetched_bytes: 0 })),
            Err(IndexError::NotAContainer | IndexError::Read(_)) => Ok(None),
            Err(problem) => Err(problem.into()),
        }
    }
}

impl Supply for ContainerFile {
    fn chunk_bytes(&self) -> u32 {
        self.index.chunk_bytes()
    }

    fn raw_bytes(&self) -> Option<u64> {
        Some(self.index.raw_bytes())
    }

    fn id(&self) -> Option<ImageId> {
        Some(self.index.id())
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, SupplyError> {
        let Some(chunk) = self.index.chunk(self.next) else { return Ok(None) };
        let piece = if chunk.is_hole {
            holes::from(&self.index, chunk)
        } else {
            let mut frame = vec![0; usize::try_from(chunk.frame_bytes).unwrap_or_default()];
            self.file
                .read_exact_at(&mut frame, chunk.frame_offset)
                .map_err(|source| SupplyError::Read { raw_bytes: chunk.raw_offset, source })?;
            self.fetched_bytes += u64::from(chunk.frame_bytes);
            Piece {
                number: chunk.number,
                raw_offset: chunk.raw_offset,
                raw_bytes: chunk.raw_bytes.into(),
                is_whole_disk: chunk.is_whole_disk,
                payload: Payload::Frame(chunk, frame),
            }
        };
        self.next += holes::chunks(&piece);
        Ok(Some(piece))
    }

    fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes
    }
}
