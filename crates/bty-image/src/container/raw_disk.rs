//! The raw disk in a container, read at any offset.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use super::{chunk::ChunkDecoder, index::Index};
use crate::ReadAt;

/// The raw disk in a container, for a few small reads here and there: it keeps the chunk that it unpacked last. Every byte it gives is
/// verified; a chunk that is wrong is an error.
#[derive(Debug)]
pub struct RawDisk<'a, C: ?Sized> {
    container: &'a C,
    index: &'a Index,
    unpacked: Mutex<Unpacked>,
}

/// The chunk that was unpacked last, and what to unpack the next one with.
#[derive(Debug)]
struct Unpacked {
    number: Option<u64>,
    raw: Vec<u8>,
    frame: Vec<u8>,
    decoder: ChunkDecoder,
}

impl<'a, C: ReadAt + ?Sized> RawDisk<'a, C> {
    /// The disk in this container, whose index this is.
    pub fn new(container: &'a C, index: &'a Index) -> io::Result<Self> {
        let decoder = ChunkDecoder::new()?;
        let unpacked = Unpacked { number: None, raw: Vec::new(), frame: Vec::new(), decoder };
        Ok(Self { container, index, unpacked: Mutex::new(unpacked) })
    }
}

impl Unpacked {
    /// Unpacks a chunk, unless it is the one already.
    fn unpack(
        &mut self,
        container: &(impl ReadAt + ?Sized),
        index: &Index,
        number: u64,
    ) -> io::Result<()> {
        if self.number == Some(number) {
            return Ok(());
        }
        let chunk = index.chunk(number).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.number = None;
        self.frame.resize(usize::try_from(chunk.frame_bytes).map_err(io::Error::other)?, 0);
        self.raw.resize(usize::try_from(chunk.raw_bytes).map_err(io::Error::other)?, 0);
        container.read_exact_at(&mut self.frame, chunk.frame_offset)?;
        self.decoder
            .decode(&chunk, &self.frame, &mut self.raw)
            .map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))?;
        self.number = Some(number);
        Ok(())
    }
}

impl<C: ReadAt + ?Sized> ReadAt for RawDisk<'_, C> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.index.raw_bytes())
    }

    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let chunk_bytes = u64::from(self.index.chunk_bytes());
        while !buffer.is_empty() {
            unpacked.unpack(self.container, self.index, offset / chunk_bytes)?;
            let within = usize::try_from(offset % chunk_bytes).map_err(io::Error::other)?;
            let there = unpacked.raw.get(within..).unwrap_or_default();
            let count = there.len().min(buffer.len());
            let (now, later) = buffer.split_at_mut(count);
            now.copy_from_slice(there.get(..count).unwrap_or_default());
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = later;
            offset += u64::try_from(count).unwrap_or_default();
        }
        Ok(())
    }
}
