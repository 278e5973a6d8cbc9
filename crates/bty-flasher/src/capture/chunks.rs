//! The chunks of a disk on their way to a registry: hashed and compressed on all processors, in their order, and nothing sent that the
//! base image has or that is all zeros.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use bty_api::registry::v1::{CapturedChunk, capture_image_request::Part};
use bty_image::{
    assemble::frame_compressor,
    container::{Merging, chunk_value},
    is_zero,
};
use bty_types::ImageId;

/// Buffers for each worker: one in work, one waiting before it, one after it.
const BUFFERS_PER_WORKER: usize = 3;
/// Chunks that are told of at once at most: the registry tells of the base as far as it was told of the disk.
const MOST_ALIKE: u64 = 4096;

/// How a disk is cut up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) raw_bytes: u64,
    pub(crate) chunk_bytes: u32,
    /// How many values of the base will come.
    pub(crate) base_chunks: u64,
    /// zstd's level.
    pub(crate) level: i32,
    pub(crate) workers: usize,
}

/// Why it ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChunksError {
    /// The disk can't be read.
    #[error("reading the disk after {0} bytes")]
    Read(u64, #[source] io::Error),
    /// A compressor can't be had, or fails.
    #[error("compressing")]
    Compress(#[source] io::Error),
    /// Nobody takes it any more, who says why.
    #[error("the registry ended the capture")]
    Ended,
}

struct Task {
    number: u64,
    raw: Vec<u8>,
    base: Option<[u8; 32]>,
}

struct Done {
    number: u64,
    raw: Vec<u8>,
    value: [u8; 32],
    what: What,
}

enum What {
    Same,
    Zeros,
    Frame(Vec<u8>),
}

/// Cuts a disk into chunks and passes on what there is to say of them; gives the disk's id. `values` gives the next 32 bytes of what the
/// base has.
pub(crate) fn chunks(
    disk: &mut (impl Read + Send),
    cut: Cut,
    values: &mut (impl FnMut() -> Option<[u8; 32]> + Send),
    pass: &mut impl FnMut(Part) -> bool,
    progress: &mut impl FnMut(u64),
) -> Result<ImageId, ChunksError> {
    let workers = cut.workers.max(1);
    let buffers = BUFFERS_PER_WORKER * workers;
    let (to_workers, tasks) = mpsc::sync_channel(buffers);
    let (to_us, results) = mpsc::sync_channel(buffers);
    let (recycle, recycled) = mpsc::sync_channel(buffers);
    let tasks = Arc::new(Mutex::new(tasks));
    let compressors: Vec<_> = (0..workers)
        .map(|_| frame_compressor(cut.level))
        .collect::<io::Result<_>>()
        .map_err(ChunksError::Compress)?;
    thread::scope(|scope| {
        let reader = scope.spawn(move || read(disk, cut, values, buffers, &recycled, &to_workers));
        for mut compressor in compressors {
            let (tasks, to_us) = (Arc::clone(&tasks), to_us.clone());
            scope.spawn(move || {
                loop {
                    let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(task) = task else { return };
                    let done = process(task, cut, |raw| compressor.compress(raw));
                    if to_us.send(done).is_err() {
                        return;
                    }
                }
            });
        }
        // The workers hold the ends that count: when they go, the reader notices.
        drop((to_us, tasks));
        let told = tell(&results, &recycle, cut, pass, progress);
        drop((results, recycle));
        let read = reader.join().unwrap_or_else(|_| {
            Err(ChunksError::Compress(io::Error::other("the reader panicked")))
        });
        read.and(told)
    })
}

fn read(
    disk: &mut impl Read,
    cut: Cut,
    values: &mut impl FnMut() -> Option<[u8; 32]>,
    buffers: usize,
    recycled: &mpsc::Receiver<Vec<u8>>,
    tasks: &mpsc::SyncSender<Task>,
) -> Result<(), ChunksError> {
    let mut at = 0;
    for number in 0..cut.raw_bytes.div_ceil(cut.chunk_bytes.into()) {
        let mut raw = if usize::try_from(number).is_ok_and(|number| number < buffers) {
            Vec::new()
        } else {
            let Ok(raw) = recycled.recv() else { return Ok(()) };
            raw
        };
        let bytes = u64::from(cut.chunk_bytes).min(cut.raw_bytes - at);
        raw.resize(usize::try_from(bytes).unwrap_or_default(), 0);
        disk.read_exact(&mut raw).map_err(|problem| ChunksError::Read(at, problem))?;
        at += bytes;
        let base = if number < cut.base_chunks {
            let Some(value) = values() else { return Err(ChunksError::Ended) };
            Some(value)
        } else {
            None
        };
        if tasks.send(Task { number, raw, base }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn process(
    task: Task,
    cut: Cut,
    compress: impl FnOnce(&[u8]) -> io::Result<Vec<u8>>,
) -> io::Result<Done> {
    let Task { number, raw, base } = task;
    let offset = number * u64::from(cut.chunk_bytes);
    let value = chunk_value(&raw, offset, cut.raw_bytes <= cut.chunk_bytes.into());
    let what = if is_zero(&raw) {
        What::Zeros
    } else if base == Some(value) {
        What::Same
    } else {
        What::Frame(compress(&raw)?)
    };
    Ok(Done { number, raw, value, what })
}

/// What there is to say of chunks that are alike and follow each other.
#[derive(Clone, Copy)]
enum Run {
    Same(u64),
    Zeros(u64),
}

impl Run {
    fn part(self) -> Part {
        match self {
            Self::Same(chunks) => Part::SameChunks(chunks),
            Self::Zeros(chunks) => Part::ZeroChunks(chunks),
        }
    }
}

fn tell(
    results: &mpsc::Receiver<io::Result<Done>>,
    recycle: &mpsc::SyncSender<Vec<u8>>,
    cut: Cut,
    pass: &mut impl FnMut(Part) -> bool,
    progress: &mut impl FnMut(u64),
) -> Result<ImageId, ChunksError> {
    let mut early: BTreeMap<u64, Done> = BTreeMap::new();
    let (mut next, mut merging, mut run) = (0, Merging::default(), None);
    let mut say = |part| if pass(part) { Ok(()) } else { Err(ChunksError::Ended) };
    for done in results {
        let done = done.map_err(ChunksError::Compress)?;
        early.insert(done.number, done);
        while let Some(done) = early.remove(&next) {
            next += 1;
            merging.add(done.value);
            let longer = match (&done.what, run) {
                (What::Same, Some(Run::Same(chunks))) if chunks < MOST_ALIKE => {
                    Some(Run::Same(chunks + 1))
                }
                (What::Zeros, Some(Run::Zeros(chunks))) if chunks < MOST_ALIKE => {
                    Some(Run::Zeros(chunks + 1))
                }
                _ => None,
            };
            if longer.is_some() {
                run = longer;
            } else {
                if let Some(run) = run.take() {
                    say(run.part())?;
                }
                match done.what {
                    What::Same => run = Some(Run::Same(1)),
                    What::Zeros => run = Some(Run::Zeros(1)),
                    What::Frame(frame) => {
                        let value = done.value.to_vec();
                        say(Part::Chunk(CapturedChunk { value, frame }))?;
                    }
                }
            }
            progress((next * u64::from(cut.chunk_bytes)).min(cut.raw_bytes));
            // The reader may have ended; then the buffer has served.
            let _ = recycle.try_send(done.raw);
        }
    }
    if let Some(run) = run {
        say(run.part())?;
    }
    // Fewer chunks came only where the reader has failed, which says why.
    merging.id().ok_or(ChunksError::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 64 * 1024;

    #[test]
    fn what_the_base_has_and_zeros_are_not_sent() {
        let mut disk: Vec<u8> =
            (0..CHUNK * 9 + 512).map(|at| u8::try_from(at % 249).unwrap()).collect();
        disk[CHUNK * 3..CHUNK * 6].fill(0);
        let value = |number: usize| {
            let end = disk.len().min((number + 1) * CHUNK);
            chunk_value(&disk[number * CHUNK..end], (number * CHUNK) as u64, false)
        };
        // The base has another chunk 1, and nothing from 8 on.
        let mut base = (0..8).map(|number| if number == 1 { [0; 32] } else { value(number) });
        let (mut parts, mut last) = (Vec::new(), 0);
        let cut = Cut {
            raw_bytes: disk.len() as u64,
            chunk_bytes: u32::try_from(CHUNK).unwrap(),
            base_chunks: 8,
            level: 3,
            workers: 3,
        };
        let id = chunks(
            &mut disk.as_slice(),
            cut,
            &mut || base.next(),
            &mut |part| {
                parts.push(match part {
                    Part::SameChunks(chunks) => format!("{chunks} same"),
                    Part::ZeroChunks(chunks) => format!("{chunks} zeros"),
                    Part::Chunk(_) => "one".to_owned(),
                    other => panic!("{other:?}"),
                });
                true
            },
            &mut |bytes| last = bytes,
        );
        assert_eq!(id.unwrap(), ImageId::from(blake3::hash(&disk)));
        assert_eq!(parts, ["1 same", "one", "1 same", "3 zeros", "2 same", "one", "one"]);
        assert_eq!(last, disk.len() as u64);
    }

    #[test]
    fn it_ends_where_the_disk_or_the_registry_does() {
        let cut = |raw_bytes| Cut {
            raw_bytes,
            chunk_bytes: u32::try_from(CHUNK).unwrap(),
            base_chunks: 0,
            level: 1,
            workers: 2,
        };
        let disk = vec![5; CHUNK * 40];
        let short = chunks(&mut &disk[..], cut(1 << 30), &mut || None, &mut |_| true, &mut |_| ());
        assert!(matches!(short, Err(ChunksError::Read(2_621_440, _))), "{short:?}");
        let ended =
            chunks(&mut &disk[..], cut(2_621_440), &mut || None, &mut |_| false, &mut |_| ());
        assert!(matches!(ended, Err(ChunksError::Ended)), "{ended:?}");
    }
}
