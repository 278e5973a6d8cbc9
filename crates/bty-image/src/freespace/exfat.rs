//! exFAT: a map of bits, which the folder at the root names (Microsoft, exFAT file system specification, section 7.1).

use std::ops::Range;

use super::map::{Doubt, FreeMap, Part, have, read, zero_runs};
use crate::{
    ReadAt as _,
    fields::{array, has, u16_le, u32_le, u64_le},
};

const PIECE_BYTES: u64 = 64 * 1024;
const ENTRY_BYTES: usize = 32;
const BITMAP_ENTRY: u8 = 0x81;
/// Clusters of the folder at the root that are looked at: the map is one of the first entries.
const MOST_ROOT_CLUSTERS: u32 = 16;
/// What follows the last cluster of a chain.
const LAST: u32 = u32::MAX;

/// The map, and how far it was read.
pub(super) struct ExFat {
    table_at: u64,
    data_at: u64,
    cluster_bytes: u64,
    clusters: u64,
    /// The cluster of the map that comes next.
    map_cluster: u32,
    /// Where in it the next piece begins.
    within: u64,
    /// The cluster that the next bit is about, from 0.
    cluster: u64,
    /// Clusters that can't be free, from 0: where the folder at the root and the map begin.
    own: [u64; 2],
}

impl ExFat {
    pub(super) fn open(part: &Part<'_>) -> Result<Self, Doubt> {
        let boot = read(part, 0, 512)?;
        let [sector_log2, cluster_log2, tables] = have(array(&boot, 108))?;
        let odd = Doubt::Odd("its boot sector contradicts itself or the size of its partition");
        if !has(&boot, 3, b"EXFAT   ")
            || !(9..=12).contains(&sector_log2)
            || cluster_log2 > 25 - sector_log2
        {
            return Err(odd);
        }
        let sectors = |at| have(u32_le(&boot, at)).map(|sectors| u64::from(sectors) << sector_log2);
        if tables != 1 || have(u16_le(&boot, 106))? & 0x7 != 0 {
            return Err(Doubt::Odd("it was not unmounted, or has errors: fsck.exfat mends it"));
        }
        let mut fat = Self {
            table_at: sectors(80)?,
            data_at: sectors(88)?,
            cluster_bytes: 1 << (sector_log2 + cluster_log2),
            clusters: have(u32_le(&boot, 92))?.into(),
            map_cluster: 0,
            within: 0,
            cluster: 0,
            own: [0; 2],
        };
        let table_end = sectors(84)?.checked_add(fat.table_at);
        let needed = (fat.clusters + 2) * 4;
        let is_table =
            fat.table_at > 0 && sectors(84)? >= needed && have(table_end)? <= fat.data_at;
        let end =
            fat.clusters.checked_mul(fat.cluster_bytes).and_then(|n| n.checked_add(fat.data_at));
        let size = have(u64_le(&boot, 72))?.checked_mul(1 << sector_log2);
        if !is_table || have(end)? > have(size)? || have(size)? > part.length()? {
            return Err(odd);
        }
        let root = have(u32_le(&boot, 96))?;
        let mut cluster = root;
        for _ in 0..MOST_ROOT_CLUSTERS {
            let most = fat.cluster_bytes.min(PIECE_BYTES);
            let folder = read(part, fat.place(cluster)?, most)?;
            let (entries, _) = folder.as_chunks::<ENTRY_BYTES>();
            // The first map; a second one is of systems with two tables.
            if let Some(entry) = entries.iter().find(|entry| has(*entry, 0, &[BITMAP_ENTRY])) {
                if have(u64_le(entry, 24))? < fat.clusters.div_ceil(8) {
                    return Err(Doubt::Odd("its map is too short"));
                }
                fat.map_cluster = have(u32_le(entry, 20))?;
                fat.own = [fat.number(root)?, fat.number(fat.map_cluster)?];
                return Ok(fat);
            }
            cluster = fat.following(part, cluster)?;
        }
        Err(Doubt::Odd("its map is not found"))
    }

    /// A cluster's number from 0.
    fn number(&self, cluster: u32) -> Result<u64, Doubt> {
        have(u64::from(cluster).checked_sub(2).filter(|&number| number < self.clusters))
    }

    fn place(&self, cluster: u32) -> Result<u64, Doubt> {
        Ok(self.data_at + self.number(cluster)? * self.cluster_bytes)
    }

    fn following(&self, part: &Part<'_>, cluster: u32) -> Result<u32, Doubt> {
        let entry = read(part, self.table_at + u64::from(cluster) * 4, 4)?;
        have(u32_le(&entry, 0).filter(|&next| next != LAST))
    }
}

impl FreeMap for ExFat {
    fn next(&mut self, part: &Part<'_>, found: &mut Vec<Range<u64>>) -> Result<bool, Doubt> {
        let left = self.clusters - self.cluster;
        if left == 0 {
            return Ok(false);
        }
        if self.within >= self.cluster_bytes {
            (self.map_cluster, self.within) = (self.following(part, self.map_cluster)?, 0);
        }
        let bytes = PIECE_BYTES.min(self.cluster_bytes - self.within).min(left.div_ceil(8));
        let piece = read(part, self.place(self.map_cluster)? + self.within, bytes)?;
        let bits = left.min(bytes * 8);
        let byte = |bit: u64| self.data_at + (self.cluster + bit) * self.cluster_bytes;
        for run in zero_runs(&piece, bits) {
            let clusters = self.cluster + run.start..self.cluster + run.end;
            if self.own.iter().any(|own| clusters.contains(own)) {
                return Err(Doubt::Odd("it calls clusters of its own free"));
            }
            found.push(byte(run.start)..byte(run.end));
        }
        self.within += bytes;
        self.cluster += bits;
        Ok(true)
    }
}
