//! An image whose chunks can be had in any order: only what the disk does not hold is fetched and written.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bty_image::{
    container::{Chunk, ChunkDecoder, ChunkError, Index, MAX_CHUNK_BYTES},
    is_zero,
};
use bty_sys::AlignedBuf;

use super::{
    FlashError, ReadBack,
    choice::{Choice, Compare},
    held::Held,
    queue::{Part, Queue},
    spans::{DATA_BYTES, Span, Spans},
    work::{Counts, State, Work, lock},
};
use crate::supply::{Container, Frames};

/// Chunks that are looked at before the work begins, to learn how much of the disk is right already.
const SAMPLES: u64 = 16;
/// How often a chunk that came wrong is fetched again.
const REFETCHES: u32 = 3;

/// Writes the data that the disk lacks, but for what makes it bootable: that is given back, and a word on the comparing.
pub(super) fn write_data(
    container: &dyn Container,
    work: &Work<'_>,
) -> Result<(Vec<Held>, String), FlashError> {
    let index = container.index();
    work.mark(0, index.len(), State::Unknown);
    let right = match work.options.compare {
        // A beginning without anything is that of a flash that was cut off, or of a new disk, which shows soon.
        Compare::Auto if has_no_beginning(work) => 1.0,
        Compare::Auto => sample(index, work),
        Compare::On | Compare::Off => 0.0,
    };
    let held = hold(container, work)?;
    let reads_back = work.options.read_back != ReadBack::Nothing;
    let choice = Mutex::new(Choice::new(work.options.compare, reads_back, right));
    let lanes = container.lanes(work.options.processors);
    let data = Mutex::new(Spans::data(index, work.edges));
    Queue::run(work, lanes, DATA_BYTES, |queue| {
        let mut lane = Lane::new(container, work, &choice)?;
        while let Some(span) = next(&data, work) {
            lane.data(span, queue)?;
        }
        Ok(())
    })?;
    let said = lock(&choice).to_string();
    Ok((held, said))
}

/// Has the holes read as zeros.
pub(super) fn write_holes(container: &dyn Container, work: &Work<'_>) -> Result<(), FlashError> {
    let holes = Mutex::new(Spans::holes(container.index(), work.edges));
    work.on_lanes(work.options.processors, || {
        let mut buffer = AlignedBuf::new(usize::try_from(DATA_BYTES).unwrap_or_default());
        while let Some(span) = next(&holes, work) {
            work.hole(span, &mut buffer)?;
        }
        Ok(())
    })
}

/// Proves that what the index calls holes are zeros in the image, where nobody else vouches for the index. This takes nothing but
/// time of processors, and is meant to run while the disk is what is waited for.
pub(super) fn verify_holes(container: &dyn Container, work: &Work<'_>) -> Result<(), FlashError> {
    if container.is_pinned() {
        return Ok(());
    }
    let index = container.index();
    let next = AtomicU64::new(0);
    work.on_lanes(work.options.processors, || {
        while !work.is_over() {
            let block = next.fetch_add(1, Ordering::Relaxed);
            if block >= index.hole_blocks() {
                break;
            }
            index.verify_holes(block)?;
        }
        Ok(())
    })
}

fn next(spans: &Mutex<Spans<'_>>, work: &Work<'_>) -> Option<Span> {
    if work.is_over() { None } else { lock(spans).next() }
}

/// The data at the disk's edges: from the disk where it is right, else from the image.
fn hold(container: &dyn Container, work: &Work<'_>) -> Result<Vec<Held>, FlashError> {
    let index = container.index();
    let mut frames = container.frames()?;
    let mut decoder = ChunkDecoder::new().map_err(FlashError::Decoder)?;
    let mut held = Vec::new();
    for chunk in work.edges.chunks(index) {
        let padded = work.padded(chunk.raw_bytes.into());
        let mut bytes = AlignedBuf::new(usize::try_from(padded).unwrap_or_default());
        let is_right =
            work.options.compare != Compare::Off && Held::is_right(work, &chunk, &mut bytes);
        if !is_right {
            bytes.fill(0);
            let mut frame = vec![0; usize::try_from(chunk.frame_bytes).unwrap_or_default()];
            frames.read(chunk.frame_offset, &mut frame)?;
            decode(&mut decoder, &mut *frames, work, &chunk, &mut frame, &mut bytes)?;
        }
        held.push(Held { number: chunk.number, raw_offset: chunk.raw_offset, bytes, is_right });
        work.meter.advance(chunk.raw_bytes.into());
    }
    Ok(held)
}

