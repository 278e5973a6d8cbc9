//! What is in an image. [`inspect`] reads its first bytes: partition table, partitions, how it boots. [`contents`] looks further:
//! file systems, the operating system's family, processors.
//!
//! Tolerant: an image that nobody understands is still an image. Only what a person is shown and what the gate needs is read.

mod contents;
pub(crate) mod filesystem;
mod gpt;
mod loaders;
mod mbr;
mod partition_types;
pub(crate) mod sparing;

pub use contents::{Contents, contents};
pub use filesystem::FileSystem;
pub use loaders::{EfiProgram, efi_programs};

/// How many of a disk's first bytes are looked at: a GPT with 4096-byte sectors and its usual 128 entries ends well before.
pub const HEAD_BYTES: usize = 64 * 1024;

/// What is in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Its partition table.
    pub table: Table,
    /// Its partitions, in the table's order.
    pub partitions: Vec<Partition>,
    /// Whether its first sector has boot code for a BIOS.
    pub boots_bios: bool,
    /// Whether it has an EFI system partition.
    pub boots_uefi: bool,
    /// Whether it has an ISO 9660 file system: a live or installation medium. With a partition table it is a hybrid, which boots
    /// from a disk too.
    pub is_iso: bool,
    /// The sector size that the partition table was made for, in bytes; 0 where it has none or any would do.
    pub sector_bytes: u32,
}

/// A kind of partition table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Table {
    /// None that is known.
    #[default]
    None,
    /// GUID partition table (UEFI 2.10, section 5.3).
    Gpt,
    /// Master boot record.
    Mbr,
}

impl Table {
    /// What people call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gpt => "gpt",
            Self::Mbr => "mbr",
        }
    }
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins, in bytes.
    pub start_bytes: u64,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// Its type: a GUID in lower case, or two hexadecimal digits.
    pub kind: String,
    /// Its name; empty where the table has none.
    pub name: String,
    /// What tells it from others.
    pub id: PartitionId,
}

/// What tells a partition from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionId {
    /// Its own GUID, in the order of its bytes on the disk.
    Guid([u8; 16]),
    /// The signature of its disk: an MBR has none for a partition.
    OfDisk(u32),
}

impl Partition {
    /// Whether UEFI looks for its programs there.
    pub fn is_efi_system(&self) -> bool {
        self.kind == ESP_GUID || self.kind == ESP_TYPE
    }
}

/// The type of an EFI system partition in a GPT.
const ESP_GUID: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// And in an MBR.
const ESP_TYPE: &str = "ef";

/// Where ECMA-119 has the first volume descriptor's identifier.
const ISO_AT: usize = 0x8001;
const ISO_MAGIC: &[u8] = b"CD001";

/// Looks at the first bytes of a disk, [`HEAD_BYTES`] or all there are.
pub fn inspect(head: &[u8]) -> Inspection {
    let is_iso = head.get(ISO_AT..).is_some_and(|rest| rest.starts_with(ISO_MAGIC));
    let Some(mbr) = mbr::parse(head) else { return Inspection { is_iso, ..Inspection::default() } };
    let boots_bios = mbr.has_code;
    if let Some((sector_bytes, partitions)) = gpt::parse(head) {
        let boots_uefi = partitions.iter().any(Partition::is_efi_system);
        let table = Table::Gpt;
        return Inspection { table, partitions, boots_bios, boots_uefi, is_iso, sector_bytes };
    }
    let boots_uefi = mbr.partitions.iter().any(Partition::is_efi_system);
    let table = if mbr.partitions.is_empty() { Table::None } else { Table::Mbr };
    // An MBR does not say for which sector size it was made; nearly all are for 512.
    let sector_bytes = if table == Table::Mbr { 512 } else { 0 };
    let partitions = mbr.partitions;
    Inspection { table, partitions, boots_bios, boots_uefi, is_iso, sector_bytes }
}

#[cfg(test)]
mod tests;
