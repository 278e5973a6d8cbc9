//! Verification: whether a container holds what its index says, chunk by chunk, on all cores, in bounded memory.
//!
//! Chunks are read one by one and where they are: what can't be read is a wrong chunk like any other, and does not hide those behind
//! it. Whether the index is the right one is the caller's to compare ([`Index::id`], [`Index::digest`]); where no chunk is wrong, the
//! chunks merge to that id.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use bty_types::ErrorKind;

use crate::{
    ReadAt,
    container::{Chunk, ChunkDecoder, ChunkError, Index},
    is_zero,
};

/// How many wrong chunks are named; all are counted.
pub const MOST_NAMED: usize = 100;
/// Chunks that a worker takes at a time.
const BATCH: u64 = 8;

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// How many chunks there are.
    pub chunks: u64,
    /// How many of them are wrong.
    pub wrong_chunks: u64,
    /// The first of the wrong ones, in order, at most [`MOST_NAMED`].
    pub first_wrong: Vec<WrongChunk>,
}

/// A chunk that is not what the index says.
#[derive(Debug)]
pub struct WrongChunk {
    /// What it should be.
    pub chunk: Chunk,
    /// What it is.
    pub problem: ChunkProblem,
}

/// What is wrong with a chunk.
#[derive(Debug, thiserror::Error)]
pub enum ChunkProblem {
    /// Its frame can't be read.
    #[error("its file can't be read there")]
    Read(#[source] io::Error),
    /// Its frame is no zstd frame of the right size.
    #[error("its zstd frame is damaged")]
    Frame(#[source] io::Error),
    /// Its bytes have another hash.
    #[error("its bytes have another hash")]
    Hash,
    /// The index calls it a hole.
    #[error("the index says that it is all zeros, and it is not")]
    NoHole,
}

/// A verification that came to no result.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Somebody called it off.
    #[error("the verification was cancelled")]
    Cancelled,
    /// A decoder could not be had.
    #[error("starting the verification")]
    Start(#[source] io::Error),
}

impl VerifyError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Start(_) => ErrorKind::Internal,
        }
    }
}

/// Some chunks, looked at.
#[derive(Default)]
struct Batch {
    raw_bytes: u64,
    wrong: Vec<WrongChunk>,
}

/// Compares every chunk of a container with its index. `progress` is told now and then how many bytes of the raw disk are done;
/// `cancelled` is looked at before each chunk.
pub fn verify(
    container: &(impl ReadAt + Sync + ?Sized),
    index: &Index,
    workers: usize,
    cancelled: &AtomicBool,
    mut progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    let workers = workers.max(1);
    let decoders: Vec<ChunkDecoder> = (0..workers)
        .map(|_| ChunkDecoder::new())
        .collect::<io::Result<_>>()
        .map_err(VerifyError::Start)?;
    let next = AtomicU64::new(0);
    let (to_us, batches) = mpsc::sync_channel(2 * workers);
    let (mut raw_bytes, mut wrong_chunks, mut named) = (0, 0, BTreeMap::new());
    thread::scope(|scope| {
        for decoder in decoders {
            let worker = Worker::new(container, index, decoder);
            let (next, to_us) = (&next, to_us.clone());
            scope.spawn(move || worker.run(next, cancelled, &to_us));
        }
        drop(to_us);
        for batch in batches {
            raw_bytes += batch.raw_bytes;
            for wrong in batch.wrong {
                wrong_chunks += 1;
                named.insert(wrong.chunk.number, wrong);
                if named.len() > MOST_NAMED {
                    named.pop_last();
                }
            }
            progress(raw_bytes);
        }
    });
    if cancelled.load(Ordering::Relaxed) {
        return Err(VerifyError::Cancelled);
    }
    Ok(Report { chunks: index.len(), wrong_chunks, first_wrong: named.into_values().collect() })
}

/// One thread's tools.
struct Worker<'a, C: ?Sized> {
    container: &'a C,
    index: &'a Index,
    decoder: ChunkDecoder,
    frame: Vec<u8>,
    raw: Vec<u8>,
}

impl<'a, C: ReadAt + ?Sized> Worker<'a, C> {
    fn new(container: &'a C, index: &'a Index, decoder: ChunkDecoder) -> Self {
        let room = |bytes: u32| vec![0; usize::try_from(bytes).unwrap_or_default()];
        let (frame, raw) = (room(index.max_frame_bytes()), room(index.chunk_bytes()));
        Self { container, index, decoder, frame, raw }
    }

    /// Takes chunks until there are no more, it is called off, or nobody wants to know.
    fn run(mut self, next: &AtomicU64, cancelled: &AtomicBool, results: &mpsc::SyncSender<Batch>) {
        loop {
            let first = next.fetch_add(BATCH, Ordering::Relaxed);
            let mut batch = Batch::default();
            for number in first..first.saturating_add(BATCH) {
                let Some(chunk) = self.index.chunk(number) else { break };
                if cancelled.load(Ordering::Relaxed) {
                    return;
                }
                batch.raw_bytes += u64::from(chunk.raw_bytes);
                if let Err(problem) = self.check(&chunk) {
                    batch.wrong.push(WrongChunk { chunk, problem });
                }
            }
            if batch.raw_bytes == 0 || results.send(batch).is_err() {
                return;
            }
        }
    }

    fn check(&mut self, chunk: &Chunk) -> Result<(), ChunkProblem> {
        let size = usize::try_from(chunk.frame_bytes).unwrap_or(usize::MAX);
        // The index allows no larger frame.
        let frame = self.frame.get_mut(..size).unwrap_or_default();
        self.container.read_exact_at(frame, chunk.frame_offset).map_err(ChunkProblem::Read)?;
        let unpacked = self.decoder.decode(chunk, frame, &mut self.raw);
        let raw = unpacked.map_err(|problem| match problem {
            ChunkError::Decompress { source, .. } => ChunkProblem::Frame(source),
            ChunkError::Mismatch { .. } => ChunkProblem::Hash,
        })?;
        if chunk.is_hole && !is_zero(raw) {
            return Err(ChunkProblem::NoHole);
        }
        Ok(())
    }
}
