//! Proving: what the device gives back must be what was written, chunk by chunk, and all together the image's id.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use bty_disk::device::Target;
use bty_image::container::{MAX_CHUNK_BYTES, Proof, chunk_value};
use bty_sys::AlignedBuf;

use super::{
    FlashError, Meter, Options,
    write::{Held, Written},
};

/// Reads back every chunk that was not held back.
pub(super) fn prove_all(
    written: &Written,
    target: &dyn Target,
    options: &Options,
    cancelled: &AtomicBool,
    meter: &Meter<'_>,
    proof: &mut Proof,
) -> Result<(), FlashError> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let shared = Mutex::new((proof, None));
    thread::scope(|scope| {
        for _ in 0..options.workers.max(1) {
            scope.spawn(|| {
                let mut buffer =
                    AlignedBuf::new(usize::try_from(MAX_CHUNK_BYTES).unwrap_or_default());
                while !stop.load(Ordering::Relaxed) && !cancelled.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= written.chunks() {
                        return;
                    }
                    if written.held.iter().any(|held| held.number == number) {
                        continue;
                    }
                    let checked = check(written, target, number, &mut buffer);
                    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    match checked {
                        Ok(value) => shared.0.add(number, value),
                        Err(problem) => {
                            stop.store(true, Ordering::Relaxed);
                            shared.1.get_or_insert(problem);
                        }
                    }
                    drop(shared);
                    meter.advance(size_of(written, number));
                }
            });
        }
    });
    let (_, failed) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

/// Reads back chunks that were held back and are written now.
pub(super) fn prove_held(
    held: &[&Held],
    written: &Written,
    target: &dyn Target,
    proof: &mut Proof,
) -> Result<(), FlashError> {
    let mut buffer = AlignedBuf::new(usize::try_from(MAX_CHUNK_BYTES).unwrap_or_default());
    held.iter().try_for_each(|held| {
        proof.add(held.number, check(written, target, held.number, &mut buffer)?);
        Ok(())
    })
}

fn size_of(written: &Written, number: u64) -> u64 {
    (written.raw_bytes - number * written.chunk_bytes).min(written.chunk_bytes)
}

fn check(
    written: &Written,
    target: &dyn Target,
    number: u64,
    buffer: &mut AlignedBuf,
) -> Result<[u8; 32], FlashError> {
    let offset = number * written.chunk_bytes;
    let size = usize::try_from(size_of(written, number)).unwrap_or_default();
    let padded = size.next_multiple_of(usize::try_from(target.sector_bytes()).unwrap_or(512));
    let room = buffer.get_mut(..padded).ok_or(FlashError::Incomplete)?;
    target.read_at(room, offset).map_err(|source| FlashError::Read { offset, source })?;
    let bytes = buffer.get(..size).unwrap_or_default();
    let value = chunk_value(bytes, offset, written.chunks() == 1);
    let wanted =
        usize::try_from(number).ok().and_then(|at| written.values.get(at)).copied().flatten();
    if wanted == Some(value) { Ok(value) } else { Err(FlashError::Mismatch { offset }) }
}
