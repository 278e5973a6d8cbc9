//! FAT12, FAT16 and FAT32: clusters whose entry in the table is 0 (Microsoft, FAT32 File System Specification 1.03).

use std::ops::Range;

use super::map::{Doubt, FreeMap, Part, have, read};
use crate::{
    ReadAt as _,
    fields::{array, u16_le, u32_le},
    inspect::filesystem::fat::{Fat, Width},
};

/// How much of the table is a piece: whole entries of any width.
const PIECE_BYTES: u64 = 96 * 1024;
const BOOT_SECTOR_BYTES: u64 = 512;

/// The table, and how far it was read.
pub(super) struct Table {
    fat: Fat,
    /// How far the second table is behind the first; 0 where there is none.
    copy_after: u64,
    cluster: u64,
}

impl Table {
    pub(super) fn open(part: &Part<'_>) -> Result<Self, Doubt> {
        let boot = read(part, 0, BOOT_SECTOR_BYTES)?;
        let fat = Fat::parse(&boot).ok_or(Doubt::Odd("its boot sector contradicts itself"))?;
        let is_wide = fat.width == Width::Bits32;
        // Bits that systems keep where they had not unmounted it, or found errors.
        let [state] = have(array(&boot, if is_wide { 65 } else { 37 }))?;
        let start = read(part, fat.table.start, 8)?;
        let is_clean = match fat.width {
            Width::Bits12 => true,
            Width::Bits16 => have(u16_le(&start, 2))? >> 14 == 3,
            Width::Bits32 => have(u32_le(&start, 4))? >> 26 & 3 == 3,
        };
        if state & 3 != 0 || !is_clean {
            return Err(Doubt::Odd("it was not unmounted, or has errors: fsck.vfat mends it"));
        }
        if is_wide && have(u16_le(&boot, 40))? & 0x80 != 0 {
            return Err(Doubt::Odd("it keeps one of its tables up to date, and not the other"));
        }
        let [tables] = have(array(&boot, 16))?;
        let table_bytes = fat.table.end - fat.table.start;
        let needed = match fat.width {
            Width::Bits12 => (fat.clusters + 2) * 3 / 2,
            Width::Bits16 => (fat.clusters + 2) * 2,
            Width::Bits32 => (fat.clusters + 2) * 4,
        };
        if needed > table_bytes || fat.size_bytes > part.length()? {
            return Err(Doubt::Odd(
                "its boot sector contradicts itself or the size of its partition",
            ));
        }
        let copy_after = if tables > 1 { table_bytes } else { 0 };
        Ok(Self { fat, copy_after, cluster: 0 })
    }

    /// Entries in so many bytes.
    fn entries_in(&self, bytes: u64) -> u64 {
        match self.fat.width {
            Width::Bits12 => bytes * 2 / 3,
            Width::Bits16 => bytes / 2,
            Width::Bits32 => bytes / 4,
        }
    }

    /// Where in a piece an entry is.
    fn place(&self, entry: u64) -> u64 {
        match self.fat.width {
            Width::Bits12 => entry + entry / 2,
            Width::Bits16 => entry * 2,
            Width::Bits32 => entry * 4,
        }
    }
}

impl FreeMap for Table {
    fn next(&mut self, part: &Part<'_>, found: &mut Vec<Range<u64>>) -> Result<bool, Doubt> {
        let (first, last) = (self.cluster, self.fat.clusters + 2);
        if first >= last {
            return Ok(false);
        }
        let at = self.fat.table.start + self.place(first);
        let bytes = PIECE_BYTES.min(self.fat.table.end - at);
        let piece = read(part, at, bytes)?;
        if self.copy_after > 0 && read(part, at + self.copy_after, bytes)? != piece {
            return Err(Doubt::Odd("its two tables differ: fsck.vfat mends it"));
        }
        let behind = (first + self.entries_in(PIECE_BYTES)).min(last);
        let byte = |cluster: u64| self.fat.data_at + (cluster - 2) * self.fat.cluster_bytes;
        let mut begun = None;
        for cluster in first.max(2)..behind {
            let at = usize::try_from(self.place(cluster - first)).unwrap_or(usize::MAX);
            let number = u32::try_from(cluster).unwrap_or(u32::MAX);
            let entry = piece.get(at..).and_then(|rest| self.fat.value(rest, number));
            match (have(entry)? == 0, begun) {
                (true, None) => begun = Some(cluster),
                (false, Some(start)) => {
                    found.push(byte(start)..byte(cluster));
                    begun = None;
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        found.extend(begun.map(|start| byte(start)..byte(behind)));
        self.cluster = behind;
        Ok(true)
    }
}
