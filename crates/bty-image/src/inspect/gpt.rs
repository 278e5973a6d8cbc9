//! The GUID partition table (UEFI 2.10, sections 5.3.2 and 5.3.3).

use crate::fields::{u32_le, u64_le, utf16};

use super::{Partition, PartitionId};

const SIGNATURE: &[u8] = b"EFI PART";
/// More entries than any tool makes; a header that says more is not believed.
const MAX_ENTRIES: u32 = 1024;

/// The sector size and the partitions, where there is a table for 512- or 4096-byte sectors.
pub(super) fn parse(head: &[u8]) -> Option<(u32, Vec<Partition>)> {
    [512_u32, 4096].into_iter().find_map(|sector_bytes| {
        let at = usize::try_from(sector_bytes).ok()?;
        let header = head.get(at..).filter(|rest| rest.starts_with(SIGNATURE))?;
        Some((sector_bytes, entries(head, header, sector_bytes)))
    })
}

fn entries(head: &[u8], header: &[u8], sector_bytes: u32) -> Vec<Partition> {
    let (Some(first_lba), Some(count), Some(entry_bytes)) =
        (u64_le(header, 72), u32_le(header, 80), u32_le(header, 84))
    else {
        return Vec::new();
    };
    let entry_bytes = usize::try_from(entry_bytes).unwrap_or(usize::MAX);
    if count > MAX_ENTRIES || entry_bytes < 128 {
        return Vec::new();
    }
    let sector = u64::from(sector_bytes);
    let Some(table) =
        first_lba.checked_mul(sector).and_then(|at| head.get(usize::try_from(at).ok()?..))
    else {
        return Vec::new();
    };
    let numbered = (1..=count).zip(table.chunks_exact(entry_bytes));
    numbered.filter_map(|(number, entry)| partition(number, entry, sector)).collect()
}

fn partition(number: u32, entry: &[u8], sector: u64) -> Option<Partition> {
    let kind: &[u8; 16] = entry.first_chunk()?;
    if *kind == [0; 16] {
        return None;
    }
    let (first, last) = (u64_le(entry, 32)?, u64_le(entry, 40)?);
    let sectors = last.checked_sub(first)?.checked_add(1)?;
    let id = PartitionId::Guid(*entry.get(16..)?.first_chunk()?);
    let name = utf16(entry.get(56..128)?);
    Some(Partition {
        number,
        start_bytes: first.checked_mul(sector)?,
        size_bytes: sectors.checked_mul(sector)?,
        kind: guid(kind),
        name,
        id,
    })
}

/// A GUID as people write it: the first three fields are little endian.
fn guid(bytes: &[u8; 16]) -> String {
    let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, e0, e1, e2, e3, e4, e5] = *bytes;
    let (a, b, c) = (
        u32::from_le_bytes([a0, a1, a2, a3]),
        u16::from_le_bytes([b0, b1]),
        u16::from_le_bytes([c0, c1]),
    );
    format!(
        "{a:08x}-{b:04x}-{c:04x}-{d0:02x}{d1:02x}-{e0:02x}{e1:02x}{e2:02x}{e3:02x}{e4:02x}{e5:02x}"
    )
}
