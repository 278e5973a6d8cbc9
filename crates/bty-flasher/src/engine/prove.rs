//! Proving: what was written is read back from the device, and has to be what the image has.

use std::sync::Mutex;

use bty_image::{container::chunk_value, is_zero};
use bty_sys::AlignedBuf;

use super::{
    FlashError,
    held::Shape,
    spans::DATA_BYTES,
    work::{State, Work, lock},
};

/// Chunks that follow each other and were all written, or all made zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    chunks: u64,
    state: State,
}

/// Reads back every chunk that was written or made zero, but for those that are held back.
pub(super) fn prove_all(
    work: &Work<'_>,
    shape: Shape,
    wanted: &(dyn Fn(u64) -> Option<[u8; 32]> + Sync),
) -> Result<(), FlashError> {
    let states = work.states();
    let runs = Mutex::new(Runs { states: &states, shape, next: 0 });
    work.on_lanes(work.options.processors + 1, || {
        let mut buffer = AlignedBuf::new(usize::try_from(DATA_BYTES).unwrap_or_default());
        while let Some(run) = if work.is_over() { None } else { lock(&runs).next() } {
            let bytes = check(work, shape, run, wanted, &mut buffer)?;
            work.meter.advance(bytes);
        }
        Ok(())
    })
}

/// How many bytes that is.
pub(super) fn bytes_to_prove(work: &Work<'_>, shape: Shape) -> u64 {
    let states = work.states();
    let runs = Runs { states: &states, shape, next: 0 };
    runs.map(|run| run.bytes(shape)).sum()
}

struct Runs<'a> {
    states: &'a [State],
    shape: Shape,
    next: usize,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let rest = self.states.get(self.next..)?;
        let skip = rest.iter().position(|state| matches!(state, State::Written | State::Zeroed))?;
        let rest = rest.get(skip..)?;
        let &state = rest.first()?;
        let first = self.next + skip;
        let most = usize::try_from(DATA_BYTES / self.shape.chunk_bytes.max(1)).unwrap_or(1).max(1);
        let chunks = rest.iter().take(most).take_while(|&&next| next == state).count();
        self.next = first + chunks;
        Some(Run { first: first as u64, chunks: chunks as u64, state })
    }
}

impl Run {
    fn bytes(self, shape: Shape) -> u64 {
        (self.first..self.first + self.chunks).map(|number| shape.size(number)).sum()
    }
}

fn check(
    work: &Work<'_>,
    shape: Shape,
    run: Run,
    wanted: &(dyn Fn(u64) -> Option<[u8; 32]> + Sync),
    buffer: &mut AlignedBuf,
) -> Result<u64, FlashError> {
    let offset = run.first * shape.chunk_bytes;
    let bytes = run.bytes(shape);
    let size = usize::try_from(work.padded(bytes)).unwrap_or_default();
    let room = buffer.get_mut(..size).ok_or(FlashError::Incomplete)?;
    work.target.read_at(room, offset).map_err(|source| FlashError::Read { offset, source })?;
    if run.state == State::Zeroed {
        return if is_zero(room) { Ok(bytes) } else { Err(FlashError::Mismatch { offset }) };
    }
    let mut rest = room.get(..usize::try_from(bytes).unwrap_or_default()).unwrap_or_default();
    for number in run.first..run.first + run.chunks {
        let offset = number * shape.chunk_bytes;
        let size = usize::try_from(shape.size(number)).unwrap_or_default();
        let (raw, after) = rest.split_at_checked(size).ok_or(FlashError::Incomplete)?;
        rest = after;
        if wanted(number) != Some(chunk_value(raw, offset, shape.is_one_chunk())) {
            return Err(FlashError::Mismatch { offset });
        }
    }
    Ok(bytes)
}
