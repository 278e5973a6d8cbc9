//! The ways that go through the block layer: discard, and zeros that are read back.

use std::sync::atomic::{AtomicBool, Ordering};

use bty_sys::AlignedBuf;

use super::{Device, Failed, Said, Say};
use crate::device::Target;

/// Told to the disk at once: small enough that it can be called off, large enough to be fast.
const STEP_BYTES: u64 = 256 << 20;
/// Read or written at once.
const BUFFER_BYTES: usize = 4 << 20;

/// Discards everything; `secure` has the disk erase every copy.
pub(super) fn discard(
    device: &dyn Device,
    secure: bool,
    cancelled: &AtomicBool,
    say: Say<'_>,
) -> Result<(), Failed> {
    each(device, STEP_BYTES, cancelled, |offset, bytes| {
        let told = if secure {
            device.secure_discard(offset, bytes)
        } else {
            device.discard(offset, bytes)
        };
        told.map_err(|source| Failed::Disk { doing: "discarding", offset, source })?;
        say(Said::Progress { done: offset + bytes, total: device.size_bytes() });
        Ok(())
    })?;
    flush(device)
}

/// Makes everything zero, by the disk itself where it can, and reads it back.
pub(super) fn zero(
    device: &dyn Device,
    cancelled: &AtomicBool,
    say: Say<'_>,
) -> Result<(), Failed> {
    // Writing is half of the work, reading back the other.
    let total = device.size_bytes().saturating_mul(2);
    each(device, STEP_BYTES / 4, cancelled, |offset, bytes| {
        device.zero(offset, bytes).map_err(|source| Failed::Disk {
            doing: "zeroing",
            offset,
            source,
        })?;
        say(Said::Progress { done: offset + bytes, total });
        Ok(())
    })?;
    flush(device)?;
    let mut buffer = AlignedBuf::new(BUFFER_BYTES);
    each(device, BUFFER_BYTES as u64, cancelled, |offset, bytes| {
        if !is_zero(device, &mut buffer, offset, bytes)? {
            return Err(Failed::NotZero { offset });
        }
        say(Said::Progress { done: device.size_bytes() + offset + bytes, total });
        Ok(())
    })
}

/// Whether this range, at most a buffer long, reads as zeros.
pub(super) fn is_zero(
    device: &dyn Target,
    buffer: &mut AlignedBuf,
    offset: u64,
    bytes: u64,
) -> Result<bool, Failed> {
    let room = usize::try_from(bytes).ok().and_then(|bytes| buffer.get_mut(..bytes));
    let room = room.unwrap_or_default();
    device.read_at(room, offset).map_err(|source| Failed::Disk {
        doing: "reading",
        offset,
        source,
    })?;
    Ok(room.iter().all(|byte| *byte == 0))
}

fn flush(device: &dyn Device) -> Result<(), Failed> {
    device.flush().map_err(|source| Failed::Disk { doing: "flushing", offset: 0, source })
}

/// Goes over the disk in steps, until somebody calls it off. The work is given where a step begins and how long it is.
fn each(
    device: &dyn Device,
    step_bytes: u64,
    cancelled: &AtomicBool,
    mut work: impl FnMut(u64, u64) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let size = device.size_bytes();
    let mut offset = 0;
    while offset < size {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Failed::Cancelled);
        }
        let bytes = step_bytes.min(size - offset);
        work(offset, bytes)?;
        offset += bytes;
    }
    Ok(())
}
