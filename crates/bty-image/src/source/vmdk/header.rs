//! The header of a sparse extent.

use crate::fields::{u32_le, u64_le};
use crate::source::mapped::{MAX_UNIT_BYTES, MappedError};

pub(super) const HEADER_BYTES: u64 = 512;
pub(super) const SECTOR_BYTES: u64 = 512;
const MAGIC: &[u8] = b"KDMV";
const ZERO_GRAINS: u32 = 1 << 2;
const PACKED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;
/// In the place of the tables' offset: a copy of the header at the end has it.
const AT_END: u64 = u64::MAX;
const DEFLATE: u16 = 1;
const LARGEST_GRAIN_SECTORS: u64 = MAX_UNIT_BYTES / SECTOR_BYTES;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) flags: u32,
    pub(super) disk_sectors: u64,
    pub(super) grain_sectors: u64,
    pub(super) descriptor_sector: u64,
    pub(super) descriptor_sectors: u64,
    /// Grains of each table of the second level.
    pub(super) table_grains: u32,
    /// Where the table of the first level is.
    pub(super) tables_sector: u64,
    pub(super) packing: u16,
}

impl Header {
    /// Reads the fields; `None` where it is none, or cut off.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        Some(Self {
            version: u32_le(bytes, 4)?,
            flags: u32_le(bytes, 8)?,
            disk_sectors: u64_le(bytes, 12)?,
            grain_sectors: u64_le(bytes, 20)?,
            descriptor_sector: u64_le(bytes, 28)?,
            descriptor_sectors: u64_le(bytes, 36)?,
            table_grains: u32_le(bytes, 44)?,
            tables_sector: u64_le(bytes, 56)?,
            packing: u16::from_le_bytes(*bytes.get(77..)?.first_chunk()?),
        })
    }

    /// Refuses what must not or can't be read.
    pub(super) fn check(&self) -> Result<(), MappedError> {
        if !(1..=3).contains(&self.version) {
            let read = "versions 1 to 3 are read";
            return Err(MappedError::Version { found: self.version, read });
        }
        let is_grain = self.grain_sectors.is_power_of_two() && self.grain_sectors >= 8;
        if !is_grain || self.grain_sectors > LARGEST_GRAIN_SECTORS {
            return Err(MappedError::Damaged("no grain has such a size"));
        }
        if self.table_grains == 0 || self.table_grains > 1 << 16 {
            return Err(MappedError::Damaged("no table has such a size"));
        }
        if self.is_packed() && (self.packing != DEFLATE || self.flags & MARKERS == 0) {
            return Err(MappedError::Feature("a compression that this bty doesn't know"));
        }
        Ok(())
    }

    pub(super) fn grain_bytes(&self) -> u64 {
        self.grain_sectors * SECTOR_BYTES
    }

    pub(super) fn has_zero_grains(&self) -> bool {
        self.flags & ZERO_GRAINS != 0
    }

    pub(super) fn is_packed(&self) -> bool {
        self.flags & PACKED != 0
    }

    pub(super) fn tables_are_at_end(&self) -> bool {
        self.tables_sector == AT_END
    }
}