/// Whether the disk begins as one that was blanked.
fn has_no_beginning(work: &Work<'_>) -> bool {
    let size = usize::try_from(work.edges.bytes()).unwrap_or_default();
    let mut buffer = AlignedBuf::new(size);
    let room = buffer.get_mut(..size).unwrap_or_default();
    work.look(room, 0) && is_zero(room)
}

/// The share of some chunks, spread over the disk, that is right.
fn sample(index: &Index, work: &Work<'_>) -> f64 {
    let data = index.chunks().filter(|chunk| !chunk.is_hole).count();
    let every = data.div_ceil(usize::try_from(SAMPLES).unwrap_or(1)).max(1);
    let mut buffer = AlignedBuf::new(usize::try_from(MAX_CHUNK_BYTES).unwrap_or_default());
    let (mut right, mut looked) = (0_u32, 0_u32);
    for chunk in index.chunks().filter(|chunk| !chunk.is_hole).skip(every / 2).step_by(every) {
        looked += 1;
        right += u32::from(Held::is_right(work, &chunk, &mut buffer));
    }
    f64::from(right) / f64::from(looked.max(1))
}

/// Decompresses and verifies a chunk; one that is wrong is fetched again, so often.
fn decode(
    decoder: &mut ChunkDecoder,
    frames: &mut dyn Frames,
    work: &Work<'_>,
    chunk: &Chunk,
    frame: &mut [u8],
    room: &mut [u8],
) -> Result<(), FlashError> {
    let mut wrong: Option<ChunkError> = None;
    for attempt in 0..=REFETCHES {
        if attempt > 0 {
            Counts::add(&work.counts.refetched, 1);
            frames.distrust();
            frames.read(chunk.frame_offset, frame)?;
        }
        match decoder.decode(chunk, frame, room) {
            Ok(_) => return Ok(()),
            Err(problem) => wrong = Some(problem),
        }
    }
    Err(wrong.map_or(FlashError::Incomplete, FlashError::Chunk))
}

/// What one worker has.
struct Lane<'a> {
    index: &'a Index,
    work: &'a Work<'a>,
    choice: &'a Mutex<Choice>,
    frames: Box<dyn Frames + 'a>,
    decoder: ChunkDecoder,
    /// Frames as they came.
    fetched: Vec<u8>,
}

impl<'a> Lane<'a> {
    fn new(
        container: &'a dyn Container,
        work: &'a Work<'a>,
        choice: &'a Mutex<Choice>,
    ) -> Result<Self, FlashError> {
        Ok(Self {
            index: container.index(),
            work,
            choice,
            frames: container.frames()?,
            decoder: ChunkDecoder::new().map_err(FlashError::Decoder)?,
            fetched: Vec::new(),
        })
    }

