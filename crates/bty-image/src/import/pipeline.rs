//! Reader, workers and writer, and how one's failure ends the others.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use super::{
    ImportError, Options, Progress, Summary,
    worker::{Done, Task, Worker},
};
use crate::{
    container::{Entries, Finish, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, chunk_bytes_for},
    inspect::{self, inspect},
    source::{FinishError, Source},
};

/// Buffers for each worker: one in work, one waiting before it, one after it.
const BUFFERS_PER_WORKER: usize = 3;
const SECTOR_BYTES: u64 = 512;

/// What the reader found.
struct Whole {
    source: Source,
    raw_bytes: u64,
    head: Vec<u8>,
}

pub(super) fn run(
    source: Source,
    destination: &mut impl Write,
    options: &Options,
    cancelled: &AtomicBool,
    mut progress: impl FnMut(Progress),
) -> Result<Summary, ImportError> {
    let chunk_bytes =
        options.chunk_bytes.unwrap_or_else(|| chunk_bytes_for(source.raw_bytes_at_least()));
    check(chunk_bytes)?;
    if source.raw_bytes_at_least().is_some_and(|bytes| bytes > options.max_raw_bytes) {
        return Err(ImportError::TooLarge(options.max_raw_bytes));
    }
    let (position, source_total_bytes) = (source.position(), source.source_bytes());
    let workers = options.workers.max(1);
    let buffers = BUFFERS_PER_WORKER * workers;
    let (to_workers, tasks) = mpsc::sync_channel(buffers);
    let (to_writer, results) = mpsc::sync_channel(buffers);
    let (recycle, recycled) = mpsc::sync_channel(buffers);
    let tasks = Arc::new(Mutex::new(tasks));
    let crew: Vec<Worker> = (0..workers)
        .map(|_| Worker::new(options.level, chunk_bytes))
        .collect::<io::Result<_>>()
        .map_err(ImportError::Start)?;

    let (read, entries) = thread::scope(|scope| {
        let reader =
            Reader { tasks: to_workers, recycled, buffers, chunk_bytes, options, cancelled };
        let reader = scope.spawn(move || reader.run(source));
        for worker in crew {
            let (tasks, to_writer) = (Arc::clone(&tasks), to_writer.clone());
            scope.spawn(move || worker.run(&tasks, &to_writer));
        }
        // The workers hold the ends that count: when they go, reader and writer notice.
        drop((to_writer, tasks));

        let written =
            write(&results, &recycle, destination, |unpacked_bytes, raw_bytes, container_bytes| {
                let source_bytes = position.bytes();
                progress(Progress { source_bytes, source_total_bytes, raw_bytes, container_bytes });
                check_ratio(options, source_bytes, unpacked_bytes)
            });
        drop((results, recycle));
        let read = reader
            .join()
            .map_err(|_| ImportError::Start(io::Error::other("the reader panicked")))?;
        // Where both failed, the reader's reason came first: a writer that fails only ends the reader.
        match (read, written) {
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(read), Ok(entries)) => Ok((read, entries)),
        }
    })?;
    finish(read, entries, destination, chunk_bytes, options)
}

/// A container of another chunk size could not be read again.
fn check(chunk_bytes: u32) -> Result<(), ImportError> {
    let sizes = MIN_CHUNK_BYTES..=MAX_CHUNK_BYTES;
    if sizes.contains(&chunk_bytes) && chunk_bytes.is_power_of_two() {
        return Ok(());
    }
    let problem = "the chunk size is not a power of two from 64 KiB to 1 MiB";
    Err(ImportError::Start(io::Error::new(io::ErrorKind::InvalidInput, problem)))
}

/// Refuses a decompression bomb.
fn check_ratio(options: &Options, source_bytes: u64, raw_bytes: u64) -> Result<(), ImportError> {
    let most = options.max_ratio;
    if raw_bytes <= options.ratio_from_bytes || raw_bytes <= source_bytes.saturating_mul(most) {
        return Ok(());
    }
    Err(ImportError::Bomb { source_bytes, raw_bytes, most })
}

/// Cuts the raw disk into chunks.
struct Reader<'a> {
    tasks: mpsc::SyncSender<Task>,
    recycled: mpsc::Receiver<Vec<u8>>,
    buffers: usize,
    chunk_bytes: u32,
    options: &'a Options,
    cancelled: &'a AtomicBool,
}

