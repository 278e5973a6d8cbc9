//! `bty-flasher capture`: a disk becomes a container.

#![allow(clippy::print_stdout, reason = "results go to standard output")]

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::Path,
    sync::atomic::AtomicBool,
};

use bty_disk::{
    device::{BlockDevice, Target},
    discover::System,
};
use bty_image::{
    import::{self, ImportError, Summary, import},
    source::{self, Source},
};
use bty_sys::AlignedBuf;
use bty_types::ErrorKind;
use indicatif::DecimalBytes;

use super::{CaptureArguments, Failure, Format, show::Show, write};
use crate::{
    engine::{Job, Meter, Step},
    target,
};

/// Read from the disk at once.
const READ_BYTES: usize = 4 << 20;

pub(super) fn run(arguments: &CaptureArguments) -> Result<(), Failure> {
    let out = arguments.out.as_path();
    if out.exists() {
        let message = format!("{} exists already; remove it, or name another file", out.display());
        return Err(Failure::new(ErrorKind::Conflict, message));
    }
    let (path, source) = open(&arguments.disk)?;
    let total_bytes = source.raw_bytes().unwrap_or_default();
    let show = Show::new(arguments.output);
    let options = import::Options {
        level: arguments.level,
        // The disk is what it is.
        max_raw_bytes: u64::MAX,
        ..import::Options::default()
    };
    let report = |event| show.event(event);
    let meter = Meter::new(Job::default(), &report);
    meter.step(Step::Capture, total_bytes);
    let captured = store(out, |file| {
        import(source, file, &options, &AtomicBool::new(false), |progress| {
            meter.reach(progress.raw_bytes);
        })
    });
    if captured.is_ok() {
        meter.end();
    }
    show.end();
    let summary = captured?;
    tell(arguments.output, &path, out, &summary);
    Ok(())
}

/// The disk, held so that nobody mounts or writes it, as a stream of its bytes.
fn open(disk: &str) -> Result<(String, Source), Failure> {
    let selector = write::selector(disk)?;
    let disk = target::find(&System::default(), &selector)
        .map_err(|problem| Failure::of(problem.kind(), &problem))?;
    if let Some(user) = disk.in_use.first() {
        let message = format!(
            "{} is in use ({user}): what changes while it is read would be half in the image; unmount or stop it first",
            disk.path
        );
        return Err(Failure::new(ErrorKind::Precondition, message));
    }
    let device = BlockDevice::hold_to_read(disk.path.as_ref())
        .map_err(|problem| Failure::of(problem.kind(), &problem))?;
    let size_bytes = device.size_bytes();
    let reader = DiskReader { device, buffer: AlignedBuf::new(READ_BYTES), at: 0, filled: 0..0 };
    let source = source::open_stream(reader, Some(size_bytes), None)
        .map_err(|problem| Failure::of(problem.kind(), &problem))?;
    Ok((disk.path, source))
}

/// Has the file made under another name, and gives it its own when it is whole and on the disk.
fn store(
    out: &Path,
    make: impl FnOnce(&mut BufWriter<File>) -> Result<Summary, ImportError>,
) -> Result<Summary, Failure> {
    let mut partial = out.as_os_str().to_owned();
    partial.push(".partial");
    let failed = |problem: io::Error| {
        Failure::new(ErrorKind::Exhausted, format!("writing {}: {problem}", out.display()))
    };
    let file = File::create(&partial).map_err(failed)?;
    let mut writer = BufWriter::new(file);
    let outcome = make(&mut writer)
        .map_err(|problem| Failure::of(problem.kind(), &problem))
        .and_then(|summary| {
            writer.flush().map_err(failed)?;
            writer.get_ref().sync_all().map_err(failed)?;
            fs::rename(&partial, out).map_err(failed)?;
            Ok(summary)
        });
    if outcome.is_err() {
        // Whatever keeps it from being removed is said by nobody: the first failure counts.
        let _ = fs::remove_file(&partial);
    }
    outcome
}

fn tell(output: Format, disk: &str, out: &Path, summary: &Summary) {
    let index = &summary.index;
    if output == Format::Json {
        let line = serde_json::json!({
            "disk": disk,
            "id": index.id(),
            "raw_bytes": index.raw_bytes(),
            "mapped_bytes": index.mapped_bytes(),
            "container_bytes": summary.container_bytes,
        });
        println!("{line}");
        return;
    }
    let [raw, mapped, container] =
        [index.raw_bytes(), index.mapped_bytes(), summary.container_bytes].map(DecimalBytes);
    println!("{} holds {}", out.display(), index.id());
    println!("{raw} of {disk}, of which {mapped} are not zeros, in {container}");
}

/// A disk, from its first byte to its last.
struct DiskReader {
    device: BlockDevice,
    buffer: AlignedBuf,
    /// Where the next read of the disk begins.
    at: u64,
    /// What of the buffer was read and not taken.
    filled: std::ops::Range<usize>,
}

impl Read for DiskReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.filled.is_empty() {
            let left = self.device.size_bytes().saturating_sub(self.at);
            let size = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
            let room = self.buffer.get_mut(..size).unwrap_or_default();
            if !room.is_empty() {
                self.device.read_at(room, self.at)?;
            }
            self.at += size as u64;
            self.filled = 0..size;
        }
        let given = self.buffer.get(self.filled.clone()).unwrap_or_default();
        let size = given.len().min(out.len());
        if let (Some(out), Some(given)) = (out.get_mut(..size), given.get(..size)) {
            out.copy_from_slice(given);
        }
        self.filled.start += size;
        Ok(size)
    }
}
