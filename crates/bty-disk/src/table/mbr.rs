//! The master boot record: four primary partitions in the disk's first sector, counted in sectors of 32 bits.

use super::{
    Slot, TableError, Write, align_down, are_apart,
    fields::{put, u32_at},
};

const SIGNATURE: usize = 440;
const ENTRIES: usize = 446;
/// FAT32, addressed by sectors.
const FAT: u8 = 0x0c;
/// Partitions with partitions in them.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Stands before a GPT.
const PROTECTIVE: u8 = 0xee;
/// What stands for a cylinder, head and sector that can't be said.
const BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

/// A master boot record that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mbr {
    /// The disk's first sector.
    head: Vec<u8>,
    sector: u64,
    /// Sectors of the disk that an MBR can speak of.
    sectors: u64,
    /// Where a partition was added.
    added: Option<Slot>,
}

impl Mbr {
    pub(super) fn parse(
        head: &[u8],
        sector_bytes: u32,
        disk_bytes: u64,
    ) -> Result<Self, TableError> {
        let size = usize::try_from(sector_bytes).unwrap_or(usize::MAX);
        let head = head.get(..size).ok_or(TableError::Absent)?.to_vec();
        let sector = u64::from(sector_bytes);
        let sectors = (disk_bytes / sector).min(1 << 32);
        let table = Self { head, sector, sectors, added: None };
        let entries = (0..4).map(|slot| table.entry(slot));
        // A file system without a table has boot code or text there.
        if entries.into_iter().any(|entry| entry.first().is_none_or(|status| status & 0x7f != 0)) {
            return Err(TableError::Absent);
        }
        if (0..4).any(|slot| table.entry(slot).get(4) == Some(&PROTECTIVE)) {
            return Err(TableError::Damaged("a protective MBR without a GPT for this sector size"));
        }
        let slots = table.slots();
        if slots.is_empty() {
            return Err(TableError::Absent);
        }
        if slots.iter().any(|slot| slot.start_bytes == 0 || slot.end_bytes() > disk_bytes) {
            return Err(TableError::Damaged("a partition is not within the disk"));
        }
        if !are_apart(&slots) {
            return Err(TableError::Damaged("partitions overlap"));
        }
        Ok(table)
    }

    pub(super) fn slots(&self) -> Vec<Slot> {
        (1..=4).filter_map(|number| self.slot(number)).collect()
    }

    pub(super) fn grow(&mut self) -> Result<Option<Slot>, TableError> {
        let added = self.added.map(|slot| slot.number);
        let others = self.slots().into_iter().filter(|slot| Some(slot.number) != added);
        let last = others.max_by_key(Slot::end_bytes);
        let last = last.ok_or(TableError::Unsuited("the partition table has no partition"))?;
        let index = usize::try_from(last.number - 1).unwrap_or_default();
        if self.entry(index).get(4).is_some_and(|kind| EXTENDED.contains(kind)) {
            return Err(TableError::Unsuited(
                "the last partition is an extended one, with others in it",
            ));
        }
        let until = match self.added {
            Some(added) => added.start_bytes / self.sector,
            None => align_down(self.sectors, self.sector),
        };
        let start = last.start_bytes / self.sector;
        let sectors = until.saturating_sub(start).min(u32::MAX.into());
        if sectors.saturating_mul(self.sector) <= last.size_bytes {
            return Ok(None);
        }
        let count = u32::try_from(sectors).unwrap_or(u32::MAX);
        let at = ENTRIES + 16 * index;
        put(&mut self.head, at + 5, &BEYOND);
        put(&mut self.head, at + 12, &count.to_le_bytes());
        Ok(self.slot(last.number))
    }

    pub(super) fn add_fat(&mut self, size_bytes: u64) -> Result<Slot, TableError> {
        let behind = self.slots().iter().map(Slot::end_bytes).max().unwrap_or_default();
        let behind = behind / self.sector;
        let sectors = size_bytes.div_ceil(self.sector);
        let start = self.sectors.checked_sub(sectors).map(|at| align_down(at, self.sector));
        let Some(start) = start.filter(|&start| start >= behind) else {
            let free = self.sectors.saturating_sub(behind) * self.sector;
            return Err(TableError::NoRoom { needs: size_bytes, free });
        };
        let free = (1..=4_u32).find(|&number| self.slot(number).is_none());
        let number = free.ok_or(TableError::NoEntry)?;
        let at = ENTRIES + 16 * usize::try_from(number - 1).unwrap_or_default();
        let field = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        put(&mut self.head, at, &[0]);
        put(&mut self.head, at + 1, &BEYOND);
        put(&mut self.head, at + 4, &[FAT]);
        put(&mut self.head, at + 5, &BEYOND);
        put(&mut self.head, at + 8, &field(start));
        put(&mut self.head, at + 12, &field(sectors));
        self.added = self.slot(number);
        self.added.ok_or(TableError::NoEntry)
    }

    pub(super) fn renew(&mut self, random: &mut dyn FnMut() -> [u8; 16]) {
        let [a, b, c, d, ..] = random();
        // Zero means that there is none.
        put(&mut self.head, SIGNATURE, &[a | 1, b, c, d]);
    }

    pub(super) fn writes(&self) -> Vec<Write> {
        vec![Write { offset: 0, bytes: self.head.clone() }]
    }

    fn entry(&self, index: usize) -> &[u8] {
        self.head.get(ENTRIES + 16 * index..ENTRIES + 16 * (index + 1)).unwrap_or_default()
    }

    fn slot(&self, number: u32) -> Option<Slot> {
        let entry = self.entry(usize::try_from(number).ok()?.checked_sub(1)?);
        let (kind, sectors) = (*entry.get(4)?, u32_at(entry, 12));
        (kind != 0 && sectors != 0).then(|| Slot {
            number,
            start_bytes: u64::from(u32_at(entry, 8)) * self.sector,
            size_bytes: u64::from(sectors) * self.sector,
        })
    }
}