impl Reader<'_> {
    fn run(self, mut source: Source) -> Result<Whole, ImportError> {
        let mut raw_bytes = 0;
        let mut head = Vec::new();
        // One chunk is held back until it is known whether it is the only one.
        let mut waiting: Option<Task> = None;
        for number in 0.. {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(ImportError::Cancelled);
            }
            let Some(mut raw) = self.buffer(number) else { break };
            (&mut source)
                .take(self.chunk_bytes.into())
                .read_to_end(&mut raw)
                .map_err(|source| ImportError::Read { raw_bytes, source })?;
            if raw.is_empty() {
                break;
            }
            raw_bytes += u64::try_from(raw.len()).unwrap_or(u64::MAX);
            if raw_bytes > self.options.max_raw_bytes {
                return Err(ImportError::TooLarge(self.options.max_raw_bytes));
            }
            head.extend(raw.iter().take(inspect::HEAD_BYTES.saturating_sub(head.len())));
            let previous = waiting.replace(Task { number, raw, is_whole_disk: false });
            if previous.is_some_and(|previous| self.tasks.send(previous).is_err()) {
                break;
            }
        }
        if let Some(last) = waiting {
            let is_whole_disk = last.number == 0;
            // Nobody takes it where the writer failed, and that is the error that counts.
            let _ = self.tasks.send(Task { is_whole_disk, ..last });
        }
        Ok(Whole { source, raw_bytes, head })
    }

    /// A new buffer for the first chunks, a used one after; `None` where the writer has ended.
    fn buffer(&self, number: u64) -> Option<Vec<u8>> {
        if usize::try_from(number).is_ok_and(|number| number < self.buffers) {
            return Some(Vec::with_capacity(usize::try_from(self.chunk_bytes).unwrap_or_default()));
        }
        let mut raw = self.recycled.recv().ok()?;
        raw.clear();
        Some(raw)
    }
}

fn write(
    results: &mpsc::Receiver<io::Result<Done>>,
    recycle: &mpsc::SyncSender<Vec<u8>>,
    destination: &mut impl Write,
    mut progress: impl FnMut(u64, u64, u64) -> Result<(), ImportError>,
) -> Result<Entries, ImportError> {
    let mut entries = Entries::new();
    let mut early: BTreeMap<u64, Done> = BTreeMap::new();
    let (mut next, mut unpacked_bytes, mut raw_bytes, mut container_bytes) = (0, 0, 0, 0);
    for done in results {
        let done = done.map_err(ImportError::Start)?;
        early.insert(done.number, done);
        while let Some(done) = early.remove(&next) {
            destination.write_all(&done.frame).map_err(ImportError::Write)?;
            next += 1;
            let chunk_bytes = u64::try_from(done.raw.len()).unwrap_or_default();
            raw_bytes += chunk_bytes;
            unpacked_bytes += if done.entry.is_hole { 0 } else { chunk_bytes };
            container_bytes += u64::from(done.entry.frame_bytes);
            entries.push(done.entry);
            progress(unpacked_bytes, raw_bytes, container_bytes)?;
            // The reader may have ended; then the buffer has served.
            let _ = recycle.try_send(done.raw);
        }
    }
    Ok(entries)
}

fn finish(
    read: Whole,
    entries: Entries,
    destination: &mut impl Write,
    chunk_bytes: u32,
    options: &Options,
) -> Result<Summary, ImportError> {
    let Whole { source, raw_bytes, head } = read;
    let format = source.format();
    if raw_bytes == 0 || raw_bytes % SECTOR_BYTES != 0 {
        return Err(ImportError::NoDisk(raw_bytes));
    }
    source.finish().map_err(|problem| match problem {
        // Something about the disk that shows only at its end.
        FinishError::Read(source) if source.kind() == io::ErrorKind::InvalidData => {
            ImportError::Read { raw_bytes, source }
        }
        FinishError::Checksum { .. } | FinishError::Read(_) => ImportError::Finish(problem),
    })?;
    let finish =
        Finish::new(raw_bytes, chunk_bytes, entries).ok_or(ImportError::TooLarge(raw_bytes))?;
    let found = finish.index.id();
    if let Some(wanted) = options.expect_id.filter(|&wanted| wanted != found) {
        return Err(ImportError::WrongId { wanted, found });
    }
    finish.write(destination).map_err(ImportError::Write)?;
    let container_bytes = finish.container_bytes();
    Ok(Summary { index: finish.index, container_bytes, format, inspection: inspect(&head) })
}
