//! NTFS: the boot sector, and two files of the file table: the volume's label, and the map of what is used.
//!
//! Nothing of Microsoft's describes the format; this follows the Linux kernel's `fs/ntfs3/ntfs.h`.

use super::{Area, FileSystem};
use crate::{
    ReadAt,
    fields::{array, has, u16_le, u32_le, u64_le, utf16},
};

/// The numbers of files.
pub(crate) const VOLUME: u64 = 3;
pub(crate) const BITMAP: u64 = 6;
/// The sorts of attributes.
const VOLUME_NAME: u32 = 0x60;
pub(crate) const DATA: u32 = 0x80;
/// A larger map is not counted: that of 2 TiB in clusters of 4 KiB.
const MOST_MAP_BYTES: u64 = 64 << 20;
const MOST_RUNS: usize = 1024;
/// How much of the map is read at a time.
const PIECE_BYTES: u64 = 64 * 1024;

/// Where things are.
pub(crate) struct Geometry {
    pub(crate) cluster_bytes: u64,
    pub(crate) clusters: u64,
    /// Where the file table begins, in bytes.
    pub(crate) table_at: u64,
    pub(crate) record_bytes: u64,
}

/// The file system in an area whose beginning is `head`.
pub(super) fn parse<D: ReadAt + ?Sized>(head: &[u8], area: &Area<'_, D>) -> Option<FileSystem> {
    if !has(head, 3, b"NTFS    ") {
        return None;
    }
    let size_bytes = size_bytes(head)?;
    let serial = u64_le(head, 72)?;
    let geometry = geometry(head);
    let label = geometry.as_ref().and_then(|geometry| geometry.label(area));
    Some(FileSystem {
        kind: "ntfs",
        label: label.unwrap_or_default(),
        uuid: if serial == 0 { String::new() } else { format!("{serial:016X}") },
        size_bytes,
        used_bytes: geometry.and_then(|geometry| geometry.used_bytes(area)),
    })
}

/// Size of the file system, as its boot sector says.
fn size_bytes(head: &[u8]) -> Option<u64> {
    let (sector, sectors) = (u64::from(u16_le(head, 11)?), u64_le(head, 40)?);
    let is_sane = matches!(sector, 256..=4096) && sector.is_power_of_two();
    sectors.checked_mul(sector).filter(|_| is_sane)
}

/// Where things are, as its boot sector says.
pub(crate) fn geometry(head: &[u8]) -> Option<Geometry> {
    let (sector, [per_cluster]) = (u64::from(u16_le(head, 11)?), array(head, 13)?);
    let size_bytes = size_bytes(head)?;
    // Above 128 it is a negative power of two, of sectors; a record's size, of bytes.
    let power = |value: u8| 1_u64.checked_shl(u32::from(value.wrapping_neg()));
    let sectors = if per_cluster > 0x80 { power(per_cluster)? } else { per_cluster.into() };
    let cluster_bytes =
        sectors.checked_mul(sector).filter(|&bytes| (256..=2 << 20).contains(&bytes))?;
    let [record] = array(head, 64)?;
    let record_bytes = if record > 0x80 {
        power(record)?
    } else {
        u64::from(record).checked_mul(cluster_bytes)?
    };
    let table_at = u64_le(head, 48)?.checked_mul(cluster_bytes)?;
    let clusters = size_bytes / cluster_bytes;
    let fits = (512..=65536).contains(&record_bytes);
    fits.then_some(Geometry { cluster_bytes, clusters, table_at, record_bytes })
}

impl Geometry {
    /// The label.
    fn label<D: ReadAt + ?Sized>(&self, area: &Area<'_, D>) -> Option<String> {
        let record = self.record(area, VOLUME)?;
        let attribute = attribute(&record, VOLUME_NAME)?;
        let (length, at) = (u32_le(attribute, 16)?, u16_le(attribute, 20)?);
        let value = attribute.get(usize::from(at)..)?.get(..usize::try_from(length).ok()?)?;
        Some(utf16(value))
    }

