//! The flash: from an image to a disk that is the image, and knows it.
//!
//! The disk is compared with the image where that pays ([`choice`]), and only what differs is fetched, verified and written. Before
//! the first change the places that make a disk bootable are blanked ([`edges`]); what the image has there is written last, after
//! everything else was flushed and read back. So at no time before the end does a disk that was changed boot, not even by a firmware
//! that repairs a partition table from its backup; and a flash that ends well ends with the id of what the disk really holds: each
//! chunk was read from it, before or after. A flash that was cut off is run again and finds what is done. A disk that is the image
//! already is not touched.

mod choice;
mod edges;
mod error;
mod event;
mod held;
mod indexed;
mod outlook;
mod prove;
mod queue;
mod spans;
mod streamed;
mod verify;
mod work;

#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use bty_disk::device::Target;
use bty_image::is_zero;
use bty_sys::AlignedBuf;
use bty_types::ImageId;

pub use choice::Compare;
pub use error::FlashError;
pub use event::{Event, Meter, Step, StepTime};
use held::{Held, Shape};
pub use outlook::Job;
pub use verify::{Difference, verify};
use work::Work;

use crate::supply::Image;

/// What becomes of the disk where the image has nothing but zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Holes {
    /// It reads as zeros.
    #[default]
    Zero,
    /// It is discarded, and made zero where it then reads as anything else.
    Discard,
    /// It is left as it is: the disk has the image's data, and is not the image.
    Keep,
}

impl Holes {
    /// As the command line and the contract have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Discard => "discard",
            Self::Keep => "keep",
        }
    }
}

/// What is read back from the disk after it was written and flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadBack {
    /// Nothing: nobody proves that what was written arrived.
    Nothing,
    /// All that was written. What the device made zero by a command of its own is looked at in places.
    #[default]
    Written,
    /// All that was written or made zero.
    All,
}

impl ReadBack {
    /// As the command line and the contract have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "stream",
            Self::Written => "readback",
            Self::All => "full",
        }
    }
}

/// How to flash.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether to look at what the disk holds first.
    pub compare: Compare,
    /// What is read back.
    pub read_back: ReadBack,
    /// What becomes of holes.
    pub holes: Holes,
    /// Processors to use.
    pub processors: usize,
    /// The id that the image must have.
    pub expect_id: Option<ImageId>,
}

impl Options {
    /// Whether a flash in this way proves that the disk is the image, whatever the disk holds before.
    pub fn proves(&self) -> bool {
        self.read_back != ReadBack::Nothing && self.holes != Holes::Keep
    }
}

impl Default for Options {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(2, usize::from).clamp(1, 4);
        Self {
            compare: Compare::Auto,
            read_back: ReadBack::default(),
            holes: Holes::Zero,
            processors,
            expect_id: None,
        }
    }
}

/// What a good flash came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Record {
    /// The id of the image.
    pub id: ImageId,
    /// Whether every byte of the image was read from the disk, before or after; but for what the device made zero by a command of
    /// its own, which was looked at in places unless all was to be read back.
    pub proved: bool,
    /// Whether to compare, as it was asked for.
    pub compare: &'static str,
    /// How to verify, as it was asked for: `stream`, `readback` or `full`.
    pub verify: &'static str,
    /// What becomes of holes, as it was asked for.
    pub holes: &'static str,
    /// Bytes of the raw disk.
    pub raw_bytes: u64,
    /// Bytes read from the disk to compare them.
    pub compared_bytes: u64,
    /// Bytes of the image that the disk held already.
    pub right_bytes: u64,
    /// Bytes that came from the source.
    pub fetched_bytes: u64,
    /// Chunks that came wrong, and were fetched again.
    pub refetched_chunks: u64,
    /// Requests to the source that failed, and were made again.
    pub retried_requests: u64,
    /// Bytes written to the disk.
    pub written_bytes: u64,
    /// Bytes made zero by the device.
    pub zeroed_bytes: u64,
    /// Whether the disk was compared, and why, in words.
    pub choice: String,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
    /// How long each step took, in order.
    pub steps: Vec<StepTime>,
}

