//! Conversions between messages of the contract and the types of `bty-types` and `std`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use crate::types::v1::{BootChain as WireChain, BootEntry as WireEntry, Policy as WirePolicy};
use bty_types::{BootChain, BootEntry, Policy};

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// A point in time as the contract has it. Times before 1970 become 1970.
pub fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

/// The point in time that a message gives; `None` where it is absent, before 1970 or after the year 9999, where the range that
/// `google.protobuf.Timestamp` documents ends.
pub fn system_time(timestamp: Option<&Timestamp>) -> Option<SystemTime> {
    let timestamp = timestamp?;
    let seconds =
        u64::try_from(timestamp.seconds).ok().filter(|&seconds| seconds <= LAST_SECOND)?;
    let nanos = u32::try_from(timestamp.nanos).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

impl From<Policy> for WirePolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Local => Self::Local,
            Policy::FlashOnce => Self::FlashOnce,
            Policy::FlashAlways => Self::FlashAlways,
            Policy::Inventory => Self::Inventory,
        }
    }
}

impl WirePolicy {
    /// The policy that is meant; `None` where none is given.
    pub const fn known(self) -> Option<Policy> {
        match self {
            Self::Unspecified => None,
            Self::Local => Some(Policy::Local),
            Self::FlashOnce => Some(Policy::FlashOnce),
            Self::FlashAlways => Some(Policy::FlashAlways),
            Self::Inventory => Some(Policy::Inventory),
        }
    }
}

impl From<BootChain> for WireChain {
    fn from(chain: BootChain) -> Self {
        match chain {
            BootChain::Ipxe => Self::Ipxe,
            BootChain::Shim => Self::Shim,
        }
    }
}

impl WireChain {
    /// The chain that is meant; `None` where none is given.
    pub const fn known(self) -> Option<BootChain> {
        match self {
            Self::Unspecified => None,
            Self::Ipxe => Some(BootChain::Ipxe),
            Self::Shim => Some(BootChain::Shim),
        }
    }
}

impl From<BootEntry> for WireEntry {
    fn from(entry: BootEntry) -> Self {
        match entry {
            BootEntry::Next => Self::Next,
            BootEntry::Off => Self::Off,
            BootEntry::Order => Self::Order,
        }
    }
}

impl WireEntry {
    /// The wish that is meant; `None` where none is given.
    pub const fn known(self) -> Option<BootEntry> {
        match self {
            Self::Unspecified => None,
            Self::Next => Some(BootEntry::Next),
            Self::Off => Some(BootEntry::Off),
            Self::Order => Some(BootEntry::Order),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_wire() {
        let at = UNIX_EPOCH + Duration::new(1_800_000_000, 123_456_789);
        assert_eq!(system_time(Some(&timestamp(at))), Some(at));
        assert_eq!(system_time(Some(&Timestamp { seconds: -1, nanos: 0 })), None);
        assert_eq!(system_time(Some(&Timestamp { seconds: i64::MAX, nanos: 0 })), None);
        assert_eq!(system_time(Some(&Timestamp { seconds: 0, nanos: -1 })), None);
        assert_eq!(system_time(None), None);
    }

    #[test]
    fn wishes_survive_the_wire() {
        for policy in Policy::ALL {
            assert_eq!(WirePolicy::from(policy).known(), Some(policy));
        }
        assert_eq!(WirePolicy::Unspecified.known(), None);
        for chain in BootChain::ALL {
            assert_eq!(WireChain::from(chain).known(), Some(chain));
        }
        for entry in BootEntry::ALL {
            assert_eq!(WireEntry::from(entry).known(), Some(entry));
        }
    }
}
