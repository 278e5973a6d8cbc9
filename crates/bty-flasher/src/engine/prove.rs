//! Proving: what was written is read back from the device, and has to be what the image has.
//!
//! What the device made zero by a command of its own (`BLKZEROOUT` where it has one) it did or refused to do as a whole; reading
//! all of that can take longer than the flash. So each such command is checked at its ends and in places between.

use std::sync::Mutex;

use bty_image::{container::chunk_value, is_zero};
use bty_sys::AlignedBuf;

use super::{
    FlashError, ReadBack,
    held::Shape,
    spans::{DATA_BYTES, HOLE_BYTES},
    work::{State, Work, lock},
};

/// Between two places of a zeroed run that are looked at.
const PLACES_BYTES: u64 = 4 << 20;
/// Size of such a place: a whole sector of any disk.
const PLACE_BYTES: u64 = 4096;

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
    let runs = Mutex::new(Runs { states: &states, shape, next: 0, looks: looks(work) });
    work.on_lanes(work.options.processors + 1, || {
        let mut buffer = AlignedBuf::new(usize::try_from(DATA_BYTES).unwrap_or_default());
        while let Some(run) = if work.is_over() { None } else { lock(&runs).next() } {
            if looks(work) && run.state == State::Zeroed {
                look(work, shape, run, &mut buffer)?;
            } else {
                check(work, shape, run, wanted, &mut buffer)?;
            }
            work.meter.advance(run.bytes(shape));
        }
        Ok(())
    })
}

/// How many bytes that is.
pub(super) fn bytes_to_prove(work: &Work<'_>, shape: Shape) -> u64 {
    let states = work.states();
    let runs = Runs { states: &states, shape, next: 0, looks: looks(work) };
    runs.map(|run| run.bytes(shape)).sum()
}

/// Whether what was made zero is looked at in places only.
fn looks(work: &Work<'_>) -> bool {
    work.options.read_back != ReadBack::All && work.target.zeroes_cheaply()
}

struct Runs<'a> {
    states: &'a [State],
    shape: Shape,
    next: usize,
    /// Whether runs of zeros may be as long as one request was, and end where one ended.
    looks: bool,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let rest = self.states.get(self.next..)?;
        let skip = rest.iter().position(|state| matches!(state, State::Written | State::Zeroed))?;
        let rest = rest.get(skip..)?;
        let &state = rest.first()?;
        let first = self.next + skip;
        let is_long = self.looks && state == State::Zeroed;
        let most = if is_long { HOLE_BYTES } else { DATA_BYTES };
        let most = usize::try_from(most / self.shape.chunk_bytes.max(1)).unwrap_or(1).max(1);
        let most = if is_long { most - first % most } else { most };
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

/// Looks at places of a run that the device made zero.
fn look(
    work: &Work<'_>,
    shape: Shape,
    run: Run,
    buffer: &mut AlignedBuf,
) -> Result<(), FlashError> {
    let start = run.first * shape.chunk_bytes;
    let end = start + work.padded(run.bytes(shape));
    let last = end.saturating_sub(PLACE_BYTES).max(start);
    let places = (start..last).step_by(usize::try_from(PLACES_BYTES).unwrap_or(usize::MAX));
    for offset in places.chain([last]) {
        let size = usize::try_from((end - offset).min(PLACE_BYTES)).unwrap_or_default();
        let room = buffer.get_mut(..size).ok_or(FlashError::Incomplete)?;
        work.target.read_at(room, offset).map_err(|source| FlashError::Read { offset, source })?;
        if !is_zero(room) {
            return Err(FlashError::Mismatch { offset });
        }
    }
    Ok(())
}

/// Reads a run and compares all of it.
fn check(
    work: &Work<'_>,
    shape: Shape,
    run: Run,
    wanted: &(dyn Fn(u64) -> Option<[u8; 32]> + Sync),
    buffer: &mut AlignedBuf,
) -> Result<(), FlashError> {
    let offset = run.first * shape.chunk_bytes;
    let bytes = run.bytes(shape);
    let size = usize::try_from(work.padded(bytes)).unwrap_or_default();
    let room = buffer.get_mut(..size).ok_or(FlashError::Incomplete)?;
    work.target.read_at(room, offset).map_err(|source| FlashError::Read { offset, source })?;
    if run.state == State::Zeroed {
        return if is_zero(room) { Ok(()) } else { Err(FlashError::Mismatch { offset }) };
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
    Ok(())
}
