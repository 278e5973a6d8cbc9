//! FAT12, FAT16 and FAT32: the boot sector, how much is used, and the names in folders.

use std::ops::Range;

use super::{Area, FileSystem, boot_sector::serial};
use crate::{
    ReadAt,
    fields::{array, has, text, u16_le, u32_le, utf16},
};

/// A larger table is not counted; then what FAT32 notes of its free clusters is taken.
const MOST_TABLE_BYTES: u64 = 2 << 20;
/// Bytes of one folder that are read.
const MOST_FOLDER_BYTES: usize = 64 * 1024;
const ENTRY_BYTES: usize = 32;

/// How wide the entries of the table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Bits12,
    Bits16,
    Bits32,
}

/// Where things are in a FAT file system.
#[derive(Debug, Clone)]
pub(crate) struct Fat {
    pub(crate) width: Width,
    pub(crate) cluster_bytes: u64,
    pub(crate) clusters: u64,
    /// Where the first table is.
    pub(crate) table: Range<u64>,
    /// Where the folder at the root is, where it is no chain of clusters.
    root: Range<u64>,
    root_cluster: u32,
    /// Where cluster 2 is.
    pub(crate) data_at: u64,
    pub(crate) size_bytes: u64,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::inspect) struct Entry {
    /// Its name, as it is spelled there.
    pub(in crate::inspect) name: String,
    /// Whether it is a folder.
    pub(in crate::inspect) is_folder: bool,
    cluster: u32,
}

impl Fat {
    /// Reads the boot sector (Microsoft, FAT32 File System Specification 1.03).
    pub(crate) fn parse(head: &[u8]) -> Option<Self> {
        let sector = u64::from(u16_le(head, 11)?);
        let [per_cluster] = array(head, 13)?;
        let reserved = u64::from(u16_le(head, 14)?);
        let [tables] = array(head, 16)?;
        let [media] = array(head, 21)?;
        let is_one = has(head, 510, &[0x55, 0xaa])
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && matches!(tables, 1 | 2)
            && (media == 0xf0 || media >= 0xf8);
        if !is_one {
            return None;
        }
        let either = |short: u16, at: usize| match short {
            0 => u32_le(head, at).map(u64::from),
            short => Some(u64::from(short)),
        };
        let sectors = either(u16_le(head, 19)?, 32)?;
        let short_table = u16_le(head, 22)?;
        let table_bytes = either(short_table, 36)? * sector;
        let table_at = reserved * sector;
        let root_at = table_at + u64::from(tables) * table_bytes;
        let root_bytes = u64::from(u16_le(head, 17)?) * 32;
        let data_at = root_at + root_bytes.next_multiple_of(sector);
        let size_bytes = sectors * sector;
        let cluster_bytes = u64::from(per_cluster) * sector;
        let clusters = size_bytes.checked_sub(data_at)? / cluster_bytes;
        let width = match clusters {
            _ if short_table == 0 => Width::Bits32,
            0..4085 => Width::Bits12,
            _ => Width::Bits16,
        };
        let root_cluster = if width == Width::Bits32 { u32_le(head, 44)? } else { 0 };
        (clusters > 0 && table_bytes > 0).then_some(Self {
            width,
            cluster_bytes,
            clusters,
            table: table_at..table_at + table_bytes,
            root: root_at..root_at + root_bytes,
            root_cluster,
            data_at,
            size_bytes,
        })
    }

    /// What is told of it, in an area whose beginning is `head`.
    pub(super) fn file_system<D: ReadAt + ?Sized>(
        &self,
        head: &[u8],
        area: &Area<'_, D>,
    ) -> FileSystem {
        let (kind, at) = match self.width {
            Width::Bits12 => ("fat12", 36),
            Width::Bits16 => ("fat16", 36),
            Width::Bits32 => ("fat32", 64),
        };
        // The signature says that number and label are there.
        let is_extended = has(head, at + 2, &[0x29]);
        let label = if is_extended { text(head, at + 7, 11) } else { String::new() };
        let number = u32_le(head, at + 3).filter(|_| is_extended).unwrap_or_default();
        let free = self.free_clusters(area).or_else(|| self.noted_free_clusters(head));
        let used = free.and_then(|free| self.clusters.checked_sub(free));
        FileSystem {
            kind,
            label: if label == "NO NAME" { String::new() } else { label },
            uuid: serial(number),
            size_bytes: self.size_bytes,
            used_bytes: used.map(|used| used * self.cluster_bytes),
        }
    }

    /// Counts the free clusters in the table.
    fn free_clusters<D: ReadAt + ?Sized>(&self, area: &Area<'_, D>) -> Option<u64> {
        let bytes = self.table.end - self.table.start;
        let table = (bytes <= MOST_TABLE_BYTES).then(|| area.bytes(self.table.start, bytes))??;
        let last = u32::try_from(self.clusters.checked_add(2)?).ok()?;
        let mut free = 0;
        for cluster in 2..last {
            if self.entry(&table, cluster)? == 0 {
                free += 1;
            }
        }
        Some(free)
    }

    /// What FAT32 notes of the free clusters.
    fn noted_free_clusters(&self, head: &[u8]) -> Option<u64> {
        let sector = usize::from(u16_le(head, 11)?);
        let at = usize::from(u16_le(head, 48)?).checked_mul(sector)?;
        let note = head.get(at..)?;
        let is_one =
            self.width == Width::Bits32 && has(note, 0, b"RRaA") && has(note, 484, b"rrAa");
        let free = u64::from(u32_le(note, 488)?);
        (is_one && free <= self.clusters).then_some(free)
    }

