//! What a partition holds: the file system's kind, label, size and how much of it is used, as its superblock or boot sector says.
//!
//! Parsers are tolerant functions on bytes that anybody may have made: what isn't understood is nothing, what contradicts itself is
//! left out, and no more is read than a fixed number of bytes.

mod boot_sector;
mod containers;
pub(crate) mod fat;
mod linux;
pub(crate) mod ntfs;

use std::io;

use crate::ReadAt;

/// How much of a partition's beginning holds the superblocks: btrfs has its own 64 KiB behind the beginning.
const HEAD_BYTES: u64 = 68 * 1024;

/// A file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Its kind, such as `ext4`.
    pub kind: &'static str,
    /// Its label; empty where it has none.
    pub label: String,
    /// Its UUID or serial number; empty where it has none.
    pub uuid: String,
    /// Its size in bytes; 0 where it does not say.
    pub size_bytes: u64,
    /// How many bytes of it are used, where it says so.
    pub used_bytes: Option<u64>,
}

/// A part of a disk, such as a partition.
pub(crate) struct Area<'a, D: ?Sized> {
    disk: &'a D,
    start: u64,
    bytes: u64,
}

impl<'a, D: ReadAt + ?Sized> Area<'a, D> {
    /// The part of a disk from `start`, as far as it is within the disk.
    pub(crate) fn new(disk: &'a D, start: u64, bytes: u64) -> Self {
        let rest = disk.length().unwrap_or_default().saturating_sub(start);
        Self { disk, start, bytes: bytes.min(rest) }
    }

    /// So many bytes from this offset, or as many as there are.
    pub(crate) fn bytes(&self, at: u64, most: u64) -> Option<Vec<u8>> {
        let bytes = self.bytes.checked_sub(at)?.min(most);
        let mut buffer = vec![0; usize::try_from(bytes).ok()?];
        self.read_exact_at(&mut buffer, at).ok()?;
        Some(buffer)
    }
}

impl<D: ReadAt + ?Sized> ReadAt for Area<'_, D> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = u64::try_from(buffer.len()).map_err(io::Error::other)?;
        let is_within = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        if !is_within {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.disk.read_exact_at(buffer, self.start + offset)
    }
}

/// What is in a part of a disk; nothing where nothing is known.
pub(crate) fn file_system<D: ReadAt + ?Sized>(area: &Area<'_, D>) -> Option<FileSystem> {
    let head = area.bytes(0, HEAD_BYTES)?;
    // Those with a magic far from the beginning first: what was there before may still be in the first sector. FAT has no magic, and
    // others have a boot sector that looks like one.
    linux::btrfs(&head)
        .or_else(|| linux::xfs(&head))
        .or_else(|| linux::ext(&head))
        .or_else(|| linux::swap(&head))
        .or_else(|| containers::luks(&head))
        .or_else(|| containers::lvm2(&head))
        .or_else(|| containers::squashfs(&head))
        .or_else(|| containers::iso9660(&head))
        .or_else(|| containers::bitlocker(&head))
        .or_else(|| ntfs::parse(&head, area))
        .or_else(|| boot_sector::exfat(&head))
        .or_else(|| fat::Fat::parse(&head).map(|fat| fat.file_system(&head, area)))
}

#[cfg(test)]
mod tests;
