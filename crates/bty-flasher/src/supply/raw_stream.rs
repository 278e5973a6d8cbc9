//! An image in any format that is read from its first to its last byte.

use std::{io::Read, path::Path};

use bty_image::{
    container::CHUNK_BYTES,
    source::{self, Source},
};
use bty_types::ImageId;

use super::{Payload, Piece, Supply, SupplyError};

/// Chunks of a stream of raw bytes.
#[derive(Debug)]
pub struct RawStream {
    source: Option<Source>,
    raw_bytes: Option<u64>,
    position: source::Position,
    next: u64,
    offset: u64,
    /// Read one ahead: only then is it known whether the first is the only one.
    ahead: Option<Vec<u8>>,
}

impl RawStream {
    /// Opens a file in any format that the importer reads.
    pub fn open(path: &Path) -> Result<Self, SupplyError> {
        let source = source::open_file(path, None)?;
        let (raw_bytes, position) = (source.raw_bytes(), source.position());
        let mut stream =
            Self { source: Some(source), raw_bytes, position, next: 0, offset: 0, ahead: None };
        stream.ahead = stream.read()?;
        Ok(stream)
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, SupplyError> {
        let Some(source) = &mut self.source else { return Ok(None) };
        let mut bytes = Vec::with_capacity(usize::try_from(CHUNK_BYTES).unwrap_or_default());
        let raw_bytes = self.offset;
        source
            .take(CHUNK_BYTES.into())
            .read_to_end(&mut bytes)
            .map_err(|source| SupplyError::Read { raw_bytes, source })?;
        if !bytes.is_empty() {
            return Ok(Some(bytes));
        }
        if let Some(source) = self.source.take() {
            source.finish()?;
        }
        Ok(None)
    }
}

impl Supply for RawStream {
    fn chunk_bytes(&self) -> u32 {
        CHUNK_BYTES
    }

    fn raw_bytes(&self) -> Option<u64> {
        self.raw_bytes
    }

    fn id(&self) -> Option<ImageId> {
        None
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, SupplyError> {
        let Some(bytes) = self.ahead.take() else { return Ok(None) };
        self.ahead = self.read()?;
        let (number, raw_offset) = (self.next, self.offset);
        let raw_bytes = u64::try_from(bytes.len()).unwrap_or_default();
        self.next += 1;
        self.offset += raw_bytes;
        let is_whole_disk = number == 0 && self.ahead.is_none();
        Ok(Some(Piece {
            number,
            raw_offset,
            raw_bytes,
            is_whole_disk,
            payload: Payload::Raw(bytes),
        }))
    }

    fn fetched_bytes(&self) -> u64 {
        self.position.bytes()
    }
}
