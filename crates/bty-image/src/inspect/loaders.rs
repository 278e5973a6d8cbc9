//! The programs in an EFI system partition: whose they are, and for which processor.

use super::{
    filesystem::{
        Area,
        fat::{Entry, Fat},
    },
    sparing::Sparing,
};
use crate::ReadAt;

const BOOT_SECTOR_BYTES: u64 = 512;
/// Folders below `\EFI` that are looked into, and programs of each that are kept.
const MOST_FOLDERS: usize = 32;
const MOST_LOADERS: usize = 512;

/// A program for UEFI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EfiProgram {
    /// Where it is, as it is spelled there, such as `\EFI\debian\shimx64.efi`.
    pub path: String,
    /// The folder below `\EFI`, in lower case: whose it is, or `boot`.
    pub vendor: String,
    /// Its name without its ending, in lower case.
    pub stem: String,
}

/// What programs' names end with, by UEFI 2.10 section 3.5.1.1, and what Linux calls the processor; a name ends with the longest.
const SUFFIXES: [(&str, &str); 7] = [
    ("loongarch64", "loongarch64"),
    ("riscv64", "riscv64"),
    ("ia32", "i686"),
    ("aa64", "aarch64"),
    ("ia64", "ia64"),
    ("x64", "x86_64"),
    ("arm", "armv7l"),
];

/// Whose folders they are.
const VENDORS: [(&str, &str); 22] = [
    ("microsoft", "windows"),
    ("freebsd", "freebsd"),
    ("openbsd", "openbsd"),
    ("netbsd", "netbsd"),
    ("almalinux", "linux"),
    ("alpine", "linux"),
    ("amzn", "linux"),
    ("arch", "linux"),
    ("centos", "linux"),
    ("debian", "linux"),
    ("fedora", "linux"),
    ("flatcar", "linux"),
    ("gentoo", "linux"),
    ("kali", "linux"),
    ("linux", "linux"),
    ("nixos", "linux"),
    ("opensuse", "linux"),
    ("oracle", "linux"),
    ("redhat", "linux"),
    ("rocky", "linux"),
    ("sles", "linux"),
    ("ubuntu", "linux"),
];

impl EfiProgram {
    /// The processor, where its name says it and it is one of those that start a system.
    pub(super) fn architecture(&self) -> Option<&'static str> {
        let starts = ["boot", "shim", "grub", "systemd-boot"];
        let suffix = starts.iter().find_map(|name| self.stem.strip_prefix(name))?;
        SUFFIXES.iter().find(|(known, _)| *known == suffix).map(|(_, name)| *name)
    }

    /// The family of the operating system whose folder it is in.
    pub(super) fn os(&self) -> Option<&'static str> {
        VENDORS.iter().find(|(vendor, _)| *vendor == self.vendor).map(|(_, os)| *os)
    }
}

/// The programs in the EFI system partition that begins at this byte of a disk and has so many; `None` where it has no FAT that can be
/// read. Takes a few thousand reads at most.
pub fn efi_programs(
    disk: &(impl ReadAt + ?Sized),
    start_bytes: u64,
    size_bytes: u64,
) -> Option<Vec<EfiProgram>> {
    programs_in(&Area::new(&Sparing::new(disk), start_bytes, size_bytes))
}

/// Those in this part of a disk.
pub(super) fn programs_in<D: ReadAt + ?Sized>(area: &Area<'_, D>) -> Option<Vec<EfiProgram>> {
    Some(loaders(&Fat::parse(&area.bytes(0, BOOT_SECTOR_BYTES)?)?, area))
}

/// The programs in `\EFI\VENDOR` and in `\EFI\VENDOR\Boot`, where Windows has its own.
fn loaders<D: ReadAt + ?Sized>(fat: &Fat, area: &Area<'_, D>) -> Vec<EfiProgram> {
    let mut found = Vec::new();
    let root = fat.root(area);
    let Some(efi) = root.iter().find(|entry| is_folder(entry, "EFI")) else { return found };
    for vendor in fat.folder(area, efi).iter().filter(|entry| entry.is_folder).take(MOST_FOLDERS) {
        let path = format!("\\{}\\{}", efi.name, vendor.name);
        let inner = fat.folder(area, vendor);
        found.extend(programs(&inner, &path, vendor));
        if let Some(boot) = inner.iter().find(|entry| is_folder(entry, "Boot")) {
            let path = format!("{path}\\{}", boot.name);
            found.extend(programs(&fat.folder(area, boot), &path, vendor));
        }
    }
    found
}

fn is_folder(entry: &Entry, name: &str) -> bool {
    entry.is_folder && entry.name.eq_ignore_ascii_case(name)
}

fn programs(entries: &[Entry], path: &str, vendor: &Entry) -> Vec<EfiProgram> {
    let programs = entries.iter().filter(|entry| !entry.is_folder).filter_map(|entry| {
        let name = entry.name.to_ascii_lowercase();
        let stem = name.strip_suffix(".efi")?.to_owned();
        let path = format!("{path}\\{}", entry.name);
        Some(EfiProgram { path, vendor: vendor.name.to_ascii_lowercase(), stem })
    });
    programs.take(MOST_LOADERS).collect()
}
