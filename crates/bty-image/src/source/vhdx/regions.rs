//! The headers, and the table that says where the other tables are. Each is there twice, and proves itself.

use crate::{
    fields::{u32_le, u64_le},
    table_sum,
};
use std::{fs::File, sync::Arc};

use super::{KIB, MIB};
use crate::source::mapped::{MappedError, read_at_most};

const HEADER_OFFSETS: [u64; 2] = [64 * KIB, 128 * KIB];
const HEADER_BYTES: u64 = 4 * KIB;
const TABLE_OFFSETS: [u64; 2] = [192 * KIB, 256 * KIB];
const TABLE_BYTES: u64 = 64 * KIB;
const ENTRIES_AT: usize = 16;
const ENTRY_BYTES: usize = 32;
const MAX_ENTRIES: u32 = 2047;
const CHECKSUM_AT: usize = 4;

const BLOCKS: [u8; 16] = 0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08_u128.to_be_bytes();
const FACTS: [u8; 16] = 0x8b7c_a206_4790_4b9a_b8fe_575f_050f_886e_u128.to_be_bytes();

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Regions {
    pub(super) blocks: Region,
    pub(super) facts: Region,
}

/// The bytes of a GUID as it is written, from how it is stored: its first three numbers have their lowest byte first.
pub(super) fn guid(bytes: &[u8], at: usize) -> Option<[u8; 16]> {
    let mut written = *bytes.get(at..)?.first_chunk::<16>()?;
    for number in [0..4, 4..6, 6..8] {
        written.get_mut(number)?.reverse();
    }
    Some(written)
}

/// Refuses a file whose newest header is of another version, or names a log that was not yet worked in.
pub(super) fn check_header(file: &Arc<File>) -> Result<(), MappedError> {
    let mut newest: Option<(u64, Vec<u8>)> = None;
    for offset in HEADER_OFFSETS {
        let header = read_at_most(file, offset, HEADER_BYTES)?;
        let Some(number) = u64_le(&header, 8).filter(|_| proves_itself(&header, b"head")) else {
            continue;
        };
        if newest.as_ref().is_none_or(|(newest, _)| number > *newest) {
            newest = Some((number, header));
        }
    }
    let (_, header) = newest.ok_or(MappedError::Damaged("both of its headers are"))?;
    let version = header.get(66..68).and_then(|bytes| bytes.first_chunk()).copied();
    match version.map(u16::from_le_bytes) {
        Some(1) => {}
        found => {
            let found = found.unwrap_or_default().into();
            return Err(MappedError::Version { found, read: "version 1 is read" });
        }
    }
    match guid(&header, 48) {
        Some([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) => Ok(()),
        _ => Err(MappedError::Corrupt),
    }
}

/// Where the two tables are that everything is read by.
pub(super) fn read(file: &Arc<File>) -> Result<Regions, MappedError> {
    for offset in TABLE_OFFSETS {
        let table = read_at_most(file, offset, TABLE_BYTES)?;
        if proves_itself(&table, b"regi") {
            return parse(&table);
        }
    }
    Err(MappedError::Damaged("both of its tables of regions are"))
}

fn proves_itself(table: &[u8], magic: &[u8]) -> bool {
    table.starts_with(magic)
        && u32_le(table, CHECKSUM_AT) == Some(table_sum::of_table(table, CHECKSUM_AT))
}

fn parse(table: &[u8]) -> Result<Regions, MappedError> {
    let cut = || MappedError::Damaged("its table of regions is cut off");
    let count = u32_le(table, 8).filter(|&count| count <= MAX_ENTRIES).ok_or_else(cut)?;
    let (mut blocks, mut facts) = (None, None);
    let entries = table.get(ENTRIES_AT..).unwrap_or_default().chunks_exact(ENTRY_BYTES);
    for entry in entries.take(usize::try_from(count).unwrap_or_default()) {
        let fields =
            || Some((guid(entry, 0)?, u64_le(entry, 16)?, u32_le(entry, 24)?, u32_le(entry, 28)?));
        let (guid, offset, bytes, flags) = fields().ok_or_else(cut)?;
        let region = Region { offset, bytes: bytes.into() };
        if offset < MIB || !offset.is_multiple_of(MIB) {
            return Err(MappedError::Damaged("a region is not where regions are"));
        }
        let slot = match guid {
            BLOCKS => &mut blocks,
            FACTS => &mut facts,
            _ if flags & 1 == 0 => continue,
            _ => return Err(MappedError::Feature("a region that this bty doesn't know")),
        };
        if slot.replace(region).is_some() {
            return Err(MappedError::Damaged("a region is there twice"));
        }
    }
    blocks
        .zip(facts)
        .map(|(blocks, facts)| Regions { blocks, facts })
        .ok_or(MappedError::Damaged("a region is missing"))
}
