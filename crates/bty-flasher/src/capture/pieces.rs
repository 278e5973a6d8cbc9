//! The bytes of an image from the first to the last: the disk's, and zeros where its file systems call it free. What is free is not read.

use std::{
    io::{self, Read},
    iter::Peekable,
    ops::Range,
    sync::Arc,
};

use bty_image::freespace::Free;
use bty_sys::{ALIGNMENT, AlignedBuf};

use super::original::Original;

/// Read from the disk at once.
const PIECE_BYTES: u64 = 4 << 20;

/// The bytes of an image.
pub(crate) struct Pieces<F: Iterator<Item = io::Result<Range<u64>>> = Free<Arc<Original>>> {
    original: Arc<Original>,
    free: Peekable<F>,
    buffer: AlignedBuf,
    /// Where the next piece begins.
    at: u64,
    /// What of the buffer was filled and not taken.
    filled: Range<usize>,
}

impl<F: Iterator<Item = io::Result<Range<u64>>>> Pieces<F> {
    /// With what is free, in ascending order.
    pub(crate) fn new(original: Arc<Original>, free: F) -> Self {
        let buffer = AlignedBuf::new(usize::try_from(PIECE_BYTES).unwrap_or_default());
        Self { original, free: free.peekable(), buffer, at: 0, filled: 0..0 }
    }

    /// What of a range is free, within it.
    fn free_within(&mut self, range: &Range<u64>) -> io::Result<Vec<Range<u64>>> {
        let mut found = Vec::new();
        loop {
            match self.free.peek() {
                None => break,
                Some(Ok(free)) if free.start >= range.end => break,
                Some(Ok(free)) => {
                    let end = free.end;
                    let part = free.start.max(range.start)..end.min(range.end);
                    if !part.is_empty() {
                        found.push(part);
                    }
                    if end > range.end {
                        break;
                    }
                    self.free.next();
                }
                Some(Err(_)) => match self.free.next() {
                    Some(Err(problem)) => return Err(problem),
                    _ => break,
                },
            }
        }
        Ok(found)
    }

    /// Fills the buffer with the next piece.
    fn advance(&mut self) -> io::Result<()> {
        let piece = self.at..(self.at + PIECE_BYTES).min(self.original.size_bytes());
        let free = self.free_within(&piece)?;
        let wanted = wanted(&piece, &free);
        let within = |range: &Range<u64>| {
            let at = |place: u64| usize::try_from(place - piece.start).unwrap_or_default();
            at(range.start)..at(range.end)
        };
        let buffer = &mut self.buffer;
        if let Some(wanted) = wanted {
            let room = buffer.get_mut(within(&wanted)).unwrap_or_default();
            self.original.fill(room, wanted.start)?;
        }
        for range in free {
            buffer.get_mut(within(&range)).unwrap_or_default().fill(0);
        }
        self.filled = within(&piece);
        self.at = piece.end;
        Ok(())
    }
}

/// The part of a piece that has to be read, aligned as a disk wants it; `None` where all of it is free.
fn wanted(piece: &Range<u64>, free: &[Range<u64>]) -> Option<Range<u64>> {
    let first = free.first().filter(|first| first.start == piece.start);
    let last = free.last().filter(|last| last.end == piece.end);
    let (start, end) =
        (first.map_or(piece.start, |first| first.end), last.map_or(piece.end, |last| last.start));
    let alignment = ALIGNMENT as u64;
    let end = end.next_multiple_of(alignment).min(piece.end);
    (start < end).then_some(start / alignment * alignment..end)
}

impl<F: Iterator<Item = io::Result<Range<u64>>>> Read for Pieces<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.filled.is_empty() && self.at < self.original.size_bytes() {
            self.advance()?;
        }
        let given = self.buffer.get(self.filled.clone()).unwrap_or_default();
        let size = given.len().min(out.len());
        if let (Some(out), Some(given)) = (out.get_mut(..size), given.get(..size)) {
            out.copy_from_slice(given);
        }
        self.filled.start += size;
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[allow(clippy::single_range_in_vec_init, reason = "there is one free range")]
    #[test]
    fn what_is_free_at_the_borders_is_not_read() {
        let row = |free: &[Range<u64>]| wanted(&(8192..40960), free);
        assert_eq!(row(&[]), Some(8192..40960));
        assert_eq!(row(&[8192..40960]), None);
        assert_eq!(row(&[8192..8704]), Some(8192..40960));
        assert_eq!(row(&[8192..20480, 36864..40960]), Some(20480..36864));
        assert_eq!(row(&[12288..16384, 32769..40960]), Some(8192..36864));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn zeros_where_it_is_free_and_the_disk_elsewhere(
            lengths in proptest::collection::vec(1_u64..900_000, 0..40),
            sectors in 1_u64..24_000,
        ) {
            let size = sectors * 512;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![7; usize::try_from(size).unwrap()]).unwrap();
            let mut wanted = vec![7; usize::try_from(size).unwrap()];
            let (mut free, mut at) = (Vec::new(), 0);
            for pair in lengths.chunks_exact(2) {
                let start = (at + pair[0]).min(size);
                let end = (start + pair[1]).min(size);
                if start < end {
                    free.push(start..end);
                    wanted[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()].fill(0);
                }
                at = end;
            }
            let original = Arc::new(Original::file(file, size));
            let mut found = Vec::new();
            Pieces::new(original, free.into_iter().map(Ok)).read_to_end(&mut found).unwrap();
            prop_assert!(found == wanted);
        }
    }
}