/// Makes the target the image. `report` is called from several threads, a few times a second.
pub fn flash(
    image: &mut Image,
    target: &dyn Target,
    options: &Options,
    cancelled: &AtomicBool,
    report: &(dyn Fn(Event) + Sync),
) -> Result<Record, FlashError> {
    let started = Instant::now();
    check(image, target, options)?;
    let meter = Meter::new(job(image, options), report);
    let work = Work::new(target, options, cancelled, &meter);
    meter.step(Step::Write, image.raw_bytes().unwrap_or_default());
    if options.compare == Compare::Off {
        work.spoil()?;
    }
    let (id, shape, choice) = match image {
        Image::Container(container) => {
            let index = container.index();
            let (raw_bytes, chunk_bytes) = (index.raw_bytes(), index.chunk_bytes().into());
            let shape = Shape { raw_bytes, chunk_bytes };
            let (held, choice) = indexed::write_data(&**container, &work)?;
            let wanted = |number| index.chunk(number).map(|chunk| chunk.value);
            thread::scope(|scope| {
                let verified = scope.spawn(|| indexed::verify_holes(&**container, &work));
                indexed::write_holes(&**container, &work)?;
                settle(&work, shape, &held, &wanted, || {
                    verified.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
            })?;
            (index.id(), shape, choice)
        }
        Image::Stream(stream) => {
            let came = streamed::write_all(&mut **stream, &work)?;
            let id = came.id();
            if let Some(wanted) = options.expect_id.filter(|&wanted| Some(wanted) != id) {
                return Err(FlashError::WrongId { wanted, found: id });
            }
            let wanted = |number| {
                usize::try_from(number).ok().and_then(|at| came.values.get(at)).copied().flatten()
            };
            settle(&work, came.shape, &came.held, &wanted, || Ok(()))?;
            (id.ok_or(FlashError::Incomplete)?, came.shape, came.choice)
        }
    };
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let was_read = options.read_back != ReadBack::Nothing || !work.is_blanked();
    Ok(Record {
        steps: meter.end(),
        id,
        proved: was_read && options.holes != Holes::Keep,
        compare: options.compare.as_str(),
        verify: options.read_back.as_str(),
        holes: options.holes.as_str(),
        raw_bytes: shape.raw_bytes,
        compared_bytes: count(&work.counts.compared),
        right_bytes: count(&work.counts.right),
        fetched_bytes: image.fetched_bytes(),
        refetched_chunks: count(&work.counts.refetched),
        retried_requests: image.retried_requests(),
        written_bytes: count(&work.counts.written),
        zeroed_bytes: count(&work.counts.zeroed),
        choice,
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// What there is to do. Of an image that comes once it isn't known what are holes.
fn job(image: &Image, options: &Options) -> Job {
    let raw_bytes = image.raw_bytes().unwrap_or_default();
    let data_bytes = match image {
        Image::Container(container) => container.index().mapped_bytes(),
        Image::Stream(_) => raw_bytes,
    };
    let hole_bytes = raw_bytes.saturating_sub(data_bytes);
    Job { data_bytes, hole_bytes, readback: options.read_back != ReadBack::Nothing }
}

/// What can be known to be wrong before anything is written.
fn check(image: &Image, target: &dyn Target, options: &Options) -> Result<(), FlashError> {
    if let (Some(wanted), Some(found)) = (options.expect_id, image.id())
        && wanted != found
    {
        return Err(FlashError::OtherImage { wanted, found });
    }
    let has = target.size_bytes();
    match image.raw_bytes() {
        Some(needs) if needs > has => Err(FlashError::TooSmall { needs, has }),
        _ => Ok(()),
    }
}

/// Flushes, reads back, and writes what was held back, from the disk's end to its very beginning, each when what was before it is
/// there and proved, and `ready` says so too. Then the disk is the image. One that was the image all along is not touched.
fn settle(
    work: &Work<'_>,
    shape: Shape,
    held: &[Held],
    wanted: &(dyn Fn(u64) -> Option<[u8; 32]> + Sync),
    ready: impl FnOnce() -> Result<(), FlashError>,
) -> Result<(), FlashError> {
    if work.is_over() {
        // Called off, or `ready` knows why not. Nothing more is changed.
        ready()?;
        work.outcome()?;
        return Err(FlashError::Incomplete);
    }
    if !work.is_whole(shape.chunks(), held) {
        return Err(FlashError::Incomplete);
    }
    if !work.is_blanked() && held.iter().all(|held| held.is_right) && is_clear_behind(work, shape) {
        return ready();
    }
    work.spoil()?;
    work.meter.step(Step::Flush, 0);
    work.target.flush().map_err(FlashError::Flush)?;
    if work.options.read_back != ReadBack::Nothing {
        work.meter.step(Step::Prove, prove::bytes_to_prove(work, shape));
        prove::prove_all(work, shape, wanted)?;
    }
    ready()?;
    if work.is_cancelled() {
        return Err(FlashError::Cancelled { blanked: true });
    }
    work.meter.step(Step::FirstChunk, 0);
    let mut held: Vec<&Held> = held.iter().collect();
    held.sort_by_key(|held| std::cmp::Reverse(held.number));
    for held in held {
        if let Err(problem) = held.write(work, shape) {
            // What was found wrong must not boot; a disk that can't even be blanked any more is beyond help.
            let _ = work.blank();
            return Err(problem);
        }
    }
    Ok(())
}

/// Whether the disk's end behind the image has no old backup partition table.
fn is_clear_behind(work: &Work<'_>, shape: Shape) -> bool {
    let start = work.edges.end().max(work.padded(shape.raw_bytes));
    let size = usize::try_from(work.target.size_bytes().saturating_sub(start)).unwrap_or_default();
    let mut buffer = AlignedBuf::new(size);
    let room = buffer.get_mut(..size).unwrap_or_default();
    size == 0 || (work.target.read_at(room, start).is_ok() && is_zero(room))
}
