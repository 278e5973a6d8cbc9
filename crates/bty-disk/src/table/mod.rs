//! Changing a disk's partition table: its backup to the disk's end, a larger last partition, one more, new identities.
//!
//! All of it is functions on bytes: a table is read from the disk's first bytes, changed, and gives the writes that make it so, in an
//! order in which a cut between any two leaves a table that is whole. A table that contradicts itself is not touched.

mod error;
mod fields;
mod gpt;
mod mbr;

#[cfg(test)]
mod tests;

pub use error::TableError;
pub use gpt::Gpt;
pub use mbr::Mbr;

/// So many of a disk's first bytes hold a table that can be changed; less where the disk has less.
pub const HEAD_BYTES: usize = 64 * 1024;
/// Where a partition begins and ends is a multiple of this, as nearly all tools have it.
const ALIGN_BYTES: u64 = 1 << 20;

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    /// GUID partition table.
    Gpt(Gpt),
    /// Master boot record.
    Mbr(Mbr),
}

/// Where a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins, in bytes.
    pub start_bytes: u64,
    /// Its size, in bytes.
    pub size_bytes: u64,
}

impl Slot {
    fn end_bytes(&self) -> u64 {
        self.start_bytes.saturating_add(self.size_bytes)
    }
}

/// Bytes for a place on the disk, both whole sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where, in bytes.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

impl Table {
    /// Reads the table at the disk's beginning: `head` is its first [`HEAD_BYTES`], or all there are.
    pub fn parse(head: &[u8], sector_bytes: u32, disk_bytes: u64) -> Result<Self, TableError> {
        let sector = usize::try_from(sector_bytes).unwrap_or(usize::MAX);
        if head.get(510..512) != Some(&[0x55, 0xaa]) {
            return Err(TableError::Absent);
        }
        if Gpt::is_there(head, sector) {
            return Gpt::parse(head, sector_bytes, disk_bytes).map(Self::Gpt);
        }
        Mbr::parse(head, sector_bytes, disk_bytes).map(Self::Mbr)
    }

    /// The partition whose end comes last.
    pub fn last(&self) -> Option<Slot> {
        self.slots().into_iter().max_by_key(Slot::end_bytes)
    }

    /// Its partitions; of an MBR the primary ones.
    pub fn slots(&self) -> Vec<Slot> {
        match self {
            Self::Gpt(gpt) => gpt.slots(),
            Self::Mbr(mbr) => mbr.slots(),
        }
    }

    /// Makes the last partition end at the end of what is free; says where it is then, `None` where it ends there already.
    pub fn grow(&mut self) -> Result<Option<Slot>, TableError> {
        match self {
            Self::Gpt(gpt) => gpt.grow(),
            Self::Mbr(mbr) => mbr.grow(),
        }
    }

    /// Adds a partition for a FAT file system at the end of what is free behind the last one, of at least this size.
    pub fn add_fat(
        &mut self,
        name: &str,
        size_bytes: u64,
        random: &mut dyn FnMut() -> [u8; 16],
    ) -> Result<Slot, TableError> {
        match self {
            Self::Gpt(gpt) => gpt.add_fat(name, size_bytes, random),
            Self::Mbr(mbr) => mbr.add_fat(size_bytes),
        }
    }

    /// Gives the disk and its partitions new identities.
    pub fn renew(&mut self, random: &mut dyn FnMut() -> [u8; 16]) {
        match self {
            Self::Gpt(gpt) => gpt.renew(random),
            Self::Mbr(mbr) => mbr.renew(random),
        }
    }

    /// What has to be written, in this order, with a flush after each.
    pub fn writes(&self) -> Vec<Write> {
        match self {
            Self::Gpt(gpt) => gpt.writes(),
            Self::Mbr(mbr) => mbr.writes(),
        }
    }
}

/// Whether no two of these overlap.
fn are_apart(slots: &[Slot]) -> bool {
    let mut sorted = slots.to_vec();
    sorted.sort_by_key(|slot| slot.start_bytes);
    sorted.windows(2).all(|pair| match pair {
        [one, next] => one.end_bytes() <= next.start_bytes,
        _ => true,
    })
}

/// A multiple of the alignment that is not behind this sector.
fn align_down(sector: u64, sector_bytes: u64) -> u64 {
    let align = (ALIGN_BYTES / sector_bytes).max(1);
    sector / align * align
}
