//! Which program on a disk starts its system: what the image has put into its EFI system partition.
//!
//! A vendor's own loader comes before the removable medium's (`\EFI\BOOT`): there a shim may find its fallback program, which makes
//! an entry of its own and puts it first in the boot order.
//!
//! The disk's bytes are foreign: what is read is bounded, and where the FAT library panics that is an error.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

use bty_disk::device::Target;
use bty_image::inspect::{self, HEAD_BYTES, PartitionId};
use bty_sys::{ALIGNMENT, AlignedBuf};
use fatfs::{Dir, FileSystem, FsOptions};

use super::device_path::{HardDrive, Signature};

/// Pages of the partition that are read from the disk at most; an ESP with three systems on it takes some forty.
const MOST_PAGES: u32 = 2048;
/// Pieces that the library reads out of them at most.
const MOST_READS: u32 = 1_000_000;
/// Entries of one folder that are looked at.
const MOST_ENTRIES: usize = 512;
/// Characters of a folder's or file's name.
const MOST_CHARS: usize = 64;

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
    /// The disk, or what is on it.
    #[error("reading the image's EFI system partition")]
    Read(#[from] io::Error),
    /// The library gave up.
    #[error("the image's EFI system partition is damaged: its file system can't be read")]
    Damaged,
}

/// Looks for the program that starts the disk's system; `suffix` is how the firmware's kind is called in names (`x64`, `aa64`).
pub fn find(disk: &dyn Target, suffix: &str) -> Result<Loader, LoaderError> {
    let (drive, start, size) = partition(disk)?;
    let window = Window::new(disk, start, size)?;
    let search = AssertUnwindSafe(|| search(window, suffix));
    let file = catch_unwind(search).map_err(|_| LoaderError::Damaged)??;
    let file = file.ok_or_else(|| LoaderError::NoProgram { suffix: suffix.to_owned() })?;
    Ok(Loader { drive, file })
}

/// The first EFI system partition: what firmware knows it by, and where it is.
fn partition(disk: &dyn Target) -> Result<(HardDrive, u64, u64), LoaderError> {
    let mut head = AlignedBuf::new(HEAD_BYTES);
    let bytes = disk.size_bytes().min(HEAD_BYTES as u64);
    let head = usize::try_from(bytes).ok().and_then(|bytes| head.get_mut(..bytes));
    let head = head.ok_or(LoaderError::Beyond)?;
    disk.read_at(head, 0)?;
    let found = inspect::inspect(head).partitions;
    let esp = found.into_iter().find(inspect::Partition::is_efi_system);
    let esp = esp.ok_or(LoaderError::NoPartition)?;
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
    let drive = HardDrive {
        partition: esp.number,
        start: esp.start_bytes / sector,
        size: esp.size_bytes / sector,
        signature,
    };
    Ok((drive, esp.start_bytes, esp.size_bytes))
}

type Folder<'f, 'd> = Dir<'f, Window<'d>>;

fn search(window: Window<'_>, suffix: &str) -> io::Result<Option<String>> {
    let file_system = FileSystem::new(window, FsOptions::new())?;
    let Some((efi_name, efi)) = folder(&file_system.root_dir(), "EFI")? else { return Ok(None) };
    let mut best: Option<(usize, String)> = None;
    let mut removable = None;
    for name in names(&efi, true)? {
        let path = format!("\\{efi_name}\\{name}");
        let Some((_, inner)) = folder(&efi, &name)? else { continue };
        if name.eq_ignore_ascii_case("BOOT") {
            let wanted = format!("BOOT{suffix}.EFI");
            removable = names(&inner, false)?
                .into_iter()
                .find(|file| file.eq_ignore_ascii_case(&wanted))
                .map(|file| format!("{path}\\{file}"));
            continue;
        }
        let found = loader_in(&inner, &path, suffix)?;
        if let Some(found) = found.filter(|found| best.as_ref().is_none_or(|best| found < best)) {
            best = Some(found);
        }
    }
    Ok(best.map(|(_, file)| file).or(removable))
}

