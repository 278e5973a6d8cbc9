//! What the operator has set that records are judged by.

use std::time::Duration;

use bty_types::{BootChain, BootEntry, Policy};

/// Settings that decisions and bounds rest on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The policy of a machine that nobody knows.
    pub unknown_policy: Policy,
    /// How a machine boots of which nothing else is said.
    pub boot_chain: BootChain,
    /// What becomes of a firmware's boot entries after a flash where nothing else is said.
    pub boot_entry: BootEntry,
    /// How often work may be begun without being finished.
    pub max_attempts: u32,
    /// A machine that is back so soon after we sent it to its disk has not booted it.
    pub back_within: Duration,
    /// After so long without a word from its agent a run is lost.
    pub lost_after: Duration,
    /// Machines that may be known.
    pub max_machines: u64,
    /// Machines that may be discovered in a minute.
    pub max_new_machines_per_minute: u64,
    /// Events of one machine's boots that are recorded in a minute.
    pub max_boot_events_per_minute: u32,
}

#[cfg(test)]
impl Rules {
    /// What the shipped configuration sets.
    pub(crate) fn for_tests() -> Self {
        Self {
            unknown_policy: Policy::Inventory,
            boot_chain: BootChain::Ipxe,
            boot_entry: BootEntry::Next,
            max_attempts: 3,
            back_within: Duration::from_secs(20),
            lost_after: Duration::from_mins(1),
            max_machines: 1000,
            max_new_machines_per_minute: 1000,
            max_boot_events_per_minute: 60,
        }
    }
}
