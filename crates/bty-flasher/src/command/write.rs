//! `bty-flasher write`.

use std::{
    io::{BufRead, IsTerminal, Write},
    sync::atomic::AtomicBool,
    time::SystemTime,
};

use bty_disk::{Disk, discover::System, gate::Needs};
use bty_types::{DiskSelector, ErrorKind};

use super::{
    CompareArgument, Failure, HolesArgument, VerifyArgument, WriteArguments, receipt,
    show::{Show, Written},
};
use crate::{
    engine::{Compare, Event, FlashError, Holes, Options, ReadBack, Step, flash},
    firmware, fixup,
    supply::{self, SupplyError},
    target,
};

pub(super) fn run(arguments: &WriteArguments) -> Result<(), Failure> {
    let selector = selector(&arguments.disk)?;
    let options = options(arguments);
    let wanted =
        arguments.fix_ups.read().map_err(|problem| Failure::of(problem.kind(), &problem))?;
    fixup::check(&wanted, &options).map_err(|why| {
        Failure::new(ErrorKind::InvalidInput, format!("nothing was written: {why}"))
    })?;
    if let Some(file) = &arguments.receipt {
        receipt::check_place(file)?;
    }
    let image_name = supply::named(&arguments.image);
    let supply::Opened { mut image, inspection } =
        supply::open(&arguments.image).map_err(|problem| Failure::of(problem.kind(), &problem))?;
    let sector_bytes = inspection.sector_bytes;
    let needs = Needs { raw_bytes: image.raw_bytes().unwrap_or_default(), sector_bytes };
    let system = System::default();
    let refused = |problem: target::TargetError| Failure::of(problem.kind(), &problem);
    let disk = target::choose(&system, &selector, needs).map_err(refused)?;
    target::check_health(&disk, arguments.failing_disk_ok).map_err(refused)?;
    if !arguments.yes {
        ask(&disk, &format!("Write {image_name} to it?"))?;
    }
    let device = target::open(&system, &disk).map_err(refused)?;
    let (image_id, started) = (image.id(), SystemTime::now());
    let show = Show::new(arguments.output);
    let outcome = flash(&mut image, &device, &options, &AtomicBool::new(false), &|event| {
        show.event(event);
    });
    match outcome {
        Ok(record) => {
            if !wanted.is_none() {
                show.event(Event::begin(Step::FixUps));
            }
            let fix_ups = fixup::apply(&device, &wanted, &record);
            device.show_new_partitions();
            let next_boot = firmware::boot_next(device, &disk, arguments.boot_entry);
            let asked = (image_name.as_str(), image_id, selector.to_string());
            let saved = match &arguments.receipt {
                Some(file) => receipt::write(file, asked, (&record, &fix_ups), &disk, started),
                None => Ok(()),
            };
            show.record(&Written { record, fix_ups, next_boot }, &disk);
            saved
        }
        Err(problem) => {
            show.end();
            let onto = &disk.path;
            let why = Failure::of(problem.kind(), &problem).message;
            let advice = advice(&problem).map(|advice| format!(".\n{advice}")).unwrap_or_default();
            let message = format!("writing {image_name} to {onto}: {why}{advice}");
            Err(Failure::new(problem.kind(), message))
        }
    }
}

/// What to do next, where the reason alone doesn't tell.
const fn advice(problem: &FlashError) -> Option<&'static str> {
    match problem {
        FlashError::Write { .. }
        | FlashError::Read { .. }
        | FlashError::Flush(_)
        | FlashError::Mismatch { .. } => Some(
            "If anything was written, the disk does not boot now. `bty-flasher health` and the kernel's log tell more of the disk; the same command again goes on from \
             here, on another cable, port or disk if need be.",
        ),
        FlashError::Chunk(_)
        | FlashError::NoHole(_)
        | FlashError::WrongId { .. }
        | FlashError::Supply(SupplyError::Chunk(_)) => Some(
            "If anything was written, the disk does not boot now. Get the image anew, and write it with the same command.",
        ),
        FlashError::Incomplete | FlashError::Supply(_) => Some(
            "If anything was written, the disk does not boot now. The same command again goes on from here.",
        ),
        _ => None,
    }
}

fn options(arguments: &WriteArguments) -> Options {
    Options {
        compare: match arguments.compare {
            CompareArgument::Auto => Compare::Auto,
            CompareArgument::On => Compare::On,
            CompareArgument::Off => Compare::Off,
        },
        read_back: match arguments.verify {
            VerifyArgument::Stream => ReadBack::Nothing,
            VerifyArgument::Readback => ReadBack::Written,
            VerifyArgument::Full => ReadBack::All,
        },
        holes: match arguments.holes {
            HolesArgument::Zero => Holes::Zero,
            HolesArgument::Discard => Holes::Discard,
            HolesArgument::Keep => Holes::Keep,
        },
        expect_id: arguments.expect,
        ..Options::default()
    }
}

pub(super) fn selector(text: &str) -> Result<DiskSelector, Failure> {
    let text = if text.starts_with('/') { format!("path:{text}") } else { text.to_owned() };
    text.parse().map_err(|problem: bty_types::ParseError| {
        Failure::new(ErrorKind::InvalidInput, problem.to_string())
    })
}

/// Asks on the terminal whether this is to be done to the disk.
pub(super) fn ask(disk: &Disk, what: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let message = format!("there is no terminal to ask on; add --yes to overwrite {disk}");
        return Err(Failure::new(ErrorKind::InvalidInput, message));
    }
    eprint!("Everything on {disk} will be lost.\n{what} Type yes: ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        return Ok(());
    }
    Err(Failure::new(ErrorKind::Cancelled, "nothing was written"))
}
