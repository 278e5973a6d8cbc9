//! The disk while it becomes the image: what is known of each chunk, and the one way to change anything on it.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bty_disk::device::Target;
use bty_image::is_zero;
use bty_sys::AlignedBuf;

use super::{
    FlashError, Holes, Meter, Options, choice::Compare, edges::Edges, held::Held, spans::Span,
};

/// What is known of a chunk of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It was read, and is what the image has.
    Right,
    /// It was written.
    Written,
    /// It was made zero.
    Zeroed,
    /// It is a hole, and was left as it is.
    Left,
}

/// Bytes by what became of them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) compared: AtomicU64,
    pub(super) right: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) zeroed: AtomicU64,
    /// Chunks that came wrong and were fetched again.
    pub(super) refetched: AtomicU64,
}

impl Counts {
    pub(super) fn add(counter: &AtomicU64, bytes: u64) {
        counter.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The disk while it becomes the image. Shared by all workers.
pub(super) struct Work<'a> {
    pub(super) target: &'a dyn Target,
    pub(super) edges: Edges,
    pub(super) options: &'a Options,
    pub(super) meter: &'a Meter<'a>,
    pub(super) counts: &'a Counts,
    cancelled: &'a AtomicBool,
    /// Whether what makes the disk bootable was taken away, as it is before anything else is changed.
    blanked: Mutex<bool>,
    states: Mutex<Vec<State>>,
    failed: Mutex<Option<FlashError>>,
    stop: AtomicBool,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        target: &'a dyn Target,
        options: &'a Options,
        cancelled: &'a AtomicBool,
        meter: &'a Meter<'a>,
    ) -> Self {
        Self {
            target,
            edges: Edges::of(target.size_bytes()),
            options,
            meter,
            counts: &meter.counts,
            cancelled,
            blanked: Mutex::new(false),
            states: Mutex::default(),
            failed: Mutex::new(None),
            stop: AtomicBool::new(false),
        }
    }

    /// Whether to begin nothing more.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Runs `lane` on so many threads; the first failure stops them all.
    pub(super) fn on_lanes(
        &self,
        lanes: usize,
        lane: impl Fn() -> Result<(), FlashError> + Sync,
    ) -> Result<(), FlashError> {
        std::thread::scope(|scope| {
            for _ in 0..lanes {
                scope.spawn(|| lane().unwrap_or_else(|problem| self.fail(problem)));
            }
        });
        self.outcome()
    }

    /// Has nobody begin anything more.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends the work of all for this reason, unless it has ended for another.
    pub(super) fn fail(&self, problem: FlashError) {
        self.stop();
        lock(&self.failed).get_or_insert(problem);
    }

    /// The failure that ended it, if one did.
    pub(super) fn outcome(&self) -> Result<(), FlashError> {
        if let Some(problem) = lock(&self.failed).take() {
            return Err(problem);
        }
        if self.is_cancelled() {
            return Err(FlashError::Cancelled { blanked: self.is_blanked() });
        }
        Ok(())
    }

    /// Whether what makes the disk bootable was taken away; before that nothing else on it is changed.
    pub(super) fn is_blanked(&self) -> bool {
        *lock(&self.blanked)
    }

    /// Takes away what makes the disk bootable, unless that was done.
    pub(super) fn spoil(&self) -> Result<(), FlashError> {
        let mut blanked = lock(&self.blanked);
        if !*blanked {
            // Only when it is done: another worker may be waiting here to write.
            self.blank()?;
            *blanked = true;
        }
        Ok(())
    }

    /// Takes away boot code and partition table at the disk's beginning, and the backup table at its end.
    pub(super) fn blank(&self) -> Result<(), FlashError> {
        let size = usize::try_from(self.edges.bytes()).unwrap_or_default();
        let zeros = AlignedBuf::new(size);
        let bytes = zeros.get(..size).unwrap_or_default();
        // Real zeros, not a request to the device: whatever it makes of such requests, this must have happened.
        for offset in [0, self.edges.end()] {
            self.target
                .write_at(bytes, offset)
                .map_err(|source| FlashError::Write { offset, source })?;
            Counts::add(&self.counts.written, bytes.len() as u64);
        }
        self.target.flush().map_err(FlashError::Flush)
    }

