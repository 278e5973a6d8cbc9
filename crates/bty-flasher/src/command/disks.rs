//! `bty-flasher disks`.

#![allow(clippy::print_stdout, reason = "results go to standard output")]

use bty_disk::{Disk, discover::System};
use bty_types::ErrorKind;
use serde::Serialize;

use super::{Failure, Format};

/// A disk as programs see it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    path: &'a str,
    serial: &'a str,
    wwn: &'a str,
    model: &'a str,
    transport: &'a str,
    size_bytes: u64,
    logical_sector_bytes: u32,
    physical_sector_bytes: u32,
    removable: bool,
    read_only: bool,
    in_use: Vec<String>,
}

impl<'a> From<&'a Disk> for Shown<'a> {
    fn from(disk: &'a Disk) -> Self {
        Self {
            path: &disk.path,
            serial: &disk.serial,
            wwn: &disk.wwn,
            model: &disk.model,
            transport: &disk.transport,
            size_bytes: disk.size_bytes,
            logical_sector_bytes: disk.logical_sector_bytes,
            physical_sector_bytes: disk.physical_sector_bytes,
            removable: disk.removable,
            read_only: disk.read_only,
            in_use: disk.in_use.iter().map(ToString::to_string).collect(),
        }
    }
}

pub(super) fn run(output: Format) -> Result<(), Failure> {
    let disks = System::default().disks().map_err(|problem| {
        Failure::new(ErrorKind::Internal, format!("looking for disks in /sys: {problem}"))
    })?;
    match output {
        Format::Json => {
            let shown: Vec<Shown<'_>> = disks.iter().map(Shown::from).collect();
            let text = serde_json::to_string_pretty(&shown)
                .map_err(|problem| Failure::new(ErrorKind::Internal, problem.to_string()))?;
            println!("{text}");
        }
        Format::Text if disks.is_empty() => eprintln!("this machine shows no disks"),
        Format::Text => disks.iter().for_each(|disk| println!("{disk}")),
    }
    Ok(())
}
