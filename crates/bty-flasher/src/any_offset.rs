//! A disk read at any offset, and written from any buffer: devices that are opened past the kernel's cache want both aligned.

use std::io;

use bty_disk::device::Target;
use bty_image::ReadAt;
use bty_sys::{ALIGNMENT, AlignedBuf};

/// A disk whose bytes are read at any offset and in any number.
pub(crate) struct Bytes<'d>(pub(crate) &'d dyn Target);

impl ReadAt for Bytes<'_> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.size_bytes())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.0.size_bytes() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let start = offset / ALIGNMENT as u64 * ALIGNMENT as u64;
        let end = end.next_multiple_of(ALIGNMENT as u64).min(self.0.size_bytes());
        let bytes = usize::try_from(end - start).map_err(io::Error::other)?;
        let mut room = AlignedBuf::new(bytes);
        self.0.read_at(room.get_mut(..bytes).unwrap_or_default(), start)?;
        let skip = usize::try_from(offset - start).map_err(io::Error::other)?;
        let read = room.get(skip..skip + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(read);
        Ok(())
    }
}

/// Writes whole sectors from any buffer.
pub(crate) fn write(disk: &dyn Target, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut room = AlignedBuf::new(bytes.len());
    let room = room.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(bytes);
    disk.write_at(room, offset)
}
