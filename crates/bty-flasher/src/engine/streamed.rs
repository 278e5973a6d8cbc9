//! An image that comes once, from its beginning to its end: one thread takes pieces from it, workers compare and write them.

use std::{
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use bty_image::container::{MAX_CHUNK_BYTES, Merging, chunk_value};
use bty_sys::AlignedBuf;
use bty_types::ImageId;

use super::{
    FlashError, ReadBack,
    choice::{Choice, Compare},
    held::{Held, Shape},
    queue::{Part, Queue},
    spans::Span,
    work::{Counts, State, Work, lock},
};
use crate::supply::{Payload, Piece, Stream};

/// What came.
pub(super) struct Came {
    /// The value of each chunk, by number.
    pub(super) values: Vec<Option<[u8; 32]>>,
    pub(super) shape: Shape,
    /// What makes the disk bootable.
    pub(super) held: Vec<Held>,
    /// A word on the comparing.
    pub(super) choice: String,
}

impl Came {
    /// The id of the image; `None` where a chunk is missing.
    pub(super) fn id(&self) -> Option<ImageId> {
        let are_all = u64::try_from(self.values.len()) == Ok(self.shape.chunks());
        let mut merging = Merging::default();
        for value in &self.values {
            merging.add((*value)?);
        }
        merging.id().filter(|_| are_all)
    }
}

/// What the workers share.
struct Shop<'a> {
    work: &'a Work<'a>,
    /// A chunk of zeros.
    zeros: Vec<u8>,
    choice: Mutex<Choice>,
    values: Mutex<Vec<Option<[u8; 32]>>>,
    held: Mutex<Vec<Held>>,
}

/// Writes what the disk lacks, but for what makes it bootable.
pub(super) fn write_all(stream: &mut dyn Stream, work: &Work<'_>) -> Result<Came, FlashError> {
    let chunk_bytes = u64::from(stream.chunk_bytes());
    let workers = work.options.processors + 1;
    let (to_workers, pieces) = mpsc::sync_channel(workers);
    let reads_back = work.options.read_back != ReadBack::Nothing;
    let shop = Shop {
        work,
        zeros: vec![0; usize::try_from(chunk_bytes).unwrap_or_default()],
        // Nothing can be looked at beforehand: half is a guess that the first spans correct.
        choice: Mutex::new(Choice::new(work.options.compare, reads_back, 0.5)),
        values: Mutex::default(),
        held: Mutex::default(),
    };
    let fed = thread::scope(|scope| {
        let feeder = scope.spawn(move || feed(stream, &to_workers, work));
        let pieces = Mutex::new(pieces);
        let written = Queue::run(work, workers, MAX_CHUNK_BYTES.into(), |queue| {
            shop.work_until_done(&pieces, queue)
        });
        // Where the workers ended early, the feeder's send fails now instead of waiting for ever.
        drop(pieces);
        let fed = feeder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A worker's failure makes the feeder end; so it came first.
        written.and(fed)
    });
    let choice = lock(&shop.choice).to_string();
    let shape = Shape { raw_bytes: fed?, chunk_bytes };
    let (values, held) =
        (std::mem::take(&mut *lock(&shop.values)), std::mem::take(&mut *lock(&shop.held)));
    Ok(Came { values, shape, held, choice })
}

/// Takes pieces from the stream to the workers, and gives the size of the disk.
fn feed(
    stream: &mut dyn Stream,
    workers: &mpsc::SyncSender<Piece>,
    work: &Work<'_>,
) -> Result<u64, FlashError> {
    let room = work.target.size_bytes();
    let mut raw_bytes = 0;
    while let Some(piece) = stream.next_piece()? {
        raw_bytes = piece.raw_offset + piece.raw_bytes;
        if raw_bytes > room {
            return Err(FlashError::Overflow { has: room, blanked: work.is_blanked() });
        }
        if work.is_over() || workers.send(piece).is_err() {
            break;
        }
    }
    Ok(raw_bytes)
}

/// How long a worker waited before a piece.
#[derive(Debug, Clone, Copy)]
struct Waits {
    /// For the piece.
    source: Duration,
    /// For a buffer.
    disk: Duration,
}

