//! What makes the disk bootable: held back, and written when everything else is there and proved.

use bty_image::{container::Chunk, is_zero};
use bty_sys::AlignedBuf;

use super::{FlashError, ReadBack, work::Work};

/// A chunk that is written at the very end.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) number: u64,
    pub(super) raw_offset: u64,
    /// Its bytes, with zeros up to a whole sector.
    pub(super) bytes: AlignedBuf,
    /// Whether the disk held it when it was looked at.
    pub(super) is_right: bool,
}

impl Held {
    /// Reads a chunk from the disk into `room`; whether it is right, with zeros up to the next sector.
    pub(super) fn is_right(work: &Work<'_>, chunk: &Chunk, room: &mut AlignedBuf) -> bool {
        let padded = usize::try_from(work.padded(chunk.raw_bytes.into())).unwrap_or_default();
        let size = usize::try_from(chunk.raw_bytes).unwrap_or_default();
        let Some(room) = room.get_mut(..padded) else { return false };
        if !work.look(room, chunk.raw_offset) {
            return false;
        }
        let (raw, padding) = room.split_at(size);
        chunk.verify(raw).is_ok() && is_zero(padding)
    }

    /// Writes it, and reads it back where that is wanted. When this returns it would survive a power cut.
    pub(super) fn write(&self, work: &Work<'_>, image: Shape) -> Result<(), FlashError> {
        let offset = self.raw_offset;
        let raw = usize::try_from(image.size(self.number)).unwrap_or_default();
        let size = usize::try_from(work.padded(image.size(self.number))).unwrap_or_default();
        let bytes = self.bytes.get(..size).ok_or(FlashError::Incomplete)?;
        work.write(bytes, offset)?;
        work.target.flush().map_err(FlashError::Flush)?;
        if work.options.read_back == ReadBack::Nothing {
            return Ok(());
        }
        let mut found = AlignedBuf::new(size);
        let room = found.get_mut(..size).unwrap_or_default();
        work.target.read_at(room, offset).map_err(|source| FlashError::Read { offset, source })?;
        if room.get(..raw) == bytes.get(..raw) {
            Ok(())
        } else {
            Err(FlashError::Mismatch { offset })
        }
    }
}

/// The size of an image and its chunks, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) raw_bytes: u64,
    pub(super) chunk_bytes: u64,
}

impl Shape {
    /// How many chunks it has.
    pub(super) const fn chunks(self) -> u64 {
        self.raw_bytes.div_ceil(self.chunk_bytes)
    }

    /// Size of a chunk.
    pub(super) fn size(self, number: u64) -> u64 {
        self.raw_bytes.saturating_sub(number * self.chunk_bytes).min(self.chunk_bytes)
    }

    pub(super) const fn is_one_chunk(self) -> bool {
        self.raw_bytes <= self.chunk_bytes
    }
}
