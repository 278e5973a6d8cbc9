//! What a boot script's URL says of the machine that asks: text from the LAN, parsed once.

use std::collections::HashSet;

use bty_api::types::v1::BootPath;
use bty_types::{MacAddr, ParseError};
use serde::Deserialize;

/// The query of `/boot/script` and of every URL in a script, as iPXE fills it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Query {
    /// `${netX/mac:hexhyp}`.
    #[serde(default)]
    pub mac: String,
    /// `pxe` or `http`: how the firmware came.
    #[serde(default)]
    pub via: String,
    /// iPXE's `${platform}`: `pcbios` or `efi`.
    #[serde(default)]
    pub platform: String,
    /// iPXE's `${buildarch}`: `i386`, `x86_64` or `arm64`.
    #[serde(default)]
    pub arch: String,
    /// For the live system: the kernel modules that it needs, with commas between; empty for all.
    #[serde(default)]
    pub modules: String,
    /// How often the first script has asked before, in this start of iPXE.
    #[serde(default)]
    pub tries: String,
    /// The boot id of the script that led here.
    #[serde(default)]
    pub boot: String,
    /// Where the live system failed.
    #[serde(default)]
    pub stage: String,
    /// Why it failed there.
    #[serde(default)]
    pub reason: String,
}

/// How the firmware runs iPXE, which decides how a script leaves for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// A PC BIOS.
    Bios,
    /// UEFI.
    Efi,
}

impl Platform {
    /// iPXE's name of it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "pcbios",
            Self::Efi => "efi",
        }
    }

    /// From iPXE's `${platform}`. What isn't `efi` is treated as a BIOS, whose way to the disk harms no UEFI machine.
    pub fn from_ipxe(text: &str) -> Self {
        if text == "efi" { Self::Efi } else { Self::Bios }
    }
}

/// The most kernel modules that a live system is made of by name.
pub(crate) const MAX_MODULES: usize = 100;

/// Which live system the machine's processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// 64-bit x86.
    X64,
    /// 64-bit ARM.
    Arm64,
}

impl Cpu {
    /// iPXE's name of it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// From iPXE's `${buildarch}`. What isn't `arm64` is an x86: a BIOS's iPXE is built for `i386` and starts 64-bit kernels.
    pub fn from_ipxe(text: &str) -> Self {
        if text == "arm64" { Self::Arm64 } else { Self::X64 }
    }
}

impl Query {
    /// The machine.
    pub fn mac(&self) -> Result<MacAddr, ParseError> {
        self.mac.parse()
    }

    /// The firmware's way.
    pub fn path(&self) -> BootPath {
        path(&self.via)
    }

    /// Whether iPXE has only just started: a question that is asked again says so, and so does one of no first script.
    pub fn is_first(&self) -> bool {
        self.tries == "0"
    }

    /// The platform.
    pub fn platform(&self) -> Platform {
        Platform::from_ipxe(&self.platform)
    }

    /// The processor.
    pub fn cpu(&self) -> Cpu {
        Cpu::from_ipxe(&self.arch)
    }

    /// The kernel modules that the live system is to have, each once; `None` for all, also where there are too many to name or one is no name.
    pub fn modules(&self) -> Option<Vec<&str>> {
        let names: Vec<&str> = self.modules.split(',').take(MAX_MODULES + 1).collect();
        let is_name = |name: &&str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let are_good = names.len() <= MAX_MODULES && names.iter().all(is_name);
        let mut met = HashSet::new();
        are_good.then(|| names.into_iter().filter(|&name| met.insert(name)).collect())
    }
}

/// The firmware's way from the word in a URL; PXE where it is anything else.
pub fn path(via: &str) -> BootPath {
    if via == "http" { BootPath::Http } else { BootPath::Pxe }
}

/// The word for a way in a URL.
pub const fn via(path: BootPath) -> &'static str {
    match path {
        BootPath::Http => "http",
        BootPath::Pxe | BootPath::Unspecified => "pxe",
    }
}

/// Text from the LAN made fit for a log line or an event: printable ASCII, at most `most` characters.
pub fn printable(text: &str, most: usize) -> String {
    let fit = |character: char| {
        if character.is_ascii_graphic() || character == ' ' { character } else { '?' }
    };
    text.chars().take(most).map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_read_back() {
        for way in [BootPath::Pxe, BootPath::Http] {
            assert_eq!(path(via(way)), way);
        }
        assert_eq!(path("${via}"), BootPath::Pxe);
    }

    #[test]
    fn processors_read_back_and_any_other_word_is_an_x86() {
        for cpu in [Cpu::X64, Cpu::Arm64] {
            assert_eq!(Cpu::from_ipxe(cpu.as_str()), cpu);
        }
        for word in ["i386", "", "${buildarch}", "ARM64", "arm64&x"] {
            assert_eq!(Cpu::from_ipxe(word), Cpu::X64, "{word}");
        }
    }

    #[test]
    fn modules_are_names_or_all() {
        let modules = |text: &str| {
            let query = Query { modules: text.into(), ..Query::default() };
            query.modules().map(|names| names.join(" "))
        };
        assert_eq!(modules("igc,nvme_core").as_deref(), Some("igc nvme_core"));
        assert_eq!(modules("igc,nvme,igc").as_deref(), Some("igc nvme"), "each costs a descriptor");
        for all in ["", "igc,", "../igc", "igc/x", "a b", &"x,".repeat(200)] {
            assert_eq!(modules(all), None, "{all}");
        }
    }

    #[test]
    fn what_a_client_says_can_not_draw_on_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nü c", 6), "a?[2Jb");
    }
}
