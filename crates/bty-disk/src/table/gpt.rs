//! The GUID partition table (UEFI 2.10, section 5.3).
//!
//! The primary table lies at the disk's beginning: protective MBR, header, entries. The backup's entries and header are the last
//! sectors that the table knows of, which on a disk larger than its image are not the disk's last.

use super::{
    Slot, TableError, Write, align_down, are_apart,
    fields::{crc32, put, u32_at, u64_at},
};

const SIGNATURE: &[u8] = b"EFI PART";
const HEADER_BYTES: usize = 92;
/// Fields of the header (table 5-5).
const HEADER_SIZE: usize = 12;
const HEADER_CRC: usize = 16;
const MY_LBA: usize = 24;
const ALTERNATE_LBA: usize = 32;
const FIRST_USABLE: usize = 40;
const LAST_USABLE: usize = 48;
const DISK_GUID: usize = 56;
const ENTRIES_LBA: usize = 72;
const ENTRY_COUNT: usize = 80;
const ENTRY_SIZE: usize = 84;
const ENTRIES_CRC: usize = 88;
/// Fields of an entry (table 5-6).
const ENTRY_GUID: usize = 16;
const ENTRY_FIRST: usize = 32;
const ENTRY_LAST: usize = 40;
const ENTRY_NAME: usize = 56;
const NAME_UNITS: usize = 36;
/// Microsoft's basic data partition, which FAT partitions have: EBD0A0A2-B9E5-4433-87C0-68B6B72699C7.
const BASIC_DATA: [u8; 16] = [
    0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7,
];
const PROTECTIVE: u8 = 0xee;

/// A GUID partition table that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// The disk's beginning up to the end of the entries.
    head: Vec<u8>,
    sector: usize,
    /// Sectors of the disk.
    sectors: u64,
    /// Where its backup's header was when it was read.
    was_alternate: u64,
    /// Where a partition was added.
    added: Option<Slot>,
}

impl Gpt {
    /// Whether there is one, whole or not.
    pub(super) fn is_there(head: &[u8], sector: usize) -> bool {
        head.get(sector..).is_some_and(|rest| rest.starts_with(SIGNATURE))
    }

