//! Which program on a disk starts its system: what the image has put into its EFI system partition.
//!
//! A vendor's own loader comes before the removable medium's (`\EFI\BOOT`): there a shim may find its fallback program, which makes
//! an entry of its own and puts it first in the boot order.
//!
//! The disk's bytes are foreign: what is read is bounded.

use std::{cell::RefCell, io};

use bty_disk::device::Target;
use bty_image::{
    ReadAt,
    inspect::{self, EfiProgram, HEAD_BYTES, Partition, PartitionId, efi_programs},
};

use super::device_path::{HardDrive, Signature};
use crate::any_offset::Bytes;

/// Characters of a program's path.
const MOST_CHARS: usize = 255;

/// A program on a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loader {
    /// The partition.
    pub drive: HardDrive,
    /// The program, such as `\EFI\debian\shimx64.efi`.
    pub file: String,
}

/// Why no program was found.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// The disk has none for UEFI.
    #[error("the image has no EFI system partition: UEFI can't start it")]
    NoPartition,
    /// The table is wrong.
    #[error("the EFI system partition is not within the disk")]
    Beyond,
    /// The file system has none for this processor.
    #[error("the image's EFI system partition has no program for this firmware (BOOT{}.EFI)", suffix.to_uppercase())]
    NoProgram {
        /// What this firmware's programs are called with.
        suffix: String,
    },
    /// The disk.
    #[error("reading the image's EFI system partition")]
    Read(#[from] io::Error),
    /// There is no FAT in it.
    #[error("the image's EFI system partition is damaged: its file system can't be read")]
    Damaged,
}

/// Looks for the program that starts the disk's system; `suffix` is how the firmware's kind is called in names (`x64`, `aa64`).
pub fn find(disk: &dyn Target, suffix: &str) -> Result<Loader, LoaderError> {
    let esp = partition(disk)?;
    let drive = drive(disk, &esp)?;
    let disk = Noting { disk: Bytes(disk), problem: RefCell::default() };
    let programs = efi_programs(&disk, esp.start_bytes, esp.size_bytes);
    let found = programs.ok_or(LoaderError::Damaged).and_then(|programs| {
        let file = best(&programs, suffix).map(str::to_owned);
        file.ok_or_else(|| LoaderError::NoProgram { suffix: suffix.to_owned() })
    });
    match (found, disk.problem.into_inner()) {
        (Ok(file), _) => Ok(Loader { drive, file }),
        // What couldn't be read may have been it.
        (Err(_), Some(problem)) => Err(LoaderError::Read(problem)),
        (Err(problem), None) => Err(problem),
    }
}

/// A disk of which it is noted that it couldn't be read.
struct Noting<'d> {
    disk: Bytes<'d>,
    problem: RefCell<Option<io::Error>>,
}

impl ReadAt for Noting<'_> {
    fn length(&self) -> io::Result<u64> {
        self.disk.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.read_exact_at(buffer, offset).map_err(|problem| {
            let kind = problem.kind();
            self.problem.replace(Some(problem));
            kind.into()
        })
    }
}

/// The first EFI system partition.
fn partition(disk: &dyn Target) -> Result<Partition, LoaderError> {
    let bytes = usize::try_from(disk.size_bytes()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
    let mut head = vec![0; bytes];
    Bytes(disk).read_exact_at(&mut head, 0)?;
    let found = inspect::inspect(&head).partitions;
    found.into_iter().find(Partition::is_efi_system).ok_or(LoaderError::NoPartition)
}

/// What firmware knows a partition by.
fn drive(disk: &dyn Target, esp: &Partition) -> Result<HardDrive, LoaderError> {
    let signature = match esp.id {
        PartitionId::Guid(guid) => Signature::Guid(guid),
        PartitionId::OfDisk(signature) => Signature::Mbr(signature),
    };
    let sector = u64::from(disk.sector_bytes());
    let end = esp.start_bytes.checked_add(esp.size_bytes);
    let is_within = end.is_some_and(|end| end <= disk.size_bytes());
    let is_whole = esp.start_bytes.is_multiple_of(sector) && esp.size_bytes.is_multiple_of(sector);
    if !is_within || !is_whole || esp.size_bytes == 0 {
        return Err(LoaderError::Beyond);
    }
    Ok(HardDrive {
        partition: esp.number,
        start: esp.start_bytes / sector,
        size: esp.size_bytes / sector,
        signature,
    })
}

/// The program that starts the system; a vendor's own before the removable medium's.
fn best<'p>(programs: &'p [EfiProgram], suffix: &str) -> Option<&'p str> {
    // The loader that Secure Boot lets through comes first; SUSE's says nothing of the processor.
    let known = [
        vec![format!("shim{suffix}"), "shim".to_owned()],
        vec!["bootmgfw".to_owned()],
        vec![format!("grub{suffix}")],
        vec![format!("systemd-boot{suffix}")],
        vec![format!("refind_{suffix}")],
    ];
    let rank = |program: &EfiProgram| known.iter().position(|names| names.contains(&program.stem));
    let plain = || programs.iter().filter(|program| is_plain(&program.path));
    let (removable, vendors): (Vec<_>, Vec<_>) =
        plain().partition(|program| program.vendor == "boot");
    let ranked = vendors.into_iter().filter_map(|program| Some((rank(program)?, &program.path)));
    if let Some((_, path)) = ranked.min() {
        return Some(path);
    }
    let wanted = format!("boot{suffix}");
    // Not one a folder deeper.
    let is_it =
        |program: &&EfiProgram| program.stem == wanted && program.path.matches('\\').count() == 3;
    removable.into_iter().find(is_it).map(|program| program.path.as_str())
}

/// Whether an entry of the boot order can name it, and a person read it.
fn is_plain(path: &str) -> bool {
    path.len() <= MOST_CHARS && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

#[cfg(test)]
mod tests;
