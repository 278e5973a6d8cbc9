//! NTFS: the file `$Bitmap` (as in the Linux kernel's `fs/ntfs3/ntfs.h`; nothing of Microsoft's describes the format).

mod closed;

use std::ops::Range;

use super::map::{Doubt, FreeMap, Part, have, read, zero_runs};
use crate::{
    ReadAt as _,
    fields::{array, u16_le, u64_le},
    inspect::filesystem::ntfs::{BITMAP, DATA, Geometry, attribute, geometry, runs},
};

const PIECE_BYTES: u64 = 64 * 1024;

/// The map, and how far it was read.
pub(super) struct Ntfs {
    geometry: Geometry,
    /// The runs of the map that are still to come, in bytes, the next one last.
    runs: Vec<Range<u64>>,
    cluster: u64,
    /// Clusters that can't be free: the beginning, the file table, the map itself.
    own: [u64; 3],
}

impl Ntfs {
    pub(super) fn open(part: &Part<'_>) -> Result<Self, Doubt> {
        let boot = read(part, 0, 512)?;
        let geometry = geometry(&boot).ok_or(Doubt::Odd("its boot sector contradicts itself"))?;
        let size = have(geometry.clusters.checked_mul(geometry.cluster_bytes))?;
        if size > part.length()? {
            return Err(Doubt::Odd("it is larger than its partition"));
        }
        closed::check(part, &geometry)?;
        let map_bytes = geometry.clusters.div_ceil(8);
        let record = have(geometry.record(part, BITMAP))?;
        // Not in its record, neither sparse nor compressed nor encrypted, and from its first cluster on.
        let data = attribute(&record, DATA)
            .filter(|data| array(data, 8) == Some([1]))
            .filter(|data| u16_le(data, 12) == Some(0) && u64_le(data, 16) == Some(0))
            .ok_or(Doubt::Odd("its map is in pieces that bty does not follow"))?;
        let (length, written) = (have(u64_le(data, 48))?, have(u64_le(data, 56))?);
        if length < map_bytes || written < map_bytes {
            return Err(Doubt::Odd("its map is too short"));
        }
        let mut found = Vec::new();
        for (cluster, count) in have(runs(data))? {
            let end = have(cluster.checked_add(count).filter(|&end| end <= geometry.clusters))?;
            found.push(cluster * geometry.cluster_bytes..end * geometry.cluster_bytes);
        }
        let map_at = have(found.first())?.start / geometry.cluster_bytes;
        let own = [0, geometry.table_at / geometry.cluster_bytes, map_at];
        found.reverse();
        Ok(Self { geometry, runs: found, cluster: 0, own })
    }
}

impl FreeMap for Ntfs {
    fn next(&mut self, part: &Part<'_>, found: &mut Vec<Range<u64>>) -> Result<bool, Doubt> {
        let left = self.geometry.clusters - self.cluster;
        if left == 0 {
            return Ok(false);
        }
        let mut run = self.runs.pop().ok_or(Doubt::Odd("its map is too short"))?;
        let bytes = PIECE_BYTES.min(run.end - run.start).min(left.div_ceil(8));
        let piece = read(part, run.start, bytes)?;
        run.start += bytes;
        if !run.is_empty() {
            self.runs.push(run);
        }
        let bits = left.min(bytes * 8);
        for free in zero_runs(&piece, bits) {
            let clusters = self.cluster + free.start..self.cluster + free.end;
            if self.own.iter().any(|own| clusters.contains(own)) {
                return Err(Doubt::Odd("it calls clusters of its own free"));
            }
            let byte = |cluster: u64| cluster * self.geometry.cluster_bytes;
            found.push(byte(clusters.start)..byte(clusters.end));
        }
        self.cluster += bits;
        Ok(true)
    }
}
