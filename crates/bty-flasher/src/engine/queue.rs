//! Writes in flight: workers fill buffers, writers write them and give them back. So the disk always has something to do, and
//! nobody who could decompress waits for it.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use bty_sys::AlignedBuf;

use super::{
    FlashError,
    work::{State, Work, lock},
};

/// Requests in flight. With [`super::spans::DATA_BYTES`] each, enough for any disk; more only take memory.
const WRITERS: usize = 6;
/// A cancel comes from without and wakes nobody: it is looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to write of a buffer.
#[derive(Debug)]
pub(super) struct Part {
    /// Its bytes there, whole sectors.
    pub(super) bytes: Range<usize>,
    /// Where on the disk.
    pub(super) raw_offset: u64,
    /// The number of its first chunk.
    pub(super) first: u64,
    /// How many chunks.
    pub(super) chunks: u64,
}

/// Buffers on their way from workers to writers and back.
pub(super) struct Queue<'a> {
    work: &'a Work<'a>,
    buffers: Mutex<Buffers>,
    changed: Condvar,
}

struct Buffers {
    free: Vec<AlignedBuf>,
    full: VecDeque<(AlignedBuf, Vec<Part>)>,
    /// Whether more may come.
    is_open: bool,
}

impl<'a> Queue<'a> {
    /// Runs `lane` on so many threads, which may put to the queue; returns when all of that is written, or on the first failure.
    pub(super) fn run(
        work: &'a Work<'a>,
        lanes: usize,
        buffer_bytes: u64,
        lane: impl Fn(&Self) -> Result<(), FlashError> + Sync,
    ) -> Result<(), FlashError> {
        let size = usize::try_from(buffer_bytes).unwrap_or_default();
        let free = (0..lanes + WRITERS).map(|_| AlignedBuf::new(size)).collect();
        let buffers = Mutex::new(Buffers { free, full: VecDeque::new(), is_open: true });
        let queue = Self { work, buffers, changed: Condvar::new() };
        let run = |part: &dyn Fn(&Self) -> Result<(), FlashError>| {
            let _ends = EndsAll(&queue);
            part(&queue).unwrap_or_else(|problem| work.fail(problem));
        };
        thread::scope(|scope| {
            let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(|| run(&lane))).collect();
            for _ in 0..WRITERS {
                scope.spawn(|| run(&Self::write_all));
            }
            let panicked = lanes.into_iter().find_map(|lane| lane.join().err());
            lock(&queue.buffers).is_open = false;
            queue.changed.notify_all();
            if let Some(panic) = panicked {
                std::panic::resume_unwind(panic);
            }
        });
        work.outcome()
    }

    /// A buffer to fill, once there is one; `None` where the work is over.
    pub(super) fn take(&self) -> Option<AlignedBuf> {
        self.wait(|buffers| buffers.free.pop().ok_or(true))
    }

    /// Has these parts of a buffer written.
    pub(super) fn put(&self, buffer: AlignedBuf, parts: Vec<Part>) {
        let mut buffers = lock(&self.buffers);
        if parts.is_empty() {
            buffers.free.push(buffer);
        } else {
            buffers.full.push_back((buffer, parts));
        }
        drop(buffers);
        self.changed.notify_all();
    }

    fn write_all(&self) -> Result<(), FlashError> {
        while let Some((buffer, parts)) =
            self.wait(|buffers| buffers.full.pop_front().ok_or(buffers.is_open))
        {
            for Part { bytes, raw_offset, first, chunks } in &parts {
                let bytes = buffer.get(bytes.clone()).ok_or(FlashError::Incomplete)?;
                self.work.write(bytes, *raw_offset)?;
                self.work.mark(*first, *chunks, State::Written);
            }
            self.put(buffer, Vec::new());
        }
        Ok(())
    }

    /// Waits until `next` gives something; `None` where it says that nothing more comes, or the work is over.
    fn wait<T>(&self, mut next: impl FnMut(&mut Buffers) -> Result<T, bool>) -> Option<T> {
        let mut buffers = lock(&self.buffers);
        while !self.work.is_over() {
            match next(&mut buffers) {
                Ok(found) => return Some(found),
                Err(false) => return None,
                Err(true) => {
                    buffers = self
                        .changed
                        .wait_timeout(buffers, LOOK_EVERY)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
            }
        }
        None
    }
}

/// Ends the work of the others where this thread's ends by a failure or a panic.
struct EndsAll<'a>(&'a Queue<'a>);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.work.stop();
        }
        self.0.changed.notify_all();
    }
}
