//! What is captured: the bytes of a disk that nobody writes meanwhile, or of a file.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Mutex, PoisonError},
};

use bty_disk::device::{BlockDevice, Target as _};
use bty_image::ReadAt;
use bty_sys::AlignedBuf;

/// What is read at once for structures of file systems.
const WINDOW_BYTES: usize = 64 * 1024;

/// A disk or a file.
#[derive(Debug)]
pub(crate) struct Original {
    bytes: Bytes,
    size_bytes: u64,
    window: Mutex<Window>,
}

#[derive(Debug)]
enum Bytes {
    Disk(BlockDevice),
    File(File),
}

/// The part that was read last.
#[derive(Debug)]
struct Window {
    buffer: AlignedBuf,
    start: Option<u64>,
}

impl Original {
    /// A disk.
    pub(crate) fn disk(device: BlockDevice) -> Self {
        let size_bytes = device.size_bytes();
        Self::new(Bytes::Disk(device), size_bytes)
    }

    /// A file of so many bytes.
    pub(crate) fn file(file: File, size_bytes: u64) -> Self {
        Self::new(Bytes::File(file), size_bytes)
    }

    fn new(bytes: Bytes, size_bytes: u64) -> Self {
        let window = Mutex::new(Window { buffer: AlignedBuf::new(WINDOW_BYTES), start: None });
        Self { bytes, size_bytes, window }
    }

    /// How many bytes it has.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fills a buffer that is aligned, as offset and length are too, but at the end of the disk.
    pub(crate) fn fill(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.bytes {
            Bytes::Disk(device) => device.read_at(buffer, offset),
            Bytes::File(file) => FileExt::read_exact_at(file, buffer, offset),
        }
    }
}

impl ReadAt for Original {
    fn length(&self) -> io::Result<u64> {
        Ok(self.size_bytes)
    }

    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let Window { buffer: held, start: held_start } = &mut *window;
        while !buffer.is_empty() {
            let window_bytes = WINDOW_BYTES as u64;
            let start = offset / window_bytes * window_bytes;
            let size = window_bytes.min(self.size_bytes.saturating_sub(start));
            let size = usize::try_from(size).unwrap_or_default();
            let held = held.get_mut(..size).unwrap_or_default();
            if *held_start != Some(start) {
                *held_start = None;
                self.fill(held, start)?;
                *held_start = Some(start);
            }
            let within = usize::try_from(offset - start).unwrap_or(usize::MAX);
            let there = held.get(within..).unwrap_or_default();
            let count = there.len().min(buffer.len());
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (now, later) = buffer.split_at_mut(count);
            now.copy_from_slice(there.get(..count).unwrap_or_default());
            (buffer, offset) = (later, offset + count as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn any_part_is_read_and_nothing_behind_the_end() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let original = Original::file(file, bytes.len() as u64);
        for (at, size) in [(0, 1), (65_530, 20), (1, 199_999), (131_072, 4096), (199_999, 1)] {
            let mut found = vec![0; size];
            original.read_exact_at(&mut found, at as u64).unwrap();
            assert!(found == bytes[at..at + size], "{size} bytes at {at}");
        }
        let mut found = [0; 2];
        let problem = original.read_exact_at(&mut found, 199_999).unwrap_err();
        assert_eq!(problem.kind(), io::ErrorKind::UnexpectedEof);
    }
}
