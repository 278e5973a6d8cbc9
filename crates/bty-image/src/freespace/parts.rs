//! Which parts of a disk may hold a file system: its partitions, those inside of an extended one too, or the whole disk.

use std::ops::Range;

use crate::{
    ReadAt,
    fields::{has, u32_le},
    inspect::{Inspection, Table},
};

/// Types of partitions that only hold others.
const EXTENDED: [&str; 3] = ["05", "0f", "85"];
const SECTOR_BYTES: u64 = 512;
/// Logical partitions that are followed.
const MOST_LOGICAL: u32 = 256;
const FIRST_LOGICAL: u32 = 5;

/// A part of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The partition's number; `None` for the whole disk.
    pub(super) number: Option<u32>,
    /// Where it is, in bytes.
    pub(super) bytes: Range<u64>,
    /// Whether another one has a part of it.
    pub(super) is_shared: bool,
}

/// The parts, in their order on the disk.
pub(super) fn places(disk: &dyn ReadAt, table: &Inspection) -> Vec<Place> {
    let end = disk.length().unwrap_or_default();
    let place = |number, start: u64, size: u64| {
        let bytes = start.min(end)..start.saturating_add(size).min(end);
        Place { number, bytes, is_shared: false }
    };
    if table.table == Table::None {
        return vec![place(None, 0, end)];
    }
    let mut places = Vec::new();
    for partition in &table.partitions {
        let start = partition.start_bytes;
        if table.table == Table::Mbr && EXTENDED.contains(&partition.kind.as_str()) {
            let logical = logical(disk, start);
            let numbered = (FIRST_LOGICAL..).zip(logical);
            places.extend(numbered.map(|(number, (at, size))| place(Some(number), at, size)));
        } else {
            places.push(place(Some(partition.number), start, partition.size_bytes));
        }
    }
    places.retain(|place| !place.bytes.is_empty());
    places.sort_by_key(|place| place.bytes.start);
    let mut ended = 0;
    for at in 0..places.len() {
        let (before, rest) = places.split_at_mut(at);
        let Some(place) = rest.first_mut() else { break };
        if place.bytes.start < ended {
            place.is_shared = true;
            let into = before.iter_mut().filter(|earlier| earlier.bytes.end > place.bytes.start);
            into.for_each(|earlier| earlier.is_shared = true);
        }
        ended = ended.max(place.bytes.end);
    }
    places
}

/// The partitions inside of an extended one: each has a table of its own, which says where the next one is.
fn logical(disk: &dyn ReadAt, extended: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut at = extended;
    for _ in 0..MOST_LOGICAL {
        let mut sector = [0; 512];
        if disk.read_exact_at(&mut sector, at).is_err() || !has(&sector, 510, &[0x55, 0xaa]) {
            break;
        }
        let entry = |number: usize| {
            let entry = sector.get(446 + number * 16..)?;
            let (start, size) = (u32_le(entry, 8)?, u32_le(entry, 12)?);
            let is_used = entry.get(4) != Some(&0) && size > 0;
            is_used.then_some((u64::from(start) * SECTOR_BYTES, u64::from(size) * SECTOR_BYTES))
        };
        found.extend(entry(0).map(|(start, size)| (at.saturating_add(start), size)));
        let Some((next, _)) = entry(1) else { break };
        let next = extended.saturating_add(next);
        // A chain that leads back is no chain.
        if next <= at {
            break;
        }
        at = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{Partition, PartitionId};

    fn partition(number: u32, kind: &str, start: u64, sectors: u64) -> Partition {
        Partition {
            number,
            start_bytes: start * SECTOR_BYTES,
            size_bytes: sectors * SECTOR_BYTES,
            kind: kind.to_owned(),
            name: String::new(),
            id: PartitionId::OfDisk(1),
        }
    }

    fn found(disk: &[u8], table: Table, partitions: Vec<Partition>) -> Vec<(u32, u64, u64, bool)> {
        let table = Inspection { table, partitions, ..Inspection::default() };
        let found = places(&disk, &table).into_iter().map(|place| {
            let sectors = |bytes: u64| bytes / SECTOR_BYTES;
            let Range { start, end } = place.bytes;
            (place.number.unwrap_or(0), sectors(start), sectors(end), place.is_shared)
        });
        found.collect()
    }

    #[test]
    fn a_disk_without_a_table_is_one_part() {
        assert_eq!(found(&[0; 1024], Table::None, Vec::new()), [(0, 0, 2, false)]);
    }

    #[test]
    fn parts_end_where_the_disk_ends_and_those_that_overlap_are_known() {
        let partitions = vec![
            partition(1, "83", 10, 5),
            partition(2, "83", 1, 4),
            partition(3, "83", 14, 99),
            partition(4, "83", 200, 9),
        ];
        assert_eq!(
            found(&[0; 512 * 20], Table::Gpt, partitions),
            [(2, 1, 5, false), (1, 10, 15, true), (3, 14, 20, true)]
        );
    }

    #[test]
    fn logical_partitions_are_followed_and_a_chain_that_leads_back_is_not() {
        let mut disk = vec![0; 512 * 100];
        let mut table = |at: usize, entries: [(u8, u32, u32); 2]| {
            for (number, (kind, start, size)) in entries.into_iter().enumerate() {
                let entry = at * 512 + 446 + number * 16;
                disk[entry + 4] = kind;
                disk[entry + 8..entry + 12].copy_from_slice(&start.to_le_bytes());
                disk[entry + 12..entry + 16].copy_from_slice(&size.to_le_bytes());
            }
            disk[at * 512 + 510..at * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
        };
        table(10, [(0x83, 2, 8), (5, 20, 20)]);
        table(30, [(0x83, 1, 4), (5, 0, 20)]);
        let partitions = vec![partition(1, "83", 1, 4), partition(2, "0f", 10, 80)];
        assert_eq!(
            found(&disk, Table::Mbr, partitions),
            [(1, 1, 5, false), (5, 12, 20, false), (6, 31, 35, false)]
        );
    }
}
