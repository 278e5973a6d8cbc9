//! Whether a disk is an image, and where not. Nothing is written.

use std::sync::{Mutex, atomic::AtomicBool};

use bty_disk::device::Target;
use bty_image::{container::Chunk, is_zero};
use bty_sys::AlignedBuf;
use bty_types::ImageId;

use super::{
    FlashError, Job, Meter, Options, Step,
    edges::Edges,
    event::Event,
    indexed,
    spans::{DATA_BYTES, Spans},
    work::{Work, lock},
};
use crate::supply::{Container, Image, Payload, Stream};

/// How a disk differs from an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The image's id; `None` where the image came once and its id was not wanted beforehand.
    pub id: Option<ImageId>,
    /// Bytes of the raw disk.
    pub raw_bytes: u64,
    /// Bytes in what differs.
    pub differing_bytes: u64,
    /// First byte and length of each range that differs, in order; as exact as the image's chunks.
    pub ranges: Vec<(u64, u64)>,
    /// Of those, what can't be read.
    pub unreadable: Vec<(u64, u64)>,
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// Reads the disk and compares it with the image, whose bytes are fetched only where it comes once.
pub fn verify(
    image: &mut Image,
    target: &dyn Target,
    options: &Options,
    cancelled: &AtomicBool,
    report: &(dyn Fn(Event) + Sync),
) -> Result<Difference, FlashError> {
    let meter = Meter::new(Job::default(), report);
    let work = Work::new(target, options, cancelled, &meter);
    meter.step(Step::Compare, image.raw_bytes().unwrap_or_default());
    let found = Found::default();
    let raw_bytes = match image {
        Image::Container(container) => in_any_order(&**container, &work, &found)?,
        Image::Stream(stream) => streamed(&mut **stream, &work, &found)?,
    };
    meter.end();
    let Found { ranges, unreadable } = found;
    let joined = |ranges: Mutex<Vec<(u64, u64)>>| {
        join(ranges.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    };
    let (mut ranges, unreadable) = (joined(ranges), joined(unreadable));
    let has = target.size_bytes();
    if raw_bytes > has {
        // What the disk has no room for is missing from it.
        ranges.push((has, raw_bytes - has));
        ranges = join(ranges);
    }
    let differing_bytes = ranges.iter().map(|(_, bytes)| bytes).sum();
    Ok(Difference { id: image.id(), raw_bytes, differing_bytes, ranges, unreadable })
}

/// Ranges, in any order, that differ.
#[derive(Debug, Default)]
struct Found {
    ranges: Mutex<Vec<(u64, u64)>>,
    unreadable: Mutex<Vec<(u64, u64)>>,
}

/// Reads as much as the disk has of what is wanted; `None` where that can't be read.
fn read<'b>(
    work: &Work<'_>,
    buffer: &'b mut AlignedBuf,
    offset: u64,
    bytes: u64,
) -> Option<&'b [u8]> {
    let has = work.target.size_bytes().saturating_sub(offset).min(work.padded(bytes));
    let room = buffer.get_mut(..usize::try_from(has).ok()?)?;
    (has == 0 || work.look(room, offset)).then_some(&*room)
}

fn in_any_order(
    container: &dyn Container,
    work: &Work<'_>,
    found: &Found,
) -> Result<u64, FlashError> {
    let index = container.index();
    indexed::verify_holes(container, work)?;
    let edges = Edges::none();
    let spans = Mutex::new(Spans::data(index, edges).chain(Spans::holes(index, edges)));
    work.on_lanes(work.options.processors + 1, || {
        let mut buffer = AlignedBuf::new(usize::try_from(DATA_BYTES).unwrap_or_default());
        while let Some(span) = if work.is_over() { None } else { lock(&spans).next() } {
            let numbers = span.first..span.first + span.chunks;
            let chunks: Vec<Chunk> = numbers.filter_map(|number| index.chunk(number)).collect();
            let most = usize::try_from(DATA_BYTES / u64::from(index.chunk_bytes())).unwrap_or(1);
            for chunks in chunks.chunks(most.max(1)) {
                compare(chunks, work, found, &mut buffer);
            }
        }
        Ok(())
    })?;
    Ok(index.raw_bytes())
}

/// Compares chunks that follow each other.
fn compare(chunks: &[Chunk], work: &Work<'_>, found: &Found, buffer: &mut AlignedBuf) {
    let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return };
    let bytes = last.raw_offset + u64::from(last.raw_bytes) - first.raw_offset;
    work.meter.advance(bytes);
    let Some(has) = read(work, buffer, first.raw_offset, bytes) else {
        // One bad sector is not all of them.
        if let [only] = chunks {
            lock(&found.ranges).push((only.raw_offset, only.raw_bytes.into()));
            lock(&found.unreadable).push((only.raw_offset, only.raw_bytes.into()));
            return;
        }
        return chunks
            .iter()
            .for_each(|one| compare(std::slice::from_ref(one), work, found, buffer));
    };
    for chunk in chunks {
        let start = usize::try_from(chunk.raw_offset - first.raw_offset).unwrap_or(usize::MAX);
        let size = usize::try_from(chunk.raw_bytes).unwrap_or(usize::MAX);
        let raw = has.get(start..).map(|rest| rest.get(..size).unwrap_or(rest)).unwrap_or_default();
        if chunk.verify(raw).is_err() {
            lock(&found.ranges).push((chunk.raw_offset, chunk.raw_bytes.into()));
        }
    }
}

fn streamed(stream: &mut dyn Stream, work: &Work<'_>, found: &Found) -> Result<u64, FlashError> {
    let mut buffer = AlignedBuf::new(usize::try_from(DATA_BYTES).unwrap_or_default());
    let mut raw_bytes = 0;
    while let Some(piece) = stream.next_piece()? {
        if work.is_over() {
            work.outcome()?;
        }
        let mut offset = piece.raw_offset;
        raw_bytes = offset + piece.raw_bytes;
        while offset < raw_bytes {
            let bytes = (raw_bytes - offset).min(stream.chunk_bytes().into());
            let has = read(work, &mut buffer, offset, bytes);
            let has =
                has.map(|has| has.get(..usize::try_from(bytes).unwrap_or_default()).unwrap_or(has));
            let is_same = match (&piece.payload, has) {
                (_, None) => {
                    lock(&found.unreadable).push((offset, bytes));
                    false
                }
                (Payload::Raw(raw), Some(has)) => raw == has,
                (Payload::Hole, Some(has)) => has.len() as u64 == bytes && is_zero(has),
            };
            if !is_same {
                lock(&found.ranges).push((offset, bytes));
            }
            offset += bytes;
            work.meter.advance(bytes);
        }
    }
    Ok(raw_bytes)
}

/// Puts ranges in order, and those that touch together.
fn join(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (start, bytes) in ranges {
        match joined.last_mut() {
            Some((before, length)) if *before + *length >= start => {
                *length = (*length).max(start + bytes - *before);
            }
            _ => joined.push((start, bytes)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(join(vec![(8, 4), (0, 4), (4, 2), (20, 1), (8, 2)]), [(0, 6), (8, 4), (20, 1)]);
        assert_eq!(join(Vec::new()), []);
    }
}
