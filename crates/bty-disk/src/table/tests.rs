//! Tables before and after, and what a cut leaves.

#![allow(clippy::cast_possible_truncation, reason = "the disks are a few MiB")]

use proptest::prelude::*;

use super::{
    fields::{crc32, put, u32_at, u64_at},
    *,
};

const ENTRY: usize = 128;

/// A disk of so many sectors with the image's table at its beginning and its backup at the image's end.
struct Disk {
    bytes: Vec<u8>,
    sector: usize,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sectors = self.bytes.len() / self.sector;
        write!(
            f,
            "{sectors} sectors of {}, {:?}",
            self.sector,
            self.table().map(|table| table.slots())
        )
    }
}

impl Disk {
    /// `partitions` are first and last sectors.
    fn gpt(sector: usize, sectors: usize, image_sectors: usize, partitions: &[(u64, u64)]) -> Self {
        let mut bytes = vec![0; sectors * sector];
        put(&mut bytes, 446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
        let image = u32::try_from(image_sectors).unwrap();
        put(&mut bytes, 458, &(image - 1).to_le_bytes());
        put(&mut bytes, 510, &[0x55, 0xaa]);
        let table = (128 * ENTRY).div_ceil(sector);
        let mut entries = vec![0; 128 * ENTRY];
        for (at, (first, last)) in partitions.iter().enumerate() {
            put(&mut entries, at * ENTRY, &[at as u8 + 1; 32]);
            put(&mut entries, at * ENTRY + 32, &first.to_le_bytes());
            put(&mut entries, at * ENTRY + 40, &last.to_le_bytes());
        }
        let last = image_sectors as u64 - 1;
        let usable = (table as u64 + 2, last - table as u64 - 1);
        for (my, other, at) in [(1, last, 2), (last, 1, last - table as u64)] {
            let mut header = vec![0; 92];
            put(&mut header, 0, b"EFI PART\0\0\x01\0");
            put(&mut header, 12, &92_u32.to_le_bytes());
            put(&mut header, 24, &my.to_le_bytes());
            put(&mut header, 32, &other.to_le_bytes());
            put(&mut header, 40, &usable.0.to_le_bytes());
            put(&mut header, 48, &usable.1.to_le_bytes());
            put(&mut header, 56, &[9; 16]);
            put(&mut header, 72, &at.to_le_bytes());
            put(&mut header, 80, &128_u32.to_le_bytes());
            put(&mut header, 84, &128_u32.to_le_bytes());
            put(&mut header, 88, &crc32(&entries).to_le_bytes());
            let crc = crc32(&header);
            put(&mut header, 16, &crc.to_le_bytes());
            put(&mut bytes, usize::try_from(my).unwrap() * sector, &header);
            put(&mut bytes, usize::try_from(at).unwrap() * sector, &entries);
        }
        Self { bytes, sector }
    }

    fn mbr(sectors: usize, partitions: &[(u8, u32, u32)]) -> Self {
        let mut bytes = vec![0; sectors * 512];
        for (at, (kind, start, count)) in partitions.iter().enumerate() {
            put(&mut bytes, 446 + 16 * at + 4, &[*kind]);
            put(&mut bytes, 446 + 16 * at + 8, &start.to_le_bytes());
            put(&mut bytes, 446 + 16 * at + 12, &count.to_le_bytes());
        }
        put(&mut bytes, 510, &[0x55, 0xaa]);
        Self { bytes, sector: 512 }
    }

    fn table(&self) -> Result<Table, TableError> {
        let head = &self.bytes[..self.bytes.len().min(HEAD_BYTES)];
        let table =
            Table::parse(head, u32::try_from(self.sector).unwrap(), self.bytes.len() as u64)?;
        if let Table::Gpt(gpt) = &table {
            let at = usize::try_from(gpt.backup_at()).unwrap();
            gpt.check_backup(&self.bytes[at..at + self.sector])?;
        }
        Ok(table)
    }

    fn write(&mut self, write: &Write) {
        let at = usize::try_from(write.offset).unwrap();
        self.bytes[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }

    fn apply(&mut self, table: &Table) {
        table.writes().iter().for_each(|write| self.write(write));
    }
}

fn counter() -> impl FnMut() -> [u8; 16] {
    let mut next = 100;
    move || {
        next += 1;
        [next; 16]
    }
}

const MIB: u64 = 1 << 20;

#[test]
fn everything_at_once_for_both_sector_sizes() {
    for sector in [512, 4096] {
        let per = MIB as usize / sector;
        let first = per as u64;
        let partitions = [(2 * first, 4 * first - 1), (first, 2 * first - 1)];
        let mut disk = Disk::gpt(sector, 32 * per + 3, 6 * per, &partitions);
        let mut table = disk.table().unwrap();
        let Table::Gpt(gpt) = &mut table else { panic!("no GPT") };
        assert!(gpt.move_to_end());
        assert!(!gpt.move_to_end(), "it is there");
        let mut random = counter();
        let added = table.add_fat("CIDATA", 4 * MIB, &mut random).unwrap();
        assert_eq!(added.number, 3);
        assert_eq!(added.start_bytes % MIB, 0);
        assert_eq!(added.size_bytes, 4 * MIB);
        let grown = table.grow().unwrap().unwrap();
        assert_eq!((grown.number, grown.start_bytes), (1, 2 * MIB));
        assert_eq!(grown.start_bytes + grown.size_bytes, added.start_bytes);
        assert_eq!(table.grow().unwrap(), None, "it was grown");
        table.renew(&mut random);
        disk.apply(&table);
        let head = &disk.bytes[..];
        assert_eq!(u32_at(head, 458), 32 * per as u32 + 2, "the protective MBR covers the disk");
        assert_eq!(u64_at(head, sector + 32), 32 * per as u64 + 2);
        assert_eq!(disk.table().unwrap().slots(), table.slots());
        let old = 6 * MIB as usize - sector;
        assert!(disk.bytes[old..old + sector].iter().all(|&byte| byte == 0), "the old backup");
    }
}

#[test]
fn only_new_identities_leave_the_backup_where_it_is() {
    let mut disk = Disk::gpt(512, 20480, 12288, &[(2048, 4095)]);
    let before = disk.table().unwrap();
    let mut table = before.clone();
    table.renew(&mut counter());
    disk.apply(&table);
    let Table::Gpt(after) = disk.table().unwrap() else { panic!("no GPT") };
    assert_eq!(after.backup_at(), 12287 * 512);
    assert_eq!(before.slots(), after.slots());
    let guids = |disk: &Disk| (disk.bytes[568..584].to_vec(), disk.bytes[1040..1056].to_vec());
    let (of_disk, of_partition) = guids(&disk);
    assert_eq!((of_disk[0], of_partition[0]), (101, 102));
    assert_eq!((of_disk[7] >> 4, of_disk[8] >> 6), (4, 2), "version and variant");
}

#[test]
fn a_master_boot_record_is_grown_and_given_another_partition() {
    let mut disk = Disk::mbr(65536, &[(0x83, 2048, 2048), (0x83, 4096, 2048)]);
    let mut table = disk.table().unwrap();
    let added = table.add_fat("CIDATA", 4 * MIB, &mut counter()).unwrap();
    assert_eq!((added.number, added.start_bytes), (3, 28 * MIB));
    let grown = table.grow().unwrap().unwrap();
    assert_eq!((grown.number, grown.start_bytes, grown.size_bytes), (2, 2 * MIB, 26 * MIB));
    table.renew(&mut counter());
    disk.apply(&table);
    assert_eq!(disk.table().unwrap().slots(), table.slots());
    assert_eq!(u32_at(&disk.bytes, 440), 0x6565_6565);
    let mut full =
        Disk::mbr(65536, &[(0x83, 2048, 9), (0x83, 4096, 9), (7, 8192, 9), (7, 9999, 9)]);
    let mut table = full.table().unwrap();
    assert_eq!(table.add_fat("", MIB, &mut counter()), Err(TableError::NoEntry));
    full.bytes[446 + 48 + 4] = 5;
    assert!(matches!(full.table().unwrap().grow(), Err(TableError::Unsuited(_))));
}

#[test]
fn where_there_is_no_room_the_table_stays() {
    let mut disk = Disk::gpt(512, 8192, 8192, &[(2048, 8158)]);
    let before = disk.table().unwrap();
    let mut table = before.clone();
    let Table::Gpt(gpt) = &mut table else { panic!("no GPT") };
    assert!(!gpt.move_to_end());
    let refused = table.add_fat("CIDATA", 4 * MIB, &mut counter()).unwrap_err();
    assert_eq!(refused, TableError::NoRoom { needs: 4 * MIB, free: 0 });
    assert_eq!(table.grow(), Ok(None));
    assert_eq!(table, before);
    disk.bytes.truncate(100);
    assert_eq!(disk.table(), Err(TableError::Absent));
}

/// A change of bytes, and what must be complained of.
type Damage = (&'static str, fn(&mut Vec<u8>));

#[test]
fn a_table_that_contradicts_itself_is_refused() {
    let damages: [Damage; 9] = [
        ("checksum or place is wrong", |disk| disk[512 + 60] ^= 1),
        ("entries' checksum", |disk| disk[1024 + 33] ^= 1),
        ("impossible size", |disk| disk[512 + 12] = 0),
        ("backup says something else", |disk| disk[12287 * 512 + 60] ^= 1),
        ("hybrid", |disk| disk[462 + 4] = 0x83),
        ("no protective", |disk| disk[446 + 4] = 0x83),
        ("not within what it says", |disk| resealed(disk, |disk| put(disk, 1064, &[0xff; 3]))),
        ("not within the disk", |disk| resealed(disk, |disk| put(disk, 512 + 32, &[0xff; 4]))),
        ("overlap", |disk| resealed(disk, |disk| put(disk, 1024 + 128 + 32, &[0, 8]))),
    ];
    for (complaint, damage) in damages {
        let mut disk = Disk::gpt(512, 20480, 12288, &[(2048, 4095), (4096, 6143)]);
        assert!(disk.table().is_ok());
        damage(&mut disk.bytes);
        let shown = disk.table().unwrap_err().to_string();
        assert!(shown.contains(complaint), "{complaint}: {shown}");
    }
}

/// Changes a table and puts its checksums right.
fn resealed(disk: &mut Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) {
    change(disk);
    let crc = crc32(&disk[1024..1024 + 128 * ENTRY]);
    put(disk, 512 + 88, &crc.to_le_bytes());
    put(disk, 512 + 16, &[0; 4]);
    let crc = crc32(&disk[512..604]);
    put(disk, 512 + 16, &crc.to_le_bytes());
}

#[test]
fn a_backup_that_is_missing_is_made() {
    let mut disk = Disk::gpt(512, 20480, 12288, &[(2048, 4095)]);
    disk.bytes[12255 * 512..].fill(0);
    let mut table = disk.table().unwrap();
    table.renew(&mut counter());
    disk.apply(&table);
    assert_eq!(&disk.bytes[12287 * 512..][..8], b"EFI PART");
}

fn arb_disk() -> impl Strategy<Value = Disk> {
    let sizes = proptest::collection::vec((0_u64..300, 1_u64..300), 1..6);
    (any::<bool>(), sizes, 0_u64..300, 0_usize..9000).prop_map(|(large, sizes, slack, beyond)| {
        let sector = if large { 4096 } else { 512 };
        let table = (128 * ENTRY / sector) as u64;
        let mut at = table + 2;
        let mut partitions = Vec::new();
        for (gap, size) in sizes {
            partitions.push((at + gap, at + gap + size - 1));
            at += gap + size;
        }
        partitions.rotate_left(1);
        let image = usize::try_from(at + slack + table + 1).unwrap();
        Disk::gpt(sector, image + beyond, image, &partitions)
    })
}

proptest! {
    #[test]
    fn a_cut_after_any_write_leaves_a_whole_table(mut disk in arb_disk(), to_end: bool, add: bool, grow: bool, renew: bool) {
        let before = disk.table().unwrap();
        let mut table = before.clone();
        if let (true, Table::Gpt(gpt)) = (to_end, &mut table) {
            gpt.move_to_end();
        }
        let added = if add { table.add_fat("CIDATA", MIB, &mut counter()).ok() } else { None };
        if grow {
            table.grow().unwrap();
        }
        if renew {
            table.renew(&mut counter());
        }
        let slots = table.slots();
        prop_assert!(are_apart(&slots));
        for slot in before.slots() {
            let now = slots.iter().find(|now| now.number == slot.number).unwrap();
            prop_assert_eq!(now.start_bytes, slot.start_bytes);
            prop_assert!(now.size_bytes >= slot.size_bytes);
        }
        let added = added.map(|added| added.number);
        let is_new = |slot: &&Slot| Some(slot.number) == added;
        prop_assert_eq!(slots.iter().filter(is_new).count(), usize::from(added.is_some()));
        let writes = table.writes();
        for (done, write) in writes.iter().enumerate() {
            disk.write(write);
            // What systems read first is whole, whatever became of the backup.
            let head = &disk.bytes[..disk.bytes.len().min(HEAD_BYTES)];
            let now = Table::parse(head, disk.sector as u32, disk.bytes.len() as u64).unwrap();
            prop_assert_eq!(now.slots(), if done == 0 { before.slots() } else { slots.clone() });
        }
        prop_assert_eq!(disk.table().unwrap().slots(), slots);
    }

    #[test]
    fn foreign_bytes_never_panic(mut disk in arb_disk(), hits in proptest::collection::vec((0_usize..20_000, any::<u8>()), 0..20), seal: bool) {
        for (at, byte) in hits {
            if let Some(room) = disk.bytes.get_mut(at) {
                *room = byte;
            }
        }
        if seal && disk.sector == 512 {
            resealed(&mut disk.bytes, |_| ());
        }
        let head = &disk.bytes[..disk.bytes.len().min(HEAD_BYTES)];
        if let Ok(mut table) = Table::parse(head, disk.sector as u32, disk.bytes.len() as u64) {
            let _ = table.add_fat("CIDATA", MIB, &mut counter());
            let _ = table.grow();
            table.renew(&mut counter());
            for write in table.writes() {
                prop_assert!(write.offset + write.bytes.len() as u64 <= disk.bytes.len() as u64);
            }
        }
    }
}