    pub(super) fn parse(
        head: &[u8],
        sector_bytes: u32,
        disk_bytes: u64,
    ) -> Result<Self, TableError> {
        const DAMAGED: fn(&'static str) -> TableError = TableError::Damaged;
        let sector = usize::try_from(sector_bytes).unwrap_or(usize::MAX);
        let header = head
            .get(sector..sector.saturating_mul(2))
            .ok_or_else(|| DAMAGED("its header is not within the disk"))?;
        let size = usize::try_from(u32_at(header, HEADER_SIZE)).unwrap_or(usize::MAX);
        if size < HEADER_BYTES || size > sector {
            return Err(DAMAGED("its header has an impossible size"));
        }
        if header_crc(header) != u32_at(header, HEADER_CRC) || u64_at(header, MY_LBA) != 1 {
            return Err(DAMAGED("its header's checksum or place is wrong"));
        }
        let (count, entry_bytes) = (u32_at(header, ENTRY_COUNT), u32_at(header, ENTRY_SIZE));
        let first = u64_at(header, ENTRIES_LBA);
        if entry_bytes < 128 || !entry_bytes.is_multiple_of(8) || count == 0 || first < 2 {
            return Err(DAMAGED("its entries have an impossible size or place"));
        }
        let bytes = u64::from(count) * u64::from(entry_bytes);
        let end = first.saturating_mul(u64::from(sector_bytes)).saturating_add(bytes);
        let end = usize::try_from(end).unwrap_or(usize::MAX).checked_next_multiple_of(sector);
        let kept = end.and_then(|end| head.get(..end));
        let kept = kept.ok_or(TableError::Unsuited(
            "the partition table's entries are further behind than bty looks",
        ))?;
        let table = Self {
            head: kept.to_vec(),
            sector,
            sectors: disk_bytes / u64::from(sector_bytes),
            was_alternate: u64_at(header, ALTERNATE_LBA),
            added: None,
        };
        table.check()?;
        Ok(table)
    }

    fn check(&self) -> Result<(), TableError> {
        let damaged = |what| Err(TableError::Damaged(what));
        if crc32(self.entries()) != u32_at(self.header(), ENTRIES_CRC) {
            return damaged("its entries' checksum is wrong");
        }
        let (first, last) = (self.field(FIRST_USABLE), self.field(LAST_USABLE));
        let alternate = self.field(ALTERNATE_LBA);
        let begins_behind = (self.head.len() / self.sector) as u64 <= first;
        let backup_fits = last
            .checked_add(self.entry_sectors())
            .is_some_and(|end| end < alternate && alternate < self.sectors);
        if !begins_behind || first > last || !backup_fits {
            return damaged(
                "what it says is usable overlaps the table itself, or is not within the disk",
            );
        }
        let is_inside = |entry: &[u8]| {
            let (start, end) = (u64_at(entry, ENTRY_FIRST), u64_at(entry, ENTRY_LAST));
            first <= start && start <= end && end <= last
        };
        if !self.used().all(|(_, entry)| is_inside(entry)) {
            return damaged("a partition is not within what it says is usable");
        }
        if !are_apart(&self.slots()) {
            return damaged("partitions overlap");
        }
        self.check_mbr()
    }

    fn check_mbr(&self) -> Result<(), TableError> {
        let kinds: Vec<u8> = (0..4)
            .filter_map(|slot| self.head.get(446 + 16 * slot + 4).copied())
            .filter(|&kind| kind != 0)
            .collect();
        if kinds.contains(&PROTECTIVE) && kinds.iter().any(|&kind| kind != PROTECTIVE) {
            return Err(TableError::Unsuited(
                "the disk has a hybrid MBR: partitions in a GPT and in an MBR, which would differ",
            ));
        }
        match kinds.as_slice() {
            [PROTECTIVE] => Ok(()),
            _ => Err(TableError::Damaged("there is no protective MBR before it")),
        }
    }

    /// Where the backup's header is, in bytes.
    pub fn backup_at(&self) -> u64 {
        self.field(ALTERNATE_LBA) * self.sector as u64
    }

    /// Passes the sector at [`Self::backup_at`] where it is this table's backup, or no header at all: then one is made.
    pub fn check_backup(&self, header: &[u8]) -> Result<(), TableError> {
        if !header.starts_with(SIGNATURE) {
            return Ok(());
        }
        let size = usize::try_from(u32_at(header, HEADER_SIZE)).unwrap_or(usize::MAX);
        let is_whole = (HEADER_BYTES..=header.len()).contains(&size)
            && header_crc(header) == u32_at(header, HEADER_CRC)
            && u64_at(header, MY_LBA) == self.field(ALTERNATE_LBA)
            && u64_at(header, ALTERNATE_LBA) == 1;
        let same = [FIRST_USABLE..ENTRIES_LBA, ENTRY_COUNT..HEADER_BYTES];
        let is_same =
            same.into_iter().all(|range| header.get(range.clone()) == self.header().get(range));
        if is_whole && is_same {
            return Ok(());
        }
        Err(TableError::Damaged("its backup says something else than it does"))
    }

    /// Moves the backup to the disk's end; says whether it was elsewhere.
    pub fn move_to_end(&mut self) -> bool {
        let last = self.sectors - 1;
        let covered = u32::try_from(last).unwrap_or(u32::MAX);
        let entry = (0..4).map(|slot| 446 + 16 * slot);
        let protective = entry.into_iter().find(|at| self.head.get(at + 4) == Some(&PROTECTIVE));
        if self.field(ALTERNATE_LBA) == last {
            return false;
        }
        if let Some(at) = protective {
            put(&mut self.head, at + 5, &[0xff; 3]);
            put(&mut self.head, at + 8, &1_u32.to_le_bytes());
            put(&mut self.head, at + 12, &covered.to_le_bytes());
        }
        self.set_field(LAST_USABLE, last - self.entry_sectors() - 1);
        self.set_field(ALTERNATE_LBA, last);
        self.seal();
        true
    }

    pub(super) fn grow(&mut self) -> Result<Option<Slot>, TableError> {
        let own_end = |(_, entry): &(u32, &[u8])| u64_at(entry, ENTRY_LAST);
        let added = self.added.map(|slot| slot.number);
        let Some((number, last)) = self
            .used()
            .filter(|(number, _)| Some(*number) != added)
            .max_by_key(own_end)
            .map(|found| (found.0, own_end(&found)))
        else {
            return Err(TableError::Unsuited("the partition table has no partition"));
        };
        let until = match self.added {
            Some(added) => added.start_bytes / self.sector as u64,
            None => align_down(self.field(LAST_USABLE) + 1, self.sector as u64),
        };
        if until <= last + 1 {
            return Ok(None);
        }
        self.edit(number, |entry| put(entry, ENTRY_LAST, &(until - 1).to_le_bytes()));
        self.seal();
        Ok(self.slots().into_iter().find(|slot| slot.number == number))
    }

    pub(super) fn add_fat(
        &mut self,
        name: &str,
        size_bytes: u64,
        random: &mut dyn FnMut() -> [u8; 16],
    ) -> Result<Slot, TableError> {
        let sector = self.sector as u64;
        let behind = self.slots().iter().map(Slot::end_bytes).max().unwrap_or_default() / sector;
        let behind = behind.max(self.field(FIRST_USABLE));
        let end = self.field(LAST_USABLE) + 1;
        let sectors = size_bytes.div_ceil(sector);
        let start = end.checked_sub(sectors).map(|start| align_down(start, sector));
        let Some(start) = start.filter(|&start| start >= behind) else {
            let free = end.saturating_sub(behind) * sector;
            return Err(TableError::NoRoom { needs: size_bytes, free });
        };
        let used: Vec<u32> = self.used().map(|(number, _)| number).collect();
        let count = u32_at(self.header(), ENTRY_COUNT);
        // Behind the others: systems that number partitions by their place in the table keep theirs.
        let after = used.iter().max().map_or(1, |number| number + 1);
        let number = (after..=count).chain(1..after).find(|number| !used.contains(number));
        let number = number.ok_or(TableError::NoEntry)?;
        let guid = version_4(random());
        self.edit(number, |entry| {
            entry.fill(0);
            put(entry, 0, &BASIC_DATA);
            put(entry, ENTRY_GUID, &guid);
            put(entry, ENTRY_FIRST, &start.to_le_bytes());
            put(entry, ENTRY_LAST, &(start + sectors - 1).to_le_bytes());
            for (at, unit) in name.encode_utf16().take(NAME_UNITS).enumerate() {
                put(entry, ENTRY_NAME + 2 * at, &unit.to_le_bytes());
            }
        });
        self.seal();
        let slot = Slot { number, start_bytes: start * sector, size_bytes: sectors * sector };
        self.added = Some(slot);
        Ok(slot)
    }

    pub(super) fn renew(&mut self, random: &mut dyn FnMut() -> [u8; 16]) {
        let sector = self.sector;
        put(&mut self.head, sector + DISK_GUID, &version_4(random()));
        let numbers: Vec<u32> = self.used().map(|(number, _)| number).collect();
        for number in numbers {
            let guid = version_4(random());
            self.edit(number, |entry| put(entry, ENTRY_GUID, &guid));
        }
        self.seal();
    }

    pub(super) fn slots(&self) -> Vec<Slot> {
        let sector = self.sector as u64;
        self.used()
            .map(|(number, entry)| {
                let (first, last) = (u64_at(entry, ENTRY_FIRST), u64_at(entry, ENTRY_LAST));
                Slot {
                    number,
                    start_bytes: first.saturating_mul(sector),
                    size_bytes: (last - first + 1).saturating_mul(sector),
                }
            })
            .collect()
    }

    /// The backup, then the primary in one request, then the old backup's header is taken away where it is in nobody's way. A cut
    /// between them leaves a primary that is whole: the old one, whose backup is still there, or the new one with its own.
    pub(super) fn writes(&self) -> Vec<Write> {
        let sector = self.sector as u64;
        let alternate = self.field(ALTERNATE_LBA);
        let entries_lba = alternate - self.entry_sectors();
        let mut header = self.header().to_vec();
        put(&mut header, MY_LBA, &alternate.to_le_bytes());
        put(&mut header, ALTERNATE_LBA, &1_u64.to_le_bytes());
        put(&mut header, ENTRIES_LBA, &entries_lba.to_le_bytes());
        seal_header(&mut header);
        let mut backup = self.entries().to_vec();
        backup.resize(backup.len().next_multiple_of(self.sector), 0);
        backup.extend(header);
        let mut writes = vec![
            Write { offset: entries_lba * sector, bytes: backup },
            Write { offset: 0, bytes: self.head.clone() },
        ];
        let old = self.was_alternate * sector;
        let is_covered = old + sector > entries_lba * sector
            || self
                .added
                .is_some_and(|added| (added.start_bytes..added.end_bytes()).contains(&old));
        if self.was_alternate != alternate && !is_covered {
            writes.push(Write { offset: old, bytes: vec![0; self.sector] });
        }
        writes
    }

    fn header(&self) -> &[u8] {
        self.head.get(self.sector..2 * self.sector).unwrap_or_default()
    }

    fn field(&self, at: usize) -> u64 {
        u64_at(self.header(), at)
    }

    fn set_field(&mut self, at: usize, value: u64) {
        let sector = self.sector;
        put(&mut self.head, sector + at, &value.to_le_bytes());
    }

    fn entry_bytes(&self) -> usize {
        usize::try_from(u32_at(self.header(), ENTRY_SIZE)).unwrap_or_default()
    }

    fn entries_range(&self) -> std::ops::Range<usize> {
        let count = usize::try_from(u32_at(self.header(), ENTRY_COUNT)).unwrap_or_default();
        let start = usize::try_from(self.field(ENTRIES_LBA)).unwrap_or_default() * self.sector;
        start..start + count * self.entry_bytes()
    }

    fn entries(&self) -> &[u8] {
        self.head.get(self.entries_range()).unwrap_or_default()
    }

    fn entry_sectors(&self) -> u64 {
        self.entries().len().div_ceil(self.sector) as u64
    }

    /// The entries that are in use, with their numbers.
    fn used(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let entries = self.entries().chunks_exact(self.entry_bytes().max(1));
        (1..).zip(entries).filter(|(_, entry)| entry.get(..16).is_some_and(|kind| kind != [0; 16]))
    }

    fn edit(&mut self, number: u32, change: impl FnOnce(&mut [u8])) {
        let size = self.entry_bytes();
        let index = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
        let start = self.entries_range().start + index.saturating_mul(size);
        if let Some(entry) = self.head.get_mut(start..start.saturating_add(size)) {
            change(entry);
        }
    }

    /// Puts the checksums right.
    fn seal(&mut self) {
        let (sector, crc) = (self.sector, crc32(self.entries()));
        put(&mut self.head, sector + ENTRIES_CRC, &crc.to_le_bytes());
        if let Some(header) = self.head.get_mut(sector..2 * sector) {
            seal_header(header);
        }
    }
}

fn seal_header(header: &mut [u8]) {
    let crc = header_crc(header);
    put(header, HEADER_CRC, &crc.to_le_bytes());
}

/// The checksum of a header, whose own field counts as zero.
fn header_crc(header: &[u8]) -> u32 {
    let size = usize::try_from(u32_at(header, HEADER_SIZE)).unwrap_or_default();
    let mut counted = header.get(..size).unwrap_or_default().to_vec();
    put(&mut counted, HEADER_CRC, &[0; 4]);
    crc32(&counted)
}

/// Random bytes as a GUID that says that it is random (RFC 9562, section 5.4), in the order of a GPT: the first three fields are little
/// endian.
const fn version_4(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[7] = bytes[7] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}
