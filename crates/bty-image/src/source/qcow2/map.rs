//! Walking the two levels of tables, and reading the clusters that they name.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use super::header::Header;
use crate::source::mapped::{Map, Packed, Run, damaged, to_usize};

/// Bits 9 to 55 of an entry: an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
/// Standard entries only: the cluster reads as zeros, whatever it is at its offset.
const ZERO: u64 = 1;
/// Extended entries map each 32nd of a cluster by itself.
const SUBCLUSTERS: u64 = 32;
const SECTOR_BYTES: u64 = 512;

/// Memory: one table of the second level, of at most 2 MiB.
pub(in crate::source) struct Qcow2Map {
    file: Arc<File>,
    header: Header,
    /// The table of the second level in use; `None` inside where the whole range is unallocated.
    l2: Option<(u64, Option<Vec<u8>>)>,
}

impl Map for Qcow2Map {
    fn disk_bytes(&self) -> u64 {
        self.header.disk_bytes
    }

    fn run(&mut self, offset: u64) -> io::Result<(Run, u64)> {
        let header = self.header;
        let cluster = offset / header.cluster_bytes();
        let within = offset % header.cluster_bytes();
        let rest = header.cluster_bytes() - within;
        let Some((entry, bitmap)) = self.l2_entry(cluster)? else {
            return Ok((Run::Zeros, rest));
        };
        if entry & COMPRESSED != 0 {
            // An offset of 62 - (cluster_bits - 8) bits, and how many sectors follow the one that it is in.
            let offset_bits = 70 - header.cluster_bits;
            let at = entry & ((1 << offset_bits) - 1);
            let sectors = ((entry & (COMPRESSED - 1)) >> offset_bits) + 1;
            let bytes = sectors * SECTOR_BYTES - at % SECTOR_BYTES;
            let (packing, unit_bytes) = (header.packing(), header.cluster_bytes());
            return Ok((Run::Packed(Packed { packing, at, bytes, unit_bytes }), rest));
        }
        let at = entry & OFFSET;
        if !header.has_extended_l2() {
            let is_zero = at == 0 || entry & ZERO != 0;
            return Ok((if is_zero { Run::Zeros } else { Run::At(at + within) }, rest));
        }
        let subcluster_bytes = header.cluster_bytes() / SUBCLUSTERS;
        let number = within / subcluster_bytes;
        let is_data = (bitmap >> number) & 1 == 1 && (bitmap >> (number + SUBCLUSTERS)) & 1 == 0;
        let run = if is_data && at != 0 { Run::At(at + within) } else { Run::Zeros };
        Ok((run, subcluster_bytes - within % subcluster_bytes))
    }
}

impl Qcow2Map {
    pub(super) fn new(file: Arc<File>, header: Header) -> Self {
        Self { file, header, l2: None }
    }

    /// The entry of a cluster, and its bitmap where entries have one; `None` where it has no entry.
    fn l2_entry(&mut self, cluster: u64) -> io::Result<Option<(u64, u64)>> {
        let (table, number) =
            (cluster / self.header.l2_entries(), cluster % self.header.l2_entries());
        if self.l2.as_ref().is_none_or(|(held, _)| *held != table) {
            self.l2 = Some((table, self.read_l2(table)?));
        }
        let Some((_, Some(entries))) = &self.l2 else { return Ok(None) };
        let at = number * self.header.l2_entry_bytes();
        let u64_at = |at: u64| {
            let bytes = entries.get(usize::try_from(at).ok()?..)?;
            Some(u64::from_be_bytes(*bytes.first_chunk()?))
        };
        let entry = u64_at(at);
        let bitmap = if self.header.has_extended_l2() { u64_at(at + 8) } else { Some(0) };
        Ok(entry.zip(bitmap))
    }

    fn read_l2(&self, table: u64) -> io::Result<Option<Vec<u8>>> {
        let mut entry = [0; 8];
        self.file.read_exact_at(&mut entry, self.header.l1_offset + table * 8)?;
        let at = u64::from_be_bytes(entry) & OFFSET;
        if at == 0 {
            return Ok(None);
        }
        if !at.is_multiple_of(self.header.cluster_bytes()) {
            return Err(damaged("a table is not where tables are"));
        }
        let mut entries = vec![0; to_usize(self.header.cluster_bytes())];
        self.file.read_exact_at(&mut entries, at)?;
        Ok(Some(entries))
    }
}