    /// Counts the clusters in use.
    fn used_bytes<D: ReadAt + ?Sized>(&self, area: &Area<'_, D>) -> Option<u64> {
        let mut left = self.clusters.div_ceil(8);
        if left > MOST_MAP_BYTES {
            return None;
        }
        let record = self.record(area, BITMAP)?;
        let attribute = attribute(&record, DATA)?;
        // One that is not resident has runs of clusters.
        let is_resident = array(attribute, 8)? == [0];
        let mut used: u64 = 0;
        let runs = if is_resident { return None } else { runs(attribute)? };
        for (cluster, length) in runs {
            let at = cluster.checked_mul(self.cluster_bytes)?;
            let bytes = length.checked_mul(self.cluster_bytes)?.min(left);
            for offset in (0..bytes).step_by(usize::try_from(PIECE_BYTES).ok()?) {
                let piece = area.bytes(at.checked_add(offset)?, PIECE_BYTES.min(bytes - offset))?;
                used += piece.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
            }
            left -= bytes;
        }
        // The bits behind the last cluster are set.
        let surplus = self.clusters.div_ceil(8) * 8 - self.clusters;
        (left == 0).then(|| used.saturating_sub(surplus).checked_mul(self.cluster_bytes)).flatten()
    }

    /// A record of the file table, with the last bytes of its sectors put back.
    pub(crate) fn record<D: ReadAt + ?Sized>(
        &self,
        area: &Area<'_, D>,
        number: u64,
    ) -> Option<Vec<u8>> {
        let at = self.table_at.checked_add(number.checked_mul(self.record_bytes)?)?;
        let mut record = area.bytes(at, self.record_bytes)?;
        if !has(&record, 0, b"FILE") {
            return None;
        }
        let (fixes_at, count) =
            (usize::from(u16_le(&record, 4)?), usize::from(u16_le(&record, 6)?));
        for sector in 1..count {
            let fix = array::<2>(&record, fixes_at + 2 * sector)?;
            let end = sector * 512;
            record.get_mut(end - 2..end)?.copy_from_slice(&fix);
        }
        Some(record)
    }
}

/// The first attribute of this sort in a record.
pub(crate) fn attribute(record: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut rest = record.get(usize::from(u16_le(record, 20)?)..)?;
    loop {
        let (sort, length) = (u32_le(rest, 0)?, usize::try_from(u32_le(rest, 4)?).ok()?);
        if sort > wanted || length < 16 {
            return None;
        }
        let (attribute, behind) = rest.split_at_checked(length)?;
        if sort == wanted {
            return Some(attribute);
        }
        rest = behind;
    }
}

/// The clusters of an attribute: where each run begins, and how long it is.
pub(crate) fn runs(attribute: &[u8]) -> Option<Vec<(u64, u64)>> {
    let mut rest = attribute.get(usize::from(u16_le(attribute, 32)?)..)?;
    let mut runs = Vec::new();
    let mut cluster: i64 = 0;
    while runs.len() < MOST_RUNS {
        let (&sizes, behind) = rest.split_first()?;
        if sizes == 0 {
            return Some(runs);
        }
        let (length_size, offset_size) = (usize::from(sizes & 0xf), usize::from(sizes >> 4));
        let (length, behind) = behind.split_at_checked(length_size)?;
        let (offset, behind) = behind.split_at_checked(offset_size)?;
        cluster = cluster.checked_add(signed(offset)?)?;
        runs.push((u64::try_from(cluster).ok()?, u64::try_from(signed(length)?).ok()?));
        rest = behind;
    }
    None
}

/// A number of some bytes, the lowest first, with a sign.
fn signed(bytes: &[u8]) -> Option<i64> {
    let sign = bytes.last().is_some_and(|&byte| byte & 0x80 != 0);
    let mut whole = if sign { [0xff; 8] } else { [0; 8] };
    whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(whole))
}
