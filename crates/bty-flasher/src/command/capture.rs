//! `bty-flasher capture`: a disk becomes an image, in a file or in a registry.

#![allow(clippy::print_stdout, reason = "results go to standard output")]

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use bty_api::registry::v1::{CaptureResult, CaptureStart, capture_image_request::Part};
use bty_disk::{Disk, device::BlockDevice, discover::System};
use bty_image::{
    ReadAt as _,
    freespace::{self, Finding, Survey, survey},
    import::{self, Summary, import},
    inspect::{HEAD_BYTES, inspect},
    source::{self, Format as SourceFormat},
};
use bty_types::ErrorKind;
use indicatif::DecimalBytes;

use super::{CaptureArguments, Failure, Format, LeaveOut, show::Show, write};
use crate::{
    capture::{
        chunks::{Cut, chunks},
        file::{Unnamed, folder},
        frozen::Frozen,
        original::Original,
        pieces::Pieces,
        upload::{Door, UploadError, Values, Wanted, upload},
    },
    engine::{Job, Meter, Step},
    target,
};

/// How long file systems stand still for a registry that takes nothing.
const FROZEN_PATIENCE: Duration = Duration::from_mins(2);

pub(super) fn run(arguments: &CaptureArguments) -> Result<(), Failure> {
    // What is wrong with it is said before anything is frozen.
    let door = match &arguments.into {
        None => None,
        Some(into) => Some(
            Door::parse(into, arguments.token_file.as_deref())
                .map_err(|problem| refused(&problem))?,
        ),
    };
    let subject = open(arguments)?;
    let survey = look(&subject.original, arguments)?;
    warn(survey.findings());
    match door {
        Some(door) => into_registry(arguments, &door, subject, &survey),
        None => into_file(arguments, subject, &survey),
    }
}

type Looked = Survey<Arc<Original>>;

fn refused(problem: &UploadError) -> Failure {
    Failure::of(problem.kind(), problem)
}

fn into_registry(
    arguments: &CaptureArguments,
    door: &Door,
    subject: Subject,
    survey: &Looked,
) -> Result<(), Failure> {
    let Subject { called, original, frozen } = subject;
    let total_bytes = original.size_bytes();
    let wanted = Wanted {
        name: arguments.out.clone(),
        base: arguments.base.clone().unwrap_or_default(),
        source: called.clone(),
        raw_bytes: total_bytes,
    };
    let show = Show::new(arguments.output);
    let patience = frozen.is_some().then_some(FROZEN_PATIENCE);
    let mut pieces = Pieces::new(original, survey.free());
    let level = arguments.level;
    let produce =
        move |start: CaptureStart, mut values: Values, pass: &mut dyn FnMut(Part) -> bool| {
            let cut = Cut {
                raw_bytes: total_bytes,
                chunk_bytes: start.chunk_bytes,
                base_chunks: start.base_chunks,
                level,
                workers: thread::available_parallelism().map_or(1, usize::from),
            };
            let report = |event| show.event(event);
            let meter = Meter::new(Job::default(), &report);
            meter.step(Step::Capture, total_bytes);
            let read = chunks(
                &mut pieces,
                cut,
                &mut || values.next(),
                &mut |part| pass(part),
                &mut |done_bytes| meter.reach(done_bytes),
            );
            if read.is_ok() {
                meter.end();
            }
            show.end();
            let id = read?;
            // It is no image of one moment where they did not stand still all the time.
            frozen.map_or(Ok(()), Frozen::thaw).map_err(|problem| {
                UploadError::Unsteady(problem.kind(), bty_api::status::chain(&problem))
            })?;
            Ok(id)
        };
    let result = upload(door, wanted, patience, produce);
    tell_of_registry(
        arguments,
        &called,
        survey.findings(),
        &result.map_err(|problem| refused(&problem))?,
    );
    Ok(())
}

fn into_file(
    arguments: &CaptureArguments,
    subject: Subject,
    survey: &Looked,
) -> Result<(), Failure> {
    let Subject { called, original, frozen } = subject;
    let captured = to_file(arguments, &original, survey);
    // It is no image of one moment where they did not stand still all the time.
    let thawed = frozen.map_or(Ok(()), Frozen::thaw);
    let (unnamed, summary) = captured?;
    thawed.map_err(|problem| Failure::of(problem.kind(), &problem))?;
    let out = Path::new(&arguments.out);
    unnamed.finish().map_err(|problem| writing(out, &problem))?;
    tell(arguments.output, &called, out, survey.findings(), &summary);
    Ok(())
}

