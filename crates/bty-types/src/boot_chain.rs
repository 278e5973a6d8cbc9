//! Which programs bring a UEFI machine to the live system.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// The programs between a UEFI x64 firmware and the live system's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootChain {
    /// iPXE: fast, but not signed.
    Ipxe,
    /// Debian's shim and GRUB, signed: where Secure Boot is on.
    Shim,
}

impl BootChain {
    /// Every chain, for tables and tests.
    pub const ALL: [Self; 2] = [Self::Ipxe, Self::Shim];

    /// The name that people type and files hold.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipxe => "ipxe",
            Self::Shim => "shim",
        }
    }
}

impl FromStr for BootChain {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::ALL
            .into_iter()
            .find(|chain| chain.as_str() == text)
            .ok_or_else(|| ParseError::new("a boot chain", text, "it is one of ipxe, shim"))
    }
}

impl fmt::Display for BootChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chain_reads_back_and_is_spelled_alike_in_files() {
        for chain in BootChain::ALL {
            assert_eq!(chain.as_str().parse(), Ok(chain));
            assert_eq!(serde_json::to_string(&chain).unwrap(), format!("\"{chain}\""));
        }
        assert!("grub".parse::<BootChain>().is_err());
    }
}
