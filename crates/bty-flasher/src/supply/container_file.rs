//! A container in a local file.

use std::{
    fs::File,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bty_image::{
    ReadAt,
    container::{Index, IndexError},
    source::SourceError,
};

use super::{Container, Frames, SupplyError};

/// A container in a file.
#[derive(Debug)]
pub struct ContainerFile {
    file: File,
    index: Index,
    fetched_bytes: AtomicU64,
}

impl ContainerFile {
    /// Opens a container; `None` where the file is none, but may be an image in another format.
    pub fn open(path: &Path) -> Result<Option<Self>, SupplyError> {
        let file = File::open(path)
            .map_err(|source| SourceError::Open { path: path.to_owned(), source })?;
        match Index::read(&file) {
            Ok(index) => Ok(Some(Self { file, index, fetched_bytes: AtomicU64::new(0) })),
            Err(IndexError::NotAContainer | IndexError::Read(_)) => Ok(None),
            Err(problem) => Err(problem.into()),
        }
    }
}

impl Container for ContainerFile {
    fn index(&self) -> &Index {
        &self.index
    }

    fn is_pinned(&self) -> bool {
        false
    }

    fn frames(&self) -> Result<Box<dyn Frames + '_>, SupplyError> {
        Ok(Box::new(self))
    }

    fn lanes(&self, processors: usize) -> usize {
        // While one waits for the disk, others decompress.
        processors + 1
    }

    fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    fn retried_requests(&self) -> u64 {
        0
    }
}

impl Frames for &ContainerFile {
    fn read(&mut self, offset: u64, room: &mut [u8]) -> Result<(), SupplyError> {
        self.file
            .read_exact_at(room, offset)
            .map_err(|source| SupplyError::Read { offset, source })?;
        self.fetched_bytes.fetch_add(room.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn distrust(&mut self) {}
}