/// What is captured.
struct Subject {
    /// What people call it.
    called: String,
    original: Arc<Original>,
    frozen: Option<Frozen>,
}

/// The disk, held so that nobody mounts or writes it, or frozen; or the file.
fn open(arguments: &CaptureArguments) -> Result<Subject, Failure> {
    let path = Path::new(&arguments.disk);
    if path.is_file() {
        return open_file(path);
    }
    let selector = write::selector(&arguments.disk)?;
    let system = System::default();
    let disk = target::find(&system, &selector)
        .map_err(|problem| Failure::of(problem.kind(), &problem))?;
    let mut frozen = None;
    if let Some(user) = disk.in_use.first() {
        if !arguments.frozen {
            let message = format!(
                "{} is in use ({user}): what changes while it is read would be half in the image; unmount or stop it \
                 first, or have file systems that are mounted stand still meanwhile: --frozen",
                disk.path
            );
            return Err(Failure::new(ErrorKind::Precondition, message));
        }
        frozen = Some(freeze(&system, &disk, arguments)?);
    }
    let opened = match frozen {
        None => BlockDevice::hold_to_read(disk.path.as_ref()),
        Some(_) => BlockDevice::open_to_read(disk.path.as_ref()),
    };
    let device = opened.map_err(|problem| Failure::of(problem.kind(), &problem))?;
    Ok(Subject { called: disk.path, original: Arc::new(Original::disk(device)), frozen })
}

fn freeze(system: &System, disk: &Disk, arguments: &CaptureArguments) -> Result<Frozen, Failure> {
    let writes_to = arguments.into.is_none().then(|| folder(Path::new(&arguments.out)));
    let frozen =
        Frozen::freeze(disk, writes_to).map_err(|problem| Failure::of(problem.kind(), &problem))?;
    let now = system.named(&disk.path).map(|disk| disk.in_use);
    if now.as_ref() != Some(&disk.in_use) {
        let message = format!("{} was mounted or unmounted meanwhile; try again", disk.path);
        return Err(Failure::new(ErrorKind::Precondition, message));
    }
    Ok(frozen)
}

fn open_file(path: &Path) -> Result<Subject, Failure> {
    let failed = |problem: io::Error| {
        let kind = match problem.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Unavailable,
        };
        Failure::new(kind, format!("reading {}: {problem}", path.display()))
    };
    let file = File::open(path).map_err(failed)?;
    let size_bytes = file.metadata().map_err(failed)?.len();
    let source =
        source::open_file(path, None).map_err(|problem| Failure::of(problem.kind(), &problem))?;
    if source.format() != SourceFormat::Raw || source.raw_bytes() != Some(size_bytes) {
        let message = format!(
            "{} is no raw disk ({}): bty-flasher write and btyctl image import take it as it is",
            path.display(),
            source.format().as_str()
        );
        return Err(Failure::new(ErrorKind::InvalidInput, message));
    }
    let original = Arc::new(Original::file(file, size_bytes));
    Ok(Subject { called: path.display().to_string(), original, frozen: None })
}

