//! A disk of which only so much is read: an image may lead on and on.

use std::{cell::Cell, io};

use crate::ReadAt;

/// Reads of one disk. An ESP with three systems on it takes some forty, a map of what NTFS uses of a TiB some five hundred.
const MOST_READS: u32 = 8192;
/// Bytes of all of them.
const MOST_BYTES: u64 = 256 << 20;

/// A disk that can be read for so long.
pub(crate) struct Sparing<'a, D: ?Sized> {
    disk: &'a D,
    reads_left: Cell<u32>,
    bytes_left: Cell<u64>,
}

impl<'a, D: ReadAt + ?Sized> Sparing<'a, D> {
    pub(crate) fn new(disk: &'a D) -> Self {
        Self { disk, reads_left: Cell::new(MOST_READS), bytes_left: Cell::new(MOST_BYTES) }
    }
}

impl<D: ReadAt + ?Sized> ReadAt for Sparing<'_, D> {
    fn length(&self) -> io::Result<u64> {
        self.disk.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let spent = || io::Error::other("enough of this disk was read");
        let bytes = u64::try_from(buffer.len()).map_err(io::Error::other)?;
        let reads_left = self.reads_left.get().checked_sub(1).ok_or_else(spent)?;
        let bytes_left = self.bytes_left.get().checked_sub(bytes).ok_or_else(spent)?;
        self.reads_left.set(reads_left);
        self.bytes_left.set(bytes_left);
        self.disk.read_exact_at(buffer, offset)
    }
}
