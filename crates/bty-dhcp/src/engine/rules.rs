//! What the engine is told about its task, and about single machines.

use std::collections::HashMap;

use bty_types::{BootChain, MacAddr};
use serde::{Deserialize, Serialize};

use super::{boot::BootFiles, subnet::Subnet};

/// How the server works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Beside the LAN's own DHCP server: it gives addresses, we say where to boot from.
    #[default]
    Proxy,
    /// The DHCP server of the configured subnets.
    Full,
    /// Nothing is answered.
    Off,
}

/// The engine's task.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// How it works.
    pub mode: Mode,
    /// What it names.
    pub files: BootFiles,
    /// What it leases from, in [`Mode::Full`]. Validated together by [`Subnet::check_together`].
    pub subnets: Vec<Subnet>,
}

/// What is known of single machines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory(HashMap<MacAddr, MachineFacts>);

/// What is known of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineFacts {
    /// Whether it may be told to netboot. A machine that boots its disk is told too: the boot script sends it there.
    pub netboot: bool,
    /// How it boots, where it is UEFI on a 64-bit x86 processor.
    pub chain: BootChain,
    /// Whether it gets the iPXE with network drivers of its own.
    pub own_drivers: bool,
}

impl Default for MachineFacts {
    fn default() -> Self {
        Self { netboot: true, chain: BootChain::Ipxe, own_drivers: false }
    }
}

/// Who knows of single machines.
pub trait Knows {
    /// What is known of this machine; the default for one that isn't known.
    fn facts(&self, mac: MacAddr) -> MachineFacts;
}

impl Knows for Directory {
    fn facts(&self, mac: MacAddr) -> MachineFacts {
        self.0.get(&mac).copied().unwrap_or_default()
    }
}

impl FromIterator<(MacAddr, MachineFacts)> for Directory {
    fn from_iter<T: IntoIterator<Item = (MacAddr, MachineFacts)>>(machines: T) -> Self {
        Self(machines.into_iter().collect())
    }
}
