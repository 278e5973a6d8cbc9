//! What is in an image beside its partitions: file systems, the operating system's family, the processors that it is made for.
//!
//! Nothing of a system is read but what says so by its place: types of partitions, kinds of file systems, names of EFI programs.

use std::collections::BTreeSet;

use super::{
    Inspection, Table,
    filesystem::{Area, FileSystem, file_system},
    loaders::{EfiProgram, programs_in},
    partition_types,
    sparing::Sparing,
};
use crate::ReadAt;

/// Hints that are kept; a table may have a thousand partitions.
const MOST_HINTS: usize = 32;
/// Where NTFS has the text that its boot code shows, which is Windows's own.
const BOOT_CODE_BYTES: u64 = 512;

/// What is in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The file system, where the whole disk is one.
    pub whole: Option<FileSystem>,
    /// The file systems of the partitions, in the order of [`Inspection::partitions`].
    pub partitions: Vec<Option<FileSystem>>,
    /// The family of its operating system, such as `linux`, where something tells.
    pub os: Option<&'static str>,
    /// What tells: a sentence each.
    pub hints: Vec<String>,
    /// The processors that it is made for, as Linux calls them.
    pub architectures: BTreeSet<&'static str>,
}

impl Contents {
    /// Bytes that its file systems say they use, where one says so.
    pub fn used_bytes(&self) -> Option<u64> {
        let known = self.whole.iter().chain(self.partitions.iter().flatten());
        let used: Vec<u64> = known.filter_map(|known| known.used_bytes).collect();
        (!used.is_empty()).then(|| used.into_iter().fold(0, u64::saturating_add))
    }
}

/// Something that tells of a system; the surest sort comes first.
struct Evidence {
    os: &'static str,
    rank: Rank,
    says: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Loader,
    BootCode,
    PartitionType,
    FileSystem,
}

/// Looks into a disk that [`inspect`](super::inspect) has looked at. Takes a few thousand reads at most; what is found after them is left
/// out.
pub fn contents(disk: &(impl ReadAt + ?Sized), table: &Inspection) -> Contents {
    let disk = &Sparing::new(disk);
    let mut found = Contents::default();
    let mut evidence = Vec::new();
    if table.table == Table::None || table.is_iso {
        let area = Area::new(disk, 0, u64::MAX);
        found.whole = file_system(&area);
        evidence.extend(
            found.whole.as_ref().and_then(|whole| of_file_system(whole, &area, "the disk")),
        );
    }
    for partition in &table.partitions {
        let area = Area::new(disk, partition.start_bytes, partition.size_bytes);
        let within = file_system(&area);
        let called = format!("partition {}", partition.number);
        if let Some(known) = partition_types::known(&partition.kind) {
            found.architectures.extend(known.architecture);
            let says = format!("the type of {called} is {}", known.name);
            evidence.push(Evidence { os: known.os, rank: Rank::PartitionType, says });
        }
        if let Some(within) = &within {
            evidence.extend(of_file_system(within, &area, &called));
        }
        if partition.is_efi_system() {
            let loaders = programs_in(&area).unwrap_or_default();
            found.architectures.extend(loaders.iter().filter_map(EfiProgram::architecture));
            // One of each vendor's is enough.
            let mut vendors = BTreeSet::new();
            let first = loaders.iter().filter(|loader| vendors.insert(&loader.vendor));
            evidence.extend(first.filter_map(of_loader));
        }
        found.partitions.push(within);
    }
    evidence.sort_by_key(|evidence| evidence.rank);
    found.os = evidence.first().map(|first| first.os);
    found.hints = evidence.into_iter().map(|evidence| evidence.says).take(MOST_HINTS).collect();
    found
}

fn of_loader(loader: &EfiProgram) -> Option<Evidence> {
    let os = loader.os()?;
    let says = format!("its EFI system partition has {}", loader.path);
    Some(Evidence { os, rank: Rank::Loader, says })
}

fn of_file_system<D: ReadAt + ?Sized>(
    within: &FileSystem,
    area: &Area<'_, D>,
    called: &str,
) -> Option<Evidence> {
    let kind = within.kind;
    if kind == "ntfs" {
        let code = area.bytes(0, BOOT_CODE_BYTES)?;
        let has = |text: &[u8]| code.windows(text.len()).any(|window| window == text);
        let name = ["BOOTMGR", "NTLDR"].into_iter().find(|name| has(name.as_bytes()))?;
        let says = format!("the boot code of {called} starts {name}");
        return Some(Evidence { os: "windows", rank: Rank::BootCode, says });
    }
    let os = match kind {
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "swap" | "luks" | "lvm2" => "linux",
        "bitlocker" => "windows",
        _ => return None,
    };
    let says = format!("{called} holds {kind}");
    Some(Evidence { os, rank: Rank::FileSystem, says })
}
