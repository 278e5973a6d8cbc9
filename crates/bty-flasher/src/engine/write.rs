//! Writing: one thread takes pieces from the supply, workers decompress, verify and write them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use bty_disk::device::Target;
use bty_image::container::{ChunkDecoder, MAX_CHUNK_BYTES, Proof, chunk_value};
use bty_sys::AlignedBuf;
use bty_types::ImageId;

use super::{EDGE_BYTES, FlashError, Meter, Options};
use crate::supply::{Payload, Piece, Supply};

/// A chunk that is written at the very end: it may make the disk bootable.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) number: u64,
    pub(super) raw_offset: u64,
    bytes: AlignedBuf,
    padded_bytes: usize,
}

impl Held {
    /// Its bytes, with zeros up to a whole sector.
    pub(super) fn padded(&self) -> &[u8] {
        self.bytes.get(..self.padded_bytes).unwrap_or_default()
    }
}

/// What was written, and what the disk must give back.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The value that each chunk has, by number.
    pub(super) values: Vec<Option<[u8; 32]>>,
    pub(super) held: Vec<Held>,
    pub(super) chunk_bytes: u64,
    pub(super) raw_bytes: u64,
    pub(super) stored_bytes: u64,
    pub(super) zeroed_bytes: u64,
}

impl Written {
    pub(super) fn chunks(&self) -> u64 {
        self.raw_bytes.div_ceil(self.chunk_bytes.max(1))
    }

    /// The id of what was written; `None` where a chunk is missing.
    pub(super) fn id(&self) -> Option<ImageId> {
        let mut proof = Proof::new(self.chunks());
        for (number, value) in (0..).zip(&self.values) {
            if let Some(value) = value {
                proof.add(number, *value);
            }
        }
        proof.id()
    }

    fn set(&mut self, number: u64, value: [u8; 32]) {
        let Ok(at) = usize::try_from(number) else { return };
        if self.values.len() <= at {
            self.values.resize(at + 1, None);
        }
        if let Some(slot) = self.values.get_mut(at) {
            *slot = Some(value);
        }
    }
}

/// What the workers share.
struct Shop<'a> {
    target: &'a dyn Target,
    chunk_bytes: u64,
    /// Whether the disk is read back in the end, which finds a hole that is none.
    readback: bool,
    written: Mutex<Written>,
    failed: Mutex<Option<FlashError>>,
    /// Set when any failed: nobody begins anything more.
    stop: AtomicBool,
    meter: &'a Meter<'a>,
}

/// Where workers take pieces from. Theirs alone: when the last of them ends, however it ends, the feeder's send fails instead of
/// waiting for ever.
type Queue = Arc<Mutex<mpsc::Receiver<Piece>>>;

/// Writes everything that the supply gives but what has to be held back.
pub(super) fn write_all(
    supply: &mut dyn Supply,
    target: &dyn Target,
    options: &Options,
    cancelled: &AtomicBool,
    meter: &Meter<'_>,
) -> Result<Written, FlashError> {
    let workers = options.workers.max(1);
    let (to_workers, pieces) = mpsc::sync_channel(workers);
    let chunk_bytes = u64::from(supply.chunk_bytes());
    let shop = Shop {
        target,
        chunk_bytes,
        readback: options.readback,
        written: Mutex::new(Written { chunk_bytes, ..Written::default() }),
        failed: Mutex::new(None),
        stop: AtomicBool::new(false),
        meter,
    };
    let fed = thread::scope(|scope| {
        let (shop, queue) = (&shop, Arc::new(Mutex::new(pieces)));
        for _ in 0..workers {
            let queue = Arc::clone(&queue);
            scope.spawn(move || shop.work(&queue));
        }
        drop(queue);
        let fed = feed(supply, &to_workers, target.size_bytes(), cancelled, &shop.stop);
        // The workers end when there is nothing more to take.
        drop(to_workers);
        fed
    });
    // A worker's failure makes the feeder end; so it came first.
    if let Some(failed) = shop.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(failed);
    }
    let mut written = shop.written.into_inner().unwrap_or_else(PoisonError::into_inner);
    written.raw_bytes = fed?;
    Ok(written)
}

/// Takes pieces from the supply to the workers, and gives the size of the disk.
fn feed(
    supply: &mut dyn Supply,
    workers: &mpsc::SyncSender<Piece>,
    room: u64,
    cancelled: &AtomicBool,
    stop: &AtomicBool,
) -> Result<u64, FlashError> {
    let mut raw_bytes = 0;
    while let Some(piece) = supply.next_piece()? {
        if cancelled.load(Ordering::Relaxed) {
            return Err(FlashError::Cancelled);
        }
        raw_bytes = piece.raw_offset + piece.raw_bytes;
        if raw_bytes > room {
            return Err(FlashError::Overflow { has: room });
        }
        if stop.load(Ordering::Relaxed) || workers.send(piece).is_err() {
            break;
        }
    }
    Ok(raw_bytes)
}

