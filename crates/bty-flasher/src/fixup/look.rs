//! What is on the disk now: partitions and their file systems.

use std::io;

use bty_disk::device::Target;
use bty_image::{
    ReadAt as _,
    inspect::{self, HEAD_BYTES, Partition, contents},
};

use crate::any_offset::Bytes;

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