    fn data(&mut self, span: Span, queue: &Queue<'_>) -> Result<(), FlashError> {
        let numbers = span.first..span.first + span.chunks;
        let mut chunks: Vec<Chunk> =
            numbers.filter_map(|number| self.index.chunk(number)).collect();
        let began = Instant::now();
        let Some(mut buffer) = queue.take() else { return Ok(()) };
        let waited = began.elapsed();
        if lock(self.choice).next() {
            let began = Instant::now();
            let before = span.raw_bytes;
            chunks = self.compare(span, chunks, &mut buffer);
            let wrong: u64 = chunks.iter().map(|chunk| u64::from(chunk.raw_bytes)).sum();
            let right = before - wrong;
            Counts::add(&self.work.counts.right, right);
            lock(self.choice).compared(before, right, began.elapsed());
            self.work.meter.advance(right);
        }
        let began = Instant::now();
        let (mut parts, mut raw_bytes) = (Vec::new(), 0);
        for run in chunks.chunk_by(|one, next| one.number + 1 == next.number) {
            raw_bytes += run.iter().map(|chunk| u64::from(chunk.raw_bytes)).sum::<u64>();
            parts.push(self.fill(span, run, &mut buffer)?);
        }
        queue.put(buffer, parts);
        if raw_bytes > 0 {
            // A buffer is waited for only where the disk is what takes the time.
            lock(self.choice).wrote(raw_bytes, waited + began.elapsed());
            self.work.meter.advance(raw_bytes);
        }
        Ok(())
    }

    /// The chunks that the disk does not hold.
    fn compare(&self, span: Span, mut chunks: Vec<Chunk>, buffer: &mut AlignedBuf) -> Vec<Chunk> {
        let size = usize::try_from(self.work.padded(span.raw_bytes)).unwrap_or_default();
        let Some(room) = buffer.get_mut(..size) else { return chunks };
        if !self.work.look(room, span.raw_offset) {
            return chunks;
        }
        chunks.retain(|chunk| {
            let is_right = part(room, span, chunk).is_some_and(|raw| chunk.verify(raw).is_ok());
            if is_right {
                self.work.mark(chunk.number, 1, State::Right);
            }
            !is_right
        });
        chunks
    }

    /// Fetches and verifies chunks that follow each other; gives what is to be written.
    fn fill(
        &mut self,
        span: Span,
        run: &[Chunk],
        buffer: &mut AlignedBuf,
    ) -> Result<Part, FlashError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Err(FlashError::Incomplete);
        };
        let end = last.frame_offset + u64::from(last.frame_bytes);
        let size = usize::try_from(end - first.frame_offset).unwrap_or_default();
        self.fetched.resize(size, 0);
        self.frames.read(first.frame_offset, &mut self.fetched)?;
        for chunk in run {
            let at = usize::try_from(chunk.frame_offset - first.frame_offset).unwrap_or(size);
            let frame_bytes = usize::try_from(chunk.frame_bytes).unwrap_or_default();
            let frame = self.fetched.get_mut(at..at + frame_bytes).ok_or(FlashError::Incomplete)?;
            let room = part_mut(buffer, span, chunk).ok_or(FlashError::Incomplete)?;
            decode(&mut self.decoder, &mut *self.frames, self.work, chunk, frame, room)?;
        }
        let from = usize::try_from(first.raw_offset - span.raw_offset).unwrap_or_default();
        let raw_bytes = last.raw_offset + u64::from(last.raw_bytes) - first.raw_offset;
        let raw_end = from + usize::try_from(raw_bytes).unwrap_or_default();
        let padded_end = from + usize::try_from(self.work.padded(raw_bytes)).unwrap_or_default();
        buffer.get_mut(raw_end..padded_end).ok_or(FlashError::Incomplete)?.fill(0);
        let (raw_offset, first) = (first.raw_offset, first.number);
        Ok(Part { bytes: from..padded_end, raw_offset, first, chunks: run.len() as u64 })
    }
}

/// Where a chunk of a span is in its buffer.
fn place(span: Span, chunk: &Chunk) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(chunk.raw_offset.checked_sub(span.raw_offset)?).ok()?;
    Some(start..start.checked_add(usize::try_from(chunk.raw_bytes).ok()?)?)
}

fn part<'b>(buffer: &'b [u8], span: Span, chunk: &Chunk) -> Option<&'b [u8]> {
    buffer.get(place(span, chunk)?)
}

fn part_mut<'b>(buffer: &'b mut [u8], span: Span, chunk: &Chunk) -> Option<&'b mut [u8]> {
    buffer.get_mut(place(span, chunk)?)
}