    /// What the table says of a cluster: 0 where it is free, else the one that follows it, or a number that is none.
    fn entry(&self, table: &[u8], cluster: u32) -> Option<u32> {
        self.value(table.get(usize::try_from(self.place(cluster)).ok()?..)?, cluster)
    }

    /// The cluster that follows this one.
    fn next<D: ReadAt + ?Sized>(&self, area: &Area<'_, D>, cluster: u32) -> Option<u32> {
        self.value(&area.bytes(self.table.start + self.place(cluster), 4)?, cluster)
    }

    /// Where the table says something of a cluster.
    fn place(&self, cluster: u32) -> u64 {
        let cluster = u64::from(cluster);
        match self.width {
            Width::Bits12 => cluster + cluster / 2,
            Width::Bits16 => cluster * 2,
            Width::Bits32 => cluster * 4,
        }
    }

    /// What is said there.
    pub(crate) fn value(&self, bytes: &[u8], cluster: u32) -> Option<u32> {
        match self.width {
            Width::Bits12 => {
                let pair = u32::from(u16_le(bytes, 0)?);
                Some(if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 })
            }
            Width::Bits16 => u16_le(bytes, 0).map(u32::from),
            Width::Bits32 => u32_le(bytes, 0).map(|value| value & 0x0fff_ffff),
        }
    }

    /// What the folder at the root holds.
    pub(in crate::inspect) fn root<D: ReadAt + ?Sized>(&self, area: &Area<'_, D>) -> Vec<Entry> {
        if self.width == Width::Bits32 {
            return self.chain(area, self.root_cluster);
        }
        let most = u64::try_from(MOST_FOLDER_BYTES).unwrap_or(u64::MAX);
        let bytes = (self.root.end - self.root.start).min(most);
        entries(&area.bytes(self.root.start, bytes).unwrap_or_default())
    }

    /// What a folder holds.
    pub(in crate::inspect) fn folder<D: ReadAt + ?Sized>(
        &self,
        area: &Area<'_, D>,
        folder: &Entry,
    ) -> Vec<Entry> {
        if folder.is_folder { self.chain(area, folder.cluster) } else { Vec::new() }
    }

    fn chain<D: ReadAt + ?Sized>(&self, area: &Area<'_, D>, first: u32) -> Vec<Entry> {
        let mut bytes = Vec::new();
        let mut cluster = first;
        while bytes.len() < MOST_FOLDER_BYTES && self.is_cluster(cluster) {
            let at = self.data_at + u64::from(cluster - 2) * self.cluster_bytes;
            let Some(piece) = area.bytes(at, self.cluster_bytes) else { break };
            bytes.extend(piece);
            let Some(next) = self.next(area, cluster) else { break };
            cluster = next;
        }
        entries(&bytes)
    }

    fn is_cluster(&self, cluster: u32) -> bool {
        cluster >= 2 && u64::from(cluster - 2) < self.clusters
    }
}

/// The entries of a folder, with their long names where they have one.
fn entries(bytes: &[u8]) -> Vec<Entry> {
    const DELETED: u8 = 0xe5;
    const LONG: u8 = 0x0f;
    const VOLUME: u8 = 0x08;
    const FOLDER: u8 = 0x10;
    let mut found = Vec::new();
    // The pieces of a long name come last to first, before the entry that they belong to.
    let mut long: Vec<Vec<u8>> = Vec::new();
    for entry in bytes.as_chunks::<ENTRY_BYTES>().0 {
        let (&[first], Some([attributes])) =
            (entry.first_chunk::<1>().unwrap_or(&[0]), array(entry, 11))
        else {
            continue;
        };
        match (first, attributes) {
            (0, _) => break,
            (DELETED, _) => long.clear(),
            (_, LONG) => {
                let pieces = [entry.get(1..11), entry.get(14..26), entry.get(28..32)];
                long.push(pieces.into_iter().flatten().flatten().copied().collect());
            }
            (_, attributes) => {
                long.reverse();
                let spelled = utf16(&long.concat());
                long.clear();
                let name = if spelled.is_empty() { short_name(entry) } else { spelled };
                // A separator in a name would lead elsewhere.
                let is_name = !name.starts_with('.') && !name.contains(['\\', '/']);
                if attributes & VOLUME == 0 && is_name {
                    let high = u16_le(entry, 20).unwrap_or_default();
                    let low = u16_le(entry, 26).unwrap_or_default();
                    let cluster = u32::from(high) << 16 | u32::from(low);
                    let is_folder = attributes & FOLDER != 0;
                    found.push(Entry { name, is_folder, cluster });
                }
            }
        }
    }
    found
}

/// A name of eight and three characters.
fn short_name(entry: &[u8]) -> String {
    let (stem, ending) = (text(entry, 0, 8), text(entry, 8, 3));
    // Bits that say that a part is in lower case, as Windows NT sets them.
    let [case] = array(entry, 12).unwrap_or([0]);
    let lower = |part: String, bit: u8| {
        if case & bit == 0 { part } else { part.to_ascii_lowercase() }
    };
    let (stem, ending) = (lower(stem, 0x08), lower(ending, 0x10));
    if ending.is_empty() { stem } else { format!("{stem}.{ending}") }
}