/// The best loader of a vendor's folder, with its rank; smaller is better.
fn loader_in(
    inner: &Folder<'_, '_>,
    path: &str,
    suffix: &str,
) -> io::Result<Option<(usize, String)>> {
    // The loader that Secure Boot lets through comes first; SUSE's says nothing of the processor.
    let known = [
        vec![format!("shim{suffix}.efi"), "shim.efi".to_owned()],
        vec!["bootmgfw.efi".to_owned()],
        vec![format!("grub{suffix}.efi")],
        vec![format!("systemd-boot{suffix}.efi")],
        vec![format!("refind_{suffix}.efi")],
    ];
    let is_one =
        |file: &str, names: &[String]| names.iter().any(|name| file.eq_ignore_ascii_case(name));
    let rank = |file: &String| known.iter().position(|names| is_one(file, names));
    let ranked = |files: Vec<String>, path: &str| {
        files.into_iter().filter_map(|file| Some((rank(&file)?, format!("{path}\\{file}")))).min()
    };
    let here = ranked(names(inner, false)?, path);
    // Windows has its own one folder deeper: \EFI\Microsoft\Boot.
    let Some((name, deeper)) = folder(inner, "Boot")? else { return Ok(here) };
    let there = ranked(names(&deeper, false)?, &format!("{path}\\{name}"));
    Ok([here, there].into_iter().flatten().min())
}

/// The folder of this name, as it is spelled there.
fn folder<'f, 'd>(
    within: &Folder<'f, 'd>,
    name: &str,
) -> io::Result<Option<(String, Folder<'f, 'd>)>> {
    for entry in within.iter().take(MOST_ENTRIES) {
        let entry = entry?;
        let called = entry.file_name();
        if entry.is_dir() && called.eq_ignore_ascii_case(name) {
            return Ok(Some((called, entry.to_dir())));
        }
    }
    Ok(None)
}

/// The names of the folders, or of the files, in a folder. Names that are no plain text are passed over.
fn names(within: &Folder<'_, '_>, of_folders: bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in within.iter().take(MOST_ENTRIES) {
        let entry = entry?;
        let name = entry.file_name();
        let is_plain = name.len() <= MOST_CHARS
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\/".contains(&byte));
        if entry.is_dir() == of_folders && is_plain {
            names.push(name);
        }
    }
    Ok(names)
}

/// A partition as a file that can only be read, so much and no more.
struct Window<'d> {
    disk: &'d dyn Target,
    start: u64,
    size: u64,
    position: u64,
    page: AlignedBuf,
    /// Which page is in the buffer.
    holds: Option<u64>,
    pages_left: u32,
    reads_left: u32,
}

const PAGE: u64 = ALIGNMENT as u64;

impl<'d> Window<'d> {
    fn new(disk: &'d dyn Target, start: u64, size: u64) -> io::Result<Self> {
        if u64::from(disk.sector_bytes()) > PAGE {
            return Err(io::Error::other("sectors larger than a page"));
        }
        let page = AlignedBuf::new(ALIGNMENT);
        let (pages_left, reads_left) = (MOST_PAGES, MOST_READS);
        Ok(Self { disk, start, size, position: 0, page, holds: None, pages_left, reads_left })
    }

    /// The page, and how many of its bytes there are.
    fn load(&mut self, number: u64) -> io::Result<usize> {
        let offset = number * PAGE;
        let bytes = usize::try_from((self.size - offset).min(PAGE)).map_err(io::Error::other)?;
        if self.holds != Some(number) {
            self.pages_left = self.pages_left.checked_sub(1).ok_or_else(too_much)?;
            self.holds = None;
            let room = self.page.get_mut(..bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.disk.read_at(room, self.start + offset)?;
            self.holds = Some(number);
        }
        Ok(bytes)
    }
}

fn too_much() -> io::Error {
    io::Error::other("its file system leads on and on: it is damaged")
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads_left = self.reads_left.checked_sub(1).ok_or_else(too_much)?;
        if self.position >= self.size {
            return Ok(0);
        }
        let bytes = self.load(self.position / PAGE)?;
        let from = usize::try_from(self.position % PAGE).map_err(io::Error::other)?;
        let there = self.page.get(from..bytes).unwrap_or_default();
        let count = there.len().min(buffer.len());
        if let (Some(to), Some(there)) = (buffer.get_mut(..count), there.get(..count)) {
            to.copy_from_slice(there);
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