/// What of the disk is free.
fn look(original: &Arc<Original>, arguments: &CaptureArguments) -> Result<Looked, Failure> {
    if arguments.keep_free {
        return Ok(Survey::whole(Arc::clone(original)));
    }
    let size = usize::try_from(original.size_bytes()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
    let mut head = vec![0; size];
    original.read_exact_at(&mut head, 0).map_err(|problem| {
        let message = format!("reading the beginning of {}: {problem}", arguments.disk);
        Failure::new(ErrorKind::Unavailable, message)
    })?;
    let options = freespace::Options { swap: arguments.leave_out.contains(&LeaveOut::Swap) };
    Ok(survey(Arc::clone(original), &inspect(&head), options))
}

fn warn(findings: &[Finding]) {
    for Finding { partition, kind, free_bytes } in findings {
        if let Err(why) = free_bytes {
            eprintln!("warning: the {kind} {} is taken whole: {why}", place(*partition));
        }
    }
}

fn place(partition: Option<u32>) -> String {
    partition.map_or_else(|| "on the disk".to_owned(), |number| format!("in partition {number}"))
}

fn to_file(
    arguments: &CaptureArguments,
    original: &Arc<Original>,
    survey: &Looked,
) -> Result<(Unnamed, Summary), Failure> {
    let out = Path::new(&arguments.out);
    let unnamed = Unnamed::begin(out).map_err(|problem| writing(out, &problem))?;
    let total_bytes = original.size_bytes();
    let source = source::open_disk(Pieces::new(Arc::clone(original), survey.free()), total_bytes);
    let options = import::Options {
        level: arguments.level,
        // The disk is what it is.
        max_raw_bytes: u64::MAX,
        ratio_from_bytes: u64::MAX,
        ..import::Options::default()
    };
    let show = Show::new(arguments.output);
    let report = |event| show.event(event);
    let meter = Meter::new(Job::default(), &report);
    meter.step(Step::Capture, total_bytes);
    let mut writer = BufWriter::new(&unnamed.file);
    let summary = import(source, &mut writer, &options, &AtomicBool::new(false), |progress| {
        meter.reach(progress.raw_bytes);
    });
    if summary.is_ok() {
        meter.end();
    }
    show.end();
    let summary = summary.map_err(|problem| Failure::of(problem.kind(), &problem))?;
    writer.flush().map_err(|problem| writing(out, &problem))?;
    drop(writer);
    Ok((unnamed, summary))
}

fn writing(out: &Path, problem: &io::Error) -> Failure {
    if problem.kind() == io::ErrorKind::AlreadyExists {
        let message = format!("{} exists already; remove it, or name another file", out.display());
        return Failure::new(ErrorKind::Conflict, message);
    }
    let kind = match problem.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
        io::ErrorKind::ResourceBusy => ErrorKind::Conflict,
        _ => ErrorKind::Exhausted,
    };
    Failure::new(kind, format!("writing {}: {problem}", out.display()))
}

fn tell(output: Format, disk: &str, out: &Path, findings: &[Finding], summary: &Summary) {
    let index = &summary.index;
    if output == Format::Json {
        let line = serde_json::json!({
            "disk": disk,
            "id": index.id(),
            "raw_bytes": index.raw_bytes(),
            "mapped_bytes": index.mapped_bytes(),
            "container_bytes": summary.container_bytes,
            "file_systems": file_systems(findings),
        });
        println!("{line}");
        return;
    }
    let free: u64 = findings.iter().filter_map(|found| found.free_bytes.as_ref().ok()).sum();
    let [raw, mapped, container, free] =
        [index.raw_bytes(), index.mapped_bytes(), summary.container_bytes, free].map(DecimalBytes);
    println!("{} holds {}", out.display(), index.id());
    println!(
        "{raw} of {disk}, of which {mapped} are not zeros, in {container}; {free} were free and left out"
    );
}

fn tell_of_registry(
    arguments: &CaptureArguments,
    disk: &str,
    findings: &[Finding],
    result: &CaptureResult,
) {
    let image = result.image.clone().unwrap_or_default();
    let CaptureResult { same_chunks, zero_chunks, sent_chunks, sent_bytes, .. } = *result;
    if arguments.output == Format::Json {
        let line = serde_json::json!({
            "disk": disk,
            "id": image.id,
            "names": image.names,
            "raw_bytes": image.raw_bytes,
            "mapped_bytes": image.mapped_bytes,
            "container_bytes": image.stored_bytes,
            "same_chunks": same_chunks,
            "zero_chunks": zero_chunks,
            "sent_chunks": sent_chunks,
            "sent_bytes": sent_bytes,
            "file_systems": file_systems(findings),
        });
        println!("{line}");
        return;
    }
    let [raw, mapped, sent] = [image.raw_bytes, image.mapped_bytes, sent_bytes].map(DecimalBytes);
    println!("{} is {}", arguments.out, image.id);
    println!("{raw} of {disk}, of which {mapped} are not zeros");
    println!(
        "{sent_chunks} chunks were sent in {sent}; {same_chunks} were the base's, {zero_chunks} all zeros"
    );
}

/// What was found of each file system, for programs.
fn file_systems(findings: &[Finding]) -> Vec<serde_json::Value> {
    let one = |Finding { partition, kind, free_bytes }: &Finding| {
        serde_json::json!({
            "partition": partition,
            "kind": kind,
            "free_bytes": free_bytes.as_ref().ok(),
            "whole_because": free_bytes.as_ref().err(),
        })
    };
    findings.iter().map(one).collect()
}
