//! Files for a FAT file system of the image, without a mount.
//!
//! What the FAT library changes is kept in memory until it is done, and then written: where it fails, or panics over a file system that
//! is damaged, the disk is as it was. Contents come before the tables that name them.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

use bty_disk::device::Target;
use bty_image::ReadAt;
use bty_sys::ALIGNMENT;
use bty_types::fix_ups::DroppedFile;
use fatfs::{FileSystem, FsOptions};

use super::look::Volume;
use crate::any_offset::{self, Bytes};

const PAGE: u64 = ALIGNMENT as u64;
const SMALLEST_SECTOR: usize = 512;
const ENTRY_BYTES: usize = 32;
/// Pages that are kept at most: what may be added, and a large FAT.
const MOST_PAGES: usize = 8192;
/// Pieces that the library reads and writes at most.
const MOST_CALLS: u32 = 10_000_000;

/// Puts files into a FAT file system, all of them or none.
pub(super) fn put(
    disk: &dyn Target,
    volume: &Volume,
    files: &[&DroppedFile],
) -> Result<(), String> {
    let (start, size) = (volume.partition.start_bytes, volume.partition.size_bytes);
    let mut window = Window::new(disk, start, size);
    let fill = AssertUnwindSafe(|| {
        make_folders(&mut window, files)?;
        fill(&mut window, files)
    });
    catch_unwind(fill)
        .map_err(|_| "its FAT file system is damaged".to_owned())?
        .map_err(|problem| format!("changing its FAT file system: {problem}"))?;
    window.store().map_err(|problem| format!("writing its FAT file system: {problem}"))
}

/// Makes the folders that are missing, before anything else is changed.
fn make_folders(window: &mut Window<'_>, files: &[&DroppedFile]) -> io::Result<()> {
    let file_system = FileSystem::new(&mut *window, FsOptions::new())?;
    for file in files {
        let mut at = file_system.root_dir();
        for folder in file.at.path.parts().0 {
            at = at.create_dir(folder)?;
        }
    }
    file_system.unmount()?;
    // Where the library expects it.
    window.position = 0;
    window.pages.values_mut().filter(|page| page.is_changed).for_each(|page| {
        page.bytes.chunks_mut(SMALLEST_SECTOR).for_each(mend_folder);
    });
    Ok(())
}

/// The library gives a new folder's entries `.` and `..` long names, which FAT does not know (FAT32 File System Specification 1.03,
/// section 6.5): takes those away.
fn mend_folder(sector: &mut [u8]) {
    const LONG: u8 = 0x0f;
    const DELETED: u8 = 0xe5;
    let (entries, _) = sector.as_chunks_mut::<ENTRY_BYTES>();
    let [one, dot, other, dots, ..] = entries else { return };
    let is_long = |entry: &[u8; ENTRY_BYTES]| entry[11] == LONG && entry[1] == b'.';
    if is_long(one) && dot.starts_with(b".   ") && is_long(other) && dots.starts_with(b"..   ") {
        (*one, *dot) = (*dot, *dots);
        other[0] = DELETED;
        dots[0] = DELETED;
    }
}

fn fill(window: &mut Window<'_>, files: &[&DroppedFile]) -> io::Result<()> {
    let file_system = FileSystem::new(window, FsOptions::new())?;
    for file in files {
        let (folders, name) = file.at.path.parts();
        let mut at = file_system.root_dir();
        for folder in folders {
            at = at.open_dir(folder)?;
        }
        let mut made = at.create_file(name)?;
        made.truncate()?;
        made.write_all(file.content.bytes())?;
        made.flush()?;
    }
    file_system.unmount()
}

/// A partition with changes that are not on the disk yet.
struct Window<'d> {
    disk: &'d dyn Target,
    start: u64,
    size: u64,
    position: u64,
    pages: BTreeMap<u64, Page>,
    calls_left: u32,
}

struct Page {
    bytes: Vec<u8>,
    is_changed: bool,
}

impl<'d> Window<'d> {
    fn new(disk: &'d dyn Target, start: u64, size: u64) -> Self {
        Self { disk, start, size, position: 0, pages: BTreeMap::new(), calls_left: MOST_CALLS }
    }

    /// What there is from the position to the end of its page.
    fn piece(&mut self) -> io::Result<(&mut [u8], &mut bool)> {
        let too_much = || io::Error::other("its file system leads on and on: it is damaged");
        self.calls_left = self.calls_left.checked_sub(1).ok_or_else(too_much)?;
        let number = self.position / PAGE;
        if !self.pages.contains_key(&number) {
            if self.pages.len() >= MOST_PAGES {
                return Err(too_much());
            }
            let offset = number * PAGE;
            let size = self.size.saturating_sub(offset).min(PAGE);
            let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
            Bytes(self.disk).read_exact_at(&mut bytes, self.start + offset)?;
            self.pages.insert(number, Page { bytes, is_changed: false });
        }
        let page = self.pages.get_mut(&number).ok_or(io::ErrorKind::UnexpectedEof)?;
        let from = usize::try_from(self.position % PAGE).map_err(io::Error::other)?;
        Ok((page.bytes.get_mut(from..).unwrap_or_default(), &mut page.is_changed))
    }

    /// Writes what was changed, from its end to its beginning.
    fn store(&self) -> io::Result<()> {
        for (number, page) in self.pages.iter().rev().filter(|(_, page)| page.is_changed) {
            any_offset::write(self.disk, &page.bytes, self.start + number * PAGE)?;
        }
        self.disk.flush()
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size {
            return Ok(0);
        }
        let mut there: &[u8] = self.piece()?.0;
        let count = there.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.position >= self.size {
            return Ok(0);
        }
        let (mut there, is_changed) = self.piece()?;
        *is_changed = true;
        let count = there.write(bytes)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
