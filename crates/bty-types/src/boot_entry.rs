//! What becomes of a UEFI machine's boot entries after a flash.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// What the agent does to the firmware's boot entries after a good flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootEntry {
    /// The disk is booted next, once; the boot order is left alone.
    Next,
    /// Nothing.
    Off,
    /// As `Next`, and the boot order is rewritten: the network, this disk, the rest.
    Order,
}

impl BootEntry {
    /// Every one, for tables and tests.
    pub const ALL: [Self; 3] = [Self::Next, Self::Off, Self::Order];

    /// The name that people type and files hold.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Off => "off",
            Self::Order => "order",
        }
    }
}

impl FromStr for BootEntry {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::ALL.into_iter().find(|entry| entry.as_str() == text).ok_or_else(|| {
            ParseError::new("a wish for boot entries", text, "it is one of next, off, order")
        })
    }
}

impl fmt::Display for BootEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wish_reads_back_and_is_spelled_alike_in_files() {
        for entry in BootEntry::ALL {
            assert_eq!(entry.as_str().parse(), Ok(entry));
            assert_eq!(serde_json::to_string(&entry).unwrap(), format!("\"{entry}\""));
        }
        assert!("first".parse::<BootEntry>().is_err());
    }
}
