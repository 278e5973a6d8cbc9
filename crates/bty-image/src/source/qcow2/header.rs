//! The part of the header that says how to read the disk, and whether that is safe.

use crate::source::mapped::{MappedError, Packing};

/// As much of a header as is looked at.
pub(super) const HEADER_BYTES: u64 = 112;

/// QEMU's own limit for the first level of the tables.
const MAX_L1_BYTES: u64 = 32 << 20;

const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
/// Bit 0, dirty, only says that reference counts may be off, which reading doesn't need.
const KNOWN: u64 = 1 | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) backing_file_offset: u64,
    pub(super) cluster_bits: u32,
    pub(super) disk_bytes: u64,
    pub(super) crypt_method: u32,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
    /// 0 in version 2, which has none.
    pub(super) incompatible_features: u64,
    /// 0 where the header has no such field.
    pub(super) compression_type: u8,
}

impl Header {
    /// Reads the fields; `None` where they are cut off.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let version = u32_at(4)?;
        let incompatible_features = if version >= 3 { u64_at(72)? } else { 0 };
        let has_compression_type = version >= 3 && u32_at(100)? > 104;
        Some(Self {
            version,
            backing_file_offset: u64_at(8)?,
            cluster_bits: u32_at(20)?,
            disk_bytes: u64_at(24)?,
            crypt_method: u32_at(32)?,
            l1_entries: u32_at(36)?,
            l1_offset: u64_at(40)?,
            incompatible_features,
            compression_type: if has_compression_type { *bytes.get(104)? } else { 0 },
        })
    }

    /// Refuses what must not or can't be read.
    pub(super) fn check(&self) -> Result<(), MappedError> {
        let features = self.incompatible_features;
        if !(2..=3).contains(&self.version) {
            return Err(MappedError::Version {
                found: self.version,
                read: "versions 2 and 3 are read",
            });
        }
        if self.backing_file_offset != 0 {
            return Err(MappedError::OtherFile("a backing file"));
        }
        if features & EXTERNAL_DATA != 0 {
            return Err(MappedError::OtherFile("an external data file"));
        }
        if self.crypt_method != 0 {
            return Err(MappedError::Encrypted);
        }
        if features & CORRUPT != 0 {
            return Err(MappedError::Corrupt);
        }
        if features & !KNOWN != 0 {
            return Err(MappedError::Feature("a feature that this bty doesn't know"));
        }
        if self.compression_type > 1 {
            return Err(MappedError::Feature("a compression that this bty doesn't know"));
        }
        self.check_tables()
    }

    fn check_tables(&self) -> Result<(), MappedError> {
        let fewest_bits = if self.has_extended_l2() { 14 } else { 9 };
        if !(fewest_bits..=21).contains(&self.cluster_bits) {
            return Err(MappedError::Damaged("no cluster has such a size"));
        }
        let needed = self.disk_bytes.div_ceil(self.cluster_bytes() * self.l2_entries());
        if needed > self.l1_entries.into() {
            return Err(MappedError::Damaged("its tables are too small for its disk"));
        }
        if needed * 8 > MAX_L1_BYTES {
            return Err(MappedError::Damaged("its tables are larger than any"));
        }
        if self.l1_offset == 0 || !self.l1_offset.is_multiple_of(self.cluster_bytes()) {
            return Err(MappedError::Damaged("its tables are nowhere"));
        }
        Ok(())
    }

    pub(super) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    pub(super) fn has_extended_l2(&self) -> bool {
        self.incompatible_features & EXTENDED_L2 != 0
    }

    /// Size of an entry of the second level, in bytes.
    pub(super) fn l2_entry_bytes(&self) -> u64 {
        if self.has_extended_l2() { 16 } else { 8 }
    }

    /// Entries of a table of the second level, which is one cluster.
    pub(super) fn l2_entries(&self) -> u64 {
        self.cluster_bytes() / self.l2_entry_bytes()
    }

    pub(super) fn packing(&self) -> Packing {
        match self.compression_type {
            1 => Packing::Zstd,
            _ => Packing::Deflate,
        }
    }
}