impl Shop<'_> {
    fn work(&self, queue: &Queue) {
        let outcome = self.work_until_done(queue);
        if let Err(problem) = outcome {
            self.stop.store(true, Ordering::Relaxed);
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(problem);
        }
    }

    fn work_until_done(&self, queue: &Queue) -> Result<(), FlashError> {
        let mut decoder = ChunkDecoder::new().map_err(FlashError::Decoder)?;
        let mut buffer = AlignedBuf::new(usize::try_from(MAX_CHUNK_BYTES).unwrap_or_default());
        loop {
            let piece = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(piece) = piece else { return Ok(()) };
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.process(piece, &mut decoder, &mut buffer)?;
        }
    }

    fn process(
        &self,
        piece: Piece,
        decoder: &mut ChunkDecoder,
        buffer: &mut AlignedBuf,
    ) -> Result<(), FlashError> {
        let Piece { number, raw_offset, raw_bytes, is_whole_disk, payload } = piece;
        let size = usize::try_from(raw_bytes).unwrap_or_default();
        let value = match payload {
            Payload::Hole(values) => {
                if !self.readback {
                    self.verify_hole(number, raw_offset, raw_bytes, is_whole_disk, &values)?;
                }
                return self.zero(number, raw_offset, raw_bytes, &values);
            }
            Payload::Frame(chunk, frame) => {
                decoder.decode(&chunk, &frame, buffer)?;
                chunk.value
            }
            Payload::Raw(bytes) => {
                if let Some(room) = buffer.get_mut(..bytes.len()) {
                    room.copy_from_slice(&bytes);
                }
                chunk_value(&bytes, raw_offset, is_whole_disk)
            }
        };
        let sector = usize::try_from(self.target.sector_bytes()).unwrap_or(512);
        let padded_bytes = size.next_multiple_of(sector);
        if let Some(padding) = buffer.get_mut(size..padded_bytes) {
            padding.fill(0);
        }
        if self.is_edge(raw_offset, raw_bytes) {
            let bytes = std::mem::replace(buffer, AlignedBuf::new(buffer.len()));
            let mut written = self.written();
            written.set(number, value);
            written.stored_bytes += raw_bytes;
            written.held.push(Held { number, raw_offset, bytes, padded_bytes });
        } else {
            let bytes = buffer.get(..padded_bytes).unwrap_or_default();
            self.target
                .write_at(bytes, raw_offset)
                .map_err(|source| FlashError::Write { offset: raw_offset, source })?;
            let mut written = self.written();
            written.set(number, value);
            written.stored_bytes += raw_bytes;
        }
        self.meter.advance(raw_bytes);
        Ok(())
    }

    /// An error unless every chunk has the value of zeros.
    fn verify_hole(
        &self,
        first: u64,
        raw_offset: u64,
        raw_bytes: u64,
        is_whole_disk: bool,
        values: &[[u8; 32]],
    ) -> Result<(), FlashError> {
        let zeros = vec![0; usize::try_from(self.chunk_bytes.min(raw_bytes)).unwrap_or_default()];
        let end = raw_offset + raw_bytes;
        for (number, value) in (first..).zip(values) {
            let raw_offset = raw_offset + (number - first) * self.chunk_bytes;
            let size = usize::try_from(end - raw_offset).unwrap_or(usize::MAX).min(zeros.len());
            let zeros = zeros.get(..size).unwrap_or_default();
            if chunk_value(zeros, raw_offset, is_whole_disk) != *value {
                return Err(FlashError::NoHole { number, raw_offset });
            }
        }
        Ok(())
    }

    fn zero(
        &self,
        first: u64,
        raw_offset: u64,
        raw_bytes: u64,
        values: &[[u8; 32]],
    ) -> Result<(), FlashError> {
        let sector = u64::from(self.target.sector_bytes());
        let padded_bytes = raw_bytes.next_multiple_of(sector);
        self.target
            .zero(raw_offset, padded_bytes)
            .map_err(|source| FlashError::Write { offset: raw_offset, source })?;
        let mut written = self.written();
        for (number, value) in (first..).zip(values) {
            written.set(number, *value);
        }
        written.zeroed_bytes += raw_bytes;
        drop(written);
        self.meter.advance(raw_bytes);
        Ok(())
    }

    /// Whether a chunk touches the disk's beginning or end, where what makes it bootable is.
    fn is_edge(&self, raw_offset: u64, raw_bytes: u64) -> bool {
        raw_offset == 0
            || raw_offset + raw_bytes > self.target.size_bytes().saturating_sub(EDGE_BYTES)
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