impl Shop<'_> {
    fn work_until_done(
        &self,
        pieces: &Mutex<mpsc::Receiver<Piece>>,
        queue: &Queue<'_>,
    ) -> Result<(), FlashError> {
        loop {
            let began = Instant::now();
            let piece = lock(pieces).recv();
            let idle = began.elapsed();
            let (Ok(piece), Some(mut buffer)) = (piece, queue.take()) else { return Ok(()) };
            let waits = Waits { source: idle, disk: began.elapsed().saturating_sub(idle) };
            let Piece { number, raw_offset, raw_bytes, is_whole_disk, payload } = piece;
            let parts = match payload {
                Payload::Raw(raw) => {
                    self.set(number, &[chunk_value(&raw, raw_offset, is_whole_disk)]);
                    self.data(number, raw_offset, &raw, &mut buffer, waits)?
                }
                Payload::Hole => {
                    let values = self.values_of_zeros(raw_offset, raw_bytes, is_whole_disk);
                    self.set(number, &values);
                    let chunks = values.len() as u64;
                    let span = Span { first: number, chunks, raw_offset, raw_bytes };
                    self.work.hole(span, &mut buffer)?;
                    None
                }
            };
            queue.put(buffer, parts.into_iter().collect());
        }
    }

    /// The value of each chunk of so many zeros; it depends on where on the disk they are.
    fn values_of_zeros(
        &self,
        raw_offset: u64,
        raw_bytes: u64,
        is_whole_disk: bool,
    ) -> Vec<[u8; 32]> {
        let end = raw_offset + raw_bytes;
        let offsets = (raw_offset..end).step_by(self.zeros.len().max(1));
        offsets
            .map(|offset| {
                let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
                let zeros = self.zeros.get(..left).unwrap_or(&self.zeros);
                chunk_value(zeros, offset, is_whole_disk)
            })
            .collect()
    }

    fn set(&self, first: u64, new: &[[u8; 32]]) {
        let Ok(first) = usize::try_from(first) else { return };
        let mut values = lock(&self.values);
        let end = first + new.len();
        if values.len() < end {
            values.resize(end, None);
        }
        for (slot, value) in values.get_mut(first..end).unwrap_or_default().iter_mut().zip(new) {
            *slot = Some(*value);
        }
    }

    /// Compares a chunk where that is wanted; gives what is to be written.
    fn data(
        &self,
        number: u64,
        raw_offset: u64,
        raw: &[u8],
        buffer: &mut AlignedBuf,
        waits: Waits,
    ) -> Result<Option<Part>, FlashError> {
        let raw_bytes = raw.len() as u64;
        let padded = usize::try_from(self.work.padded(raw_bytes)).unwrap_or_default();
        let room = buffer.get_mut(..padded).ok_or(FlashError::Incomplete)?;
        let at_edge = self.work.edges.touch(raw_offset, raw_bytes);
        let compares = match self.work.options.compare {
            Compare::Off => false,
            _ => at_edge || lock(&self.choice).next(),
        };
        let began = Instant::now();
        let is_right =
            compares && self.work.look(room, raw_offset) && room.get(..raw.len()) == Some(raw);
        self.work.meter.advance(raw_bytes);
        if at_edge {
            let mut bytes = AlignedBuf::new(padded);
            bytes.get_mut(..raw.len()).ok_or(FlashError::Incomplete)?.copy_from_slice(raw);
            lock(&self.held).push(Held { number, raw_offset, bytes, is_right });
            return Ok(None);
        }
        if compares {
            let right = if is_right { raw_bytes } else { 0 };
            lock(&self.choice).compared_after(raw_bytes, right, began.elapsed(), waits.source);
        }
        if is_right {
            Counts::add(&self.work.counts.right, raw_bytes);
            self.work.mark(number, 1, State::Right);
            return Ok(None);
        }
        let began = Instant::now();
        let (start, padding) = room.split_at_mut(raw.len());
        start.copy_from_slice(raw);
        padding.fill(0);
        // A buffer is waited for only where the disk is what takes the time.
        lock(&self.choice).wrote(raw_bytes, waits.disk + began.elapsed());
        Ok(Some(Part { bytes: 0..padded, raw_offset, first: number, chunks: 1 }))
    }
}
