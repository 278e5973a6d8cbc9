//! What is on the disk now: partitions and their file systems.

use std::io;

use bty_disk::device::Target;
use bty_image::{
    ReadAt,
    inspect::{self, HEAD_BYTES, Partition, contents},
};
use bty_sys::{ALIGNMENT, AlignedBuf};

/// A partition, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    /// The partition.
    pub(super) partition: Partition,
    /// The kind of its file system; empty where none is known.
    pub(super) kind: &'static str,
    /// The file system's label.
    pub(super) label: String,
}

impl Volume {
    pub(super) fn number(&self) -> u32 {
        self.partition.number
    }

    /// Whether it is one of the file systems that Linux systems are in and that are mounted here.
    pub(super) fn is_linux(&self) -> bool {
        matches!(self.kind, "ext2" | "ext3" | "ext4" | "xfs" | "btrfs")
    }

    pub(super) fn is_fat(&self) -> bool {
        self.kind.starts_with("fat")
    }
}

/// Looks at a disk. A partition that is not within it is left out.
pub(super) fn look(disk: &dyn Target) -> io::Result<Vec<Volume>> {
    let disk = Bytes(disk);
    let bytes = usize::try_from(disk.0.size_bytes()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
    let mut head = vec![0; bytes];
    disk.read_exact_at(&mut head, 0)?;
    let table = inspect::inspect(&head);
    let found = contents(&disk, &table);
    let volumes = table.partitions.into_iter().zip(found.partitions);
    let is_within = |partition: &Partition| {
        let end = partition.start_bytes.checked_add(partition.size_bytes);
        end.is_some_and(|end| end <= disk.0.size_bytes()) && partition.size_bytes > 0
    };
    Ok(volumes
        .filter(|(partition, _)| is_within(partition))
        .map(|(partition, within)| {
            let within = within.unwrap_or_default();
            Volume { partition, kind: within.kind, label: within.label }
        })
        .collect())
}

/// A disk whose bytes are read at any offset and in any number.
pub(super) struct Bytes<'d>(pub(super) &'d dyn Target);

impl ReadAt for Bytes<'_> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.size_bytes())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.0.size_bytes() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let start = offset / ALIGNMENT as u64 * ALIGNMENT as u64;
        let end = end.next_multiple_of(ALIGNMENT as u64).min(self.0.size_bytes());
        let bytes = usize::try_from(end - start).map_err(io::Error::other)?;
        let mut room = AlignedBuf::new(bytes);
        self.0.read_at(room.get_mut(..bytes).unwrap_or_default(), start)?;
        let skip = usize::try_from(offset - start).map_err(io::Error::other)?;
        let read = room.get(skip..skip + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(read);
        Ok(())
    }
}

/// Writes whole sectors from any buffer.
pub(super) fn write(disk: &dyn Target, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut room = AlignedBuf::new(bytes.len());
    let room = room.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(bytes);
    disk.write_at(room, offset)
}
