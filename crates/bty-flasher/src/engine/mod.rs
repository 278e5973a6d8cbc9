//! The flash: from a supply of chunks to a disk that is the image, and knows it.
//!
//! The steps, in this order: the gate; **blank** the places that make a disk bootable; **write** every chunk but those; **flush**;
//! **prove**, by reading back everything from the device; write the **first chunk** (and the end of the disk, where a backup
//! partition table may be) last, flush, read them back. So at no time before the end does the disk boot, not even by a firmware
//! that repairs a partition table from its backup, and a flash that ends well ends with the id of what the disk really holds.
//! After an error the disk stays blanked.

mod error;
mod event;
mod prove;
mod write;

#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use bty_disk::device::Target;
use bty_image::container::Proof;
use bty_sys::AlignedBuf;
use bty_types::ImageId;

pub use error::FlashError;
pub use event::{Event, Meter, Step, StepTime};
use write::{Held, Written};

use crate::supply::Supply;

/// How to flash.
#[derive(Debug, Clone)]
pub struct Options {
    /// Read everything back from the device. Without it the id is of what was written, and nothing proves that it arrived.
    pub readback: bool,
    /// Threads that decompress, verify and write.
    pub workers: usize,
    /// The id that the image must have.
    pub expect_id: Option<ImageId>,
}

impl Default for Options {
    fn default() -> Self {
        // More than processors: while one waits for the disk another decompresses.
        let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 4) + 1;
        Self { readback: true, workers, expect_id: None }
    }
}

/// What a good flash came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Record {
    /// The id of what the disk holds: read back from it, unless that was left out.
    pub id: ImageId,
    /// Whether it was read back.
    pub proved: bool,
    /// Bytes of the raw disk.
    pub raw_bytes: u64,
    /// Bytes that came from the source.
    pub fetched_bytes: u64,
    /// Bytes written to the disk.
    pub written_bytes: u64,
    /// Bytes made zero by the device.
    pub zeroed_bytes: u64,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
    /// How long each step took, in order.
    pub steps: Vec<StepTime>,
}

/// How much at the disk's beginning and end is blanked at least: a GPT and its backup with 4096-byte sectors need 6 sectors, boot
/// loaders in the gap after an MBR up to 1 MiB.
pub(crate) const EDGE_BYTES: u64 = 1 << 20;

/// Writes what the supply gives to the target. `report` is called from several threads, a few times a second.
pub fn flash(
    supply: &mut dyn Supply,
    target: &dyn Target,
    options: &Options,
    cancelled: &AtomicBool,
    report: &(dyn Fn(Event) + Sync),
) -> Result<Record, FlashError> {
    let started = Instant::now();
    check(supply, target, options)?;
    let meter = Meter::new(report);

    meter.step(Step::Blank, 0);
    blank(target)?;
    meter.step(Step::Write, supply.raw_bytes().unwrap_or_default());
    let written = write::write_all(supply, target, options, cancelled, &meter)?;
    meter.step(Step::Flush, 0);
    target.flush().map_err(FlashError::Flush)?;
    let image = Image { id: written.id(), written };
    if let Some(wanted) = options.expect_id.filter(|&wanted| Some(wanted) != image.id) {
        return Err(FlashError::WrongId { wanted, found: image.id });
    }
    let id = image.id.ok_or(FlashError::Incomplete)?;

    let mut proof = Proof::new(image.written.chunks());
    if options.readback {
        meter.step(Step::Prove, image.written.raw_bytes);
        prove::prove_all(&image.written, target, options, cancelled, &meter, &mut proof)?;
    }
    if cancelled.load(Ordering::Relaxed) {
        return Err(FlashError::Cancelled);
    }
    meter.step(Step::FirstChunk, 0);
    if let Err(problem) = finish(&image.written, target, options.readback, proof, id) {
        // What was found wrong must not boot; a disk that can't even be blanked any more is beyond help.
        let _ = blank(target);
        return Err(problem);
    }
    Ok(Record {
        steps: meter.end(),
        id,
        proved: options.readback,
        raw_bytes: image.written.raw_bytes,
        fetched_bytes: supply.fetched_bytes(),
        written_bytes: image.written.stored_bytes,
        zeroed_bytes: image.written.zeroed_bytes,
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// What was written, and the id that it has.
struct Image {
    written: Written,
    id: Option<ImageId>,
}

/// What can be known to be wrong before anything is written.
fn check(supply: &dyn Supply, target: &dyn Target, options: &Options) -> Result<(), FlashError> {
    if let (Some(wanted), Some(found)) = (options.expect_id, supply.id())
        && wanted != found
    {
        return Err(FlashError::OtherImage { wanted, found });
    }
    let has = target.size_bytes();
    match supply.raw_bytes() {
        Some(needs) if needs > has => Err(FlashError::TooSmall { needs, has }),
        _ => Ok(()),
    }
}

/// Takes away what makes the disk bootable: boot code and partition table at its beginning, the backup table at its end.
fn blank(target: &dyn Target) -> Result<(), FlashError> {
    let size = target.size_bytes();
    let edge = EDGE_BYTES.min(size);
    let zeros = AlignedBuf::new(usize::try_from(edge).unwrap_or_default());
    let bytes = usize::try_from(edge).ok().and_then(|edge| zeros.get(..edge)).unwrap_or_default();
    // Real zeros, not a request to the device: whatever it makes of such requests, this must have happened.
    for offset in [0, size - edge] {
        target.write_at(bytes, offset).map_err(|source| FlashError::Write { offset, source })?;
    }
    target.flush().map_err(FlashError::Flush)
}

/// Writes what was held back: the disk's end, and when that is proved, its beginning. Then the disk is the image.
fn finish(
    written: &Written,
    target: &dyn Target,
    readback: bool,
    mut proof: Proof,
    id: ImageId,
) -> Result<(), FlashError> {
    let (first, end): (Vec<&Held>, Vec<&Held>) =
        written.held.iter().partition(|held| held.raw_offset == 0);
    for part in [end, first] {
        for held in &part {
            let offset = held.raw_offset;
            target
                .write_at(held.padded(), offset)
                .map_err(|source| FlashError::Write { offset, source })?;
        }
        target.flush().map_err(FlashError::Flush)?;
        if readback {
            prove::prove_held(&part, written, target, &mut proof)?;
        }
    }
    let found = proof.id();
    if readback && found != Some(id) {
        return Err(FlashError::WrongId { wanted: id, found });
    }
    Ok(())
}
