//! What an operator wants a machine to do when it boots from the network.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// The standing wish for a machine's next boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Boot the disk.
    Local,
    /// Flash once for each generation of the assignment, and boot the disk otherwise.
    FlashOnce,
    /// Flash, boot the disk once, flash again.
    FlashAlways,
    /// Report the hardware once for each generation of the assignment, and boot the disk otherwise.
    Inventory,
}

impl Policy {
    /// Every policy, for tables and tests.
    pub const ALL: [Self; 4] = [Self::Local, Self::FlashOnce, Self::FlashAlways, Self::Inventory];

    /// The name that people type and files hold.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::FlashOnce => "flash-once",
            Self::FlashAlways => "flash-always",
            Self::Inventory => "inventory",
        }
    }
}

impl FromStr for Policy {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == text).ok_or_else(|| {
            ParseError::new(
                "a policy",
                text,
                "it is one of local, flash-once, flash-always, inventory",
            )
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_reads_back_and_is_spelled_alike_in_files() {
        for policy in Policy::ALL {
            assert_eq!(policy.as_str().parse(), Ok(policy));
            assert_eq!(serde_json::to_string(&policy).unwrap(), format!("\"{policy}\""));
        }
        assert!("flash".parse::<Policy>().is_err());
    }
}
