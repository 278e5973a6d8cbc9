//! The master boot record.

use super::{Partition, PartitionId};

/// A sector with a boot signature.
pub(super) struct Mbr {
    /// Whether the place for boot code has any.
    pub(super) has_code: bool,
    /// Its primary partitions.
    pub(super) partitions: Vec<Partition>,
}

const SECTOR_BYTES: u64 = 512;
/// The type of the one partition with which an MBR before a GPT covers the disk.
const PROTECTIVE: u8 = 0xee;

/// Reads the first sector; `None` without the signature 55 AA.
pub(super) fn parse(head: &[u8]) -> Option<Mbr> {
    let sector: &[u8; 512] = head.first_chunk()?;
    if sector.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let has_code = sector.get(..440)?.iter().any(|&byte| byte != 0);
    let signature = u32::from_le_bytes(*sector.get(440..)?.first_chunk()?);
    let mut partitions = Vec::new();
    for (number, entry) in (1_u32..).zip(sector.get(446..510)?.chunks_exact(16)) {
        let &[status, _, _, _, kind, _, _, _, s0, s1, s2, s3, n0, n1, n2, n3] = entry else {
            continue;
        };
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        // A file system without a table has text here; real entries are active or not.
        if kind == 0 || kind == PROTECTIVE || sectors == 0 || status & 0x7f != 0 {
            continue;
        }
        let start = u32::from_le_bytes([s0, s1, s2, s3]);
        partitions.push(Partition {
            number,
            start_bytes: u64::from(start) * SECTOR_BYTES,
            size_bytes: u64::from(sectors) * SECTOR_BYTES,
            kind: format!("{kind:02x}"),
            name: String::new(),
            id: PartitionId::OfDisk(signature),
        });
    }
    Some(Mbr { has_code, partitions })
}
