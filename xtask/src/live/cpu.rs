//! The processors that a live system is built for, and what differs between them.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// What network cards and disk controllers want to be loaded with. Graphics, sound and wireless have packages of their own.
const FIRMWARE: [&str; 7] = [
    "firmware-bnx2",
    "firmware-bnx2x",
    "firmware-intel-misc",
    "firmware-linux-free",
    "firmware-misc-nonfree",
    "firmware-qlogic",
    "firmware-realtek",
];

/// A processor, by the name that boot programs and folders have here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cpu {
    /// 64-bit x86.
    X64,
    /// 64-bit ARM.
    Arm64,
}

impl Cpu {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::X64, Self::Arm64];
    /// The one that this program runs on.
    pub(super) const OWN: Self =
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X64 };

    /// Its name here.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X64 => "x64",
            Self::Arm64 => "arm64",
        }
    }

    /// Debian's name of it.
    pub(super) const fn debian(self) -> &'static str {
        match self {
            Self::X64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's name of it, with glibc.
    pub(super) const fn target(self) -> &'static str {
        match self {
            Self::X64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// What the names of its compiler and its linker begin with; nothing where they are this machine's own.
    pub(super) const fn tools(self) -> &'static str {
        match (self, Self::OWN) {
            (Self::X64, Self::X64) | (Self::Arm64, Self::Arm64) => "",
            (Self::X64, Self::Arm64) => "x86_64-linux-gnu-",
            (Self::Arm64, Self::X64) => "aarch64-linux-gnu-",
        }
    }

    /// The packages of its live system beside the kernel.
    pub(super) fn packages(self) -> Vec<&'static str> {
        let signed: &[&str] = match self {
            Self::X64 => &["grub-efi-amd64-signed", "shim-signed"],
            Self::Arm64 => &[],
        };
        [&["busybox-static"], signed, &FIRMWARE].concat()
    }

    /// The packages that come from Debian's newest suite. Boot programs for all processors are in one.
    pub(super) const fn newest_packages(self) -> &'static [&'static str] {
        match self {
            Self::X64 => &["ipxe"],
            Self::Arm64 => &[],
        }
    }

    /// The most that a machine should have to load whose hardware is known, in bytes. An arm64 kernel doesn't unpack itself, and
    /// Debian's comes unpacked.
    pub(super) const fn most_bytes(self) -> u64 {
        match self {
            Self::X64 => 40 << 20,
            Self::Arm64 => 56 << 20,
        }
    }

    /// Its place below a folder that was x64's alone.
    pub(crate) fn below(self, folder: &Path) -> PathBuf {
        match self {
            Self::X64 => folder.to_owned(),
            Self::Arm64 => folder.join("arm64"),
        }
    }
}
