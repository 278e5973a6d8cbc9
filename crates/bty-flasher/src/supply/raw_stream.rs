//! An image in any format that is read from its first to its last byte.

use std::{io::Read, path::Path};

use bty_image::{
    container::chunk_bytes_for,
    is_zero,
    source::{self, Source},
};

use super::{Payload, Piece, Stream, SupplyError};

/// The most that is one hole, so that progress shows and a cancel is heard.
const MAX_HOLE_BYTES: u64 = 64 << 20;

/// Chunks of a stream of raw bytes.
#[derive(Debug)]
pub struct RawStream {
    source: Option<Source>,
    raw_bytes: Option<u64>,
    chunk_bytes: u32,
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
        let mut stream = Self {
            source: Some(source),
            raw_bytes,
            chunk_bytes: chunk_bytes_for(raw_bytes),
            position,
            next: 0,
            offset: 0,
            ahead: None,
        };
        stream.ahead = stream.read()?;
        Ok(stream)
    }

    /// The image's first bytes, before any was taken.
    pub fn head(&self) -> &[u8] {
        self.ahead.as_deref().unwrap_or_default()
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, SupplyError> {
        let Some(source) = &mut self.source else { return Ok(None) };
        let mut bytes = Vec::with_capacity(usize::try_from(self.chunk_bytes).unwrap_or_default());
        let offset = self.offset;
        source
            .take(self.chunk_bytes.into())
            .read_to_end(&mut bytes)
            .map_err(|source| SupplyError::Read { offset, source })?;
        if !bytes.is_empty() {
            return Ok(Some(bytes));
        }
        if let Some(source) = self.source.take() {
            source.finish()?;
        }
        Ok(None)
    }
}

impl RawStream {
    /// The next chunk, with the one after it read.
    fn take(&mut self) -> Result<Option<Vec<u8>>, SupplyError> {
        let Some(bytes) = self.ahead.take() else { return Ok(None) };
        self.next += 1;
        self.offset += size(&bytes);
        self.ahead = self.read()?;
        Ok(Some(bytes))
    }
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl Stream for RawStream {
    fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    fn raw_bytes(&self) -> Option<u64> {
        self.raw_bytes
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, SupplyError> {
        let (number, raw_offset) = (self.next, self.offset);
        let Some(bytes) = self.take()? else { return Ok(None) };
        let is_whole_disk = number == 0 && self.ahead.is_none();
        let mut raw_bytes = size(&bytes);
        if !is_zero(&bytes) {
            let payload = Payload::Raw(bytes);
            return Ok(Some(Piece { number, raw_offset, raw_bytes, is_whole_disk, payload }));
        }
        while raw_bytes < MAX_HOLE_BYTES && self.ahead.as_deref().is_some_and(is_zero) {
            let Some(bytes) = self.take()? else { break };
            raw_bytes += size(&bytes);
        }
        let payload = Payload::Hole;
        Ok(Some(Piece { number, raw_offset, raw_bytes, is_whole_disk, payload }))
    }

    fn fetched_bytes(&self) -> u64 {
        self.position.bytes()
    }
}
