//! Neighbouring holes of an index, as one piece: a device zeroes a large range far faster than many small ones.

use bty_image::container::{Chunk, Index};

use super::{Payload, Piece};

/// The most that is zeroed at once, so that progress shows and a cancel is heard.
pub(super) const MAX_HOLE_BYTES: u64 = 64 << 20;

/// The piece that begins with this hole.
pub(super) fn from(index: &Index, first: Chunk) -> Piece {
    let mut values = vec![first.value];
    let mut raw_bytes = u64::from(first.raw_bytes);
    while raw_bytes < MAX_HOLE_BYTES
        && let Some(chunk) =
            index.chunk(first.number + u64::try_from(values.len()).unwrap_or_default())
        && chunk.is_hole
    {
        values.push(chunk.value);
        raw_bytes += u64::from(chunk.raw_bytes);
    }
    Piece {
        number: first.number,
        raw_offset: first.raw_offset,
        raw_bytes,
        is_whole_disk: first.is_whole_disk,
        payload: Payload::Hole(values),
    }
}

/// How many chunks a piece is.
pub(super) fn chunks(piece: &Piece) -> u64 {
    match &piece.payload {
        Payload::Hole(values) => u64::try_from(values.len()).unwrap_or_default(),
        Payload::Frame(..) | Payload::Raw(_) => 1,
    }
}