    /// Writes these chunks, padded to whole sectors.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), FlashError> {
        self.spoil()?;
        self.target
            .write_at(bytes, offset)
            .map_err(|source| FlashError::Write { offset, source })?;
        Counts::add(&self.counts.written, bytes.len() as u64);
        Ok(())
    }

    /// Reads what the disk has, to compare it. What can't be read is not right, and may be mended by being written.
    pub(super) fn look(&self, buffer: &mut [u8], offset: u64) -> bool {
        Counts::add(&self.counts.compared, buffer.len() as u64);
        self.target.read_at(buffer, offset).is_ok()
    }

    /// Has a hole read as zeros, if that is wanted.
    pub(super) fn hole(&self, span: Span, buffer: &mut AlignedBuf) -> Result<(), FlashError> {
        let Span { first, chunks, raw_offset, raw_bytes } = span;
        if self.options.holes == Holes::Keep {
            self.mark(first, chunks, State::Left);
            self.meter.advance(raw_bytes);
            return Ok(());
        }
        // Once it is known that the disk is not the image, zeroing that costs nothing is no harm.
        let looks = self.options.compare != Compare::Off
            && !(self.is_blanked() && self.target.zeroes_cheaply());
        let padded = self.padded(raw_bytes);
        let zeros = if looks { self.zeros_from(raw_offset, padded, buffer) } else { 0 };
        if self.is_over() {
            // The look may have ended for that, and not for what was found.
            return Ok(());
        }
        let chunk_bytes = raw_bytes.div_ceil(chunks.max(1)).next_power_of_two();
        let right = if zeros == padded { chunks } else { zeros / chunk_bytes };
        self.mark(first, right, State::Right);
        Counts::add(&self.counts.right, zeros.min(raw_bytes));
        if right < chunks {
            let done = right * chunk_bytes;
            self.spoil()?;
            self.zero(raw_offset + done, padded - done, buffer)?;
            self.mark(first + right, chunks - right, State::Zeroed);
            Counts::add(&self.counts.zeroed, raw_bytes - done);
        }
        self.meter.advance(raw_bytes);
        Ok(())
    }

    /// How many bytes from here, of so many, are zeros, as far as a first look at each piece tells.
    fn zeros_from(&self, offset: u64, bytes: u64, buffer: &mut AlignedBuf) -> u64 {
        let mut zeros = 0;
        while zeros < bytes && !self.is_over() {
            let size = usize::try_from(bytes - zeros).unwrap_or(usize::MAX).min(buffer.len());
            let room = buffer.get_mut(..size).unwrap_or_default();
            if !self.look(room, offset + zeros) || !is_zero(room) {
                break;
            }
            zeros += size as u64;
        }
        zeros
    }

    fn zero(&self, offset: u64, bytes: u64, buffer: &mut AlignedBuf) -> Result<(), FlashError> {
        let failed = |source| FlashError::Write { offset, source };
        // What a discarded range reads as is up to the device: zeros, nearly always.
        if self.options.holes == Holes::Discard
            && self.target.discard(offset, bytes).is_ok()
            && self.zeros_from(offset, bytes, buffer) == bytes
        {
            return Ok(());
        }
        self.target.zero(offset, bytes).map_err(failed)
    }

    /// So many bytes and what is missing of a sector.
    pub(super) fn padded(&self, bytes: u64) -> u64 {
        bytes.next_multiple_of(self.target.sector_bytes().into())
    }

    pub(super) fn mark(&self, first: u64, chunks: u64, state: State) {
        let range = usize::try_from(first).unwrap_or(usize::MAX)
            ..usize::try_from(first + chunks).unwrap_or(usize::MAX);
        let mut states = lock(&self.states);
        if states.len() < range.end {
            states.resize(range.end, State::Unknown);
        }
        states.get_mut(range).unwrap_or_default().fill(state);
    }

    /// Whether something became of each of so many chunks, but for those that are held back.
    pub(super) fn is_whole(&self, chunks: u64, held: &[Held]) -> bool {
        let states = lock(&self.states);
        let state = |number| states.get(usize::try_from(number).ok()?).copied();
        let is_held = |number| held.iter().any(|held| held.number == number);
        (0..chunks).all(|number| {
            state(number).is_some_and(|state| state != State::Unknown) || is_held(number)
        })
    }

    /// What is known of each chunk, by number.
    pub(super) fn states(&self) -> Vec<State> {
        lock(&self.states).clone()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
