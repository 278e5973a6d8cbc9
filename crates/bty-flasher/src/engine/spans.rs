//! Cutting an image into what is worked on at once: neighbouring chunks with data, neighbouring holes.

use bty_image::container::{Chunk, Index};

use super::edges::Edges;

/// Bytes of data that are read, fetched and written at once. Larger ones are no faster, and each worker holds one.
pub(super) const DATA_BYTES: u64 = 2 << 20;
/// The most that is made zero at once, so that progress shows and a cancel is heard.
pub(super) const HOLE_BYTES: u64 = 64 << 20;

/// Neighbouring chunks of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The number of its first chunk.
    pub(super) first: u64,
    /// How many there are.
    pub(super) chunks: u64,
    /// Where it is on the disk.
    pub(super) raw_offset: u64,
    /// Its size on the disk.
    pub(super) raw_bytes: u64,
}

/// The spans of one kind, in order, without the data at the disk's edges.
#[derive(Debug, Clone)]
pub(super) struct Spans<'a> {
    index: &'a Index,
    edges: Edges,
    holes: bool,
    next: u64,
}

impl<'a> Spans<'a> {
    pub(super) const fn data(index: &'a Index, edges: Edges) -> Self {
        Self { index, edges, holes: false, next: 0 }
    }

    pub(super) const fn holes(index: &'a Index, edges: Edges) -> Self {
        Self { index, edges, holes: true, next: 0 }
    }

    fn is_wanted(&self, chunk: &Chunk) -> bool {
        let at_edge = || self.edges.touch(chunk.raw_offset, chunk.raw_bytes.into());
        chunk.is_hole == self.holes && (self.holes || !at_edge())
    }
}

impl Iterator for Spans<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let mut chunk = self.index.chunk(self.next)?;
        while !self.is_wanted(&chunk) {
            self.next += 1;
            chunk = self.index.chunk(self.next)?;
        }
        let most = if self.holes { HOLE_BYTES } else { DATA_BYTES };
        let mut span =
            Span { first: chunk.number, chunks: 0, raw_offset: chunk.raw_offset, raw_bytes: 0 };
        loop {
            span.chunks += 1;
            span.raw_bytes += u64::from(chunk.raw_bytes);
            self.next += 1;
            // At multiples of the most, so that requests are aligned however the image begins.
            if (span.raw_offset + span.raw_bytes).is_multiple_of(most) {
                return Some(span);
            }
            match self.index.chunk(self.next) {
                Some(following) if self.is_wanted(&following) => chunk = following,
                _ => return Some(span),
            }
        }
    }
}
