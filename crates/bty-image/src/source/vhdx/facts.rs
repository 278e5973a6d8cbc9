//! The table of facts ("metadata"): how large the disk, its blocks and its sectors are, and whether it has a parent.

use crate::fields::{u32_le, u64_le};
use std::{fs::File, sync::Arc};

use super::{
    KIB, MIB,
    regions::{Region, guid},
};
use crate::source::mapped::{MappedError, read_at_most};

const TABLE_BYTES: u64 = 64 * KIB;
const ENTRY_BYTES: usize = 32;
const MAX_ENTRIES: u16 = 2047;
const REQUIRED: u32 = 1 << 2;
const HAS_PARENT: u32 = 1 << 1;
const LARGEST_FACT: u64 = 64;

const FILE_PARAMETERS: [u8; 16] = 0xcaa1_6737_fa36_4d43_b3b6_33f0_aa44_e76b_u128.to_be_bytes();
const DISK_SIZE: [u8; 16] = 0x2fa5_4224_cd1b_4876_b211_5dbe_d83b_f4b8_u128.to_be_bytes();
const DISK_ID: [u8; 16] = 0xbeca_12ab_b2e6_4523_93ef_c309_e000_c746_u128.to_be_bytes();
const SECTOR_SIZE: [u8; 16] = 0x8141_bf1d_a96f_4709_ba47_f233_a8fa_ab5f_u128.to_be_bytes();
const PHYSICAL_SECTOR: [u8; 16] = 0xcda3_48c7_445d_4471_9cc9_e988_5251_c556_u128.to_be_bytes();
const PARENT: [u8; 16] = 0xa8d3_5f2d_b30b_454d_abf7_d3d8_4834_ab0c_u128.to_be_bytes();

/// What the disk is.
#[expect(clippy::struct_field_names, reason = "a size says its unit")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) disk_bytes: u64,
    pub(super) block_bytes: u64,
    pub(super) sector_bytes: u64,
}

impl Facts {
    /// Refuses what no disk is.
    pub(super) fn check(self) -> Result<Self, MappedError> {
        let Self { disk_bytes, block_bytes, sector_bytes } = self;
        if !block_bytes.is_power_of_two() || !(MIB..=256 * MIB).contains(&block_bytes) {
            return Err(MappedError::Damaged("no block has such a size"));
        }
        if !matches!(sector_bytes, 512 | 4096) || !disk_bytes.is_multiple_of(sector_bytes) {
            return Err(MappedError::Damaged("no sector has such a size"));
        }
        Ok(self)
    }
}

/// Reads them.
pub(super) fn read(file: &Arc<File>, region: Region) -> Result<Facts, MappedError> {
    let table = read_at_most(file, region.offset, TABLE_BYTES.min(region.bytes))?;
    let cut = || MappedError::Damaged("its table of facts is cut off");
    if !table.starts_with(b"metadata") {
        return Err(MappedError::Damaged("its table of facts is none"));
    }
    let count = table.get(10..).and_then(|bytes| bytes.first_chunk()).copied();
    let count = count.map(u16::from_le_bytes).filter(|&count| count <= MAX_ENTRIES);
    let count = count.ok_or_else(cut)?;
    let (mut parameters, mut disk_bytes, mut sector_bytes) = (None, None, None);
    for entry in table.chunks_exact(ENTRY_BYTES).skip(1).take(count.into()) {
        let fields =
            || Some((guid(entry, 0)?, u32_le(entry, 16)?, u32_le(entry, 20)?, u32_le(entry, 24)?));
        let (guid, offset, bytes, flags) = fields().ok_or_else(cut)?;
        let value = || {
            let at = region.offset.saturating_add(offset.into());
            read_at_most(file, at, LARGEST_FACT.min(bytes.into()))
        };
        match guid {
            FILE_PARAMETERS => {
                let value = value()?;
                parameters = u32_le(&value, 0).zip(u32_le(&value, 4));
            }
            DISK_SIZE => disk_bytes = u64_le(&value()?, 0),
            SECTOR_SIZE => sector_bytes = u32_le(&value()?, 0),
            PARENT => return Err(MappedError::OtherFile("a parent")),
            DISK_ID | PHYSICAL_SECTOR => {}
            _ if flags & REQUIRED == 0 => {}
            _ => return Err(MappedError::Feature("a feature that this bty doesn't know")),
        }
    }
    let (Some((block_bytes, flags)), Some(disk_bytes), Some(sector_bytes)) =
        (parameters, disk_bytes, sector_bytes)
    else {
        return Err(MappedError::Damaged("a fact about its disk is missing"));
    };
    if flags & HAS_PARENT != 0 {
        return Err(MappedError::OtherFile("a parent"));
    }
    let (block_bytes, sector_bytes) = (block_bytes.into(), sector_bytes.into());
    Facts { disk_bytes, block_bytes, sector_bytes }.check()
}
