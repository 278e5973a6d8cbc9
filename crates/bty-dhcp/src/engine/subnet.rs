//! A subnet that the full server leases addresses of.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::Ipv4Addr,
    ops::RangeInclusive,
    time::Duration,
};

use bty_types::MacAddr;

/// Addresses in one range: what a search may have to look at.
const LARGEST_RANGE: u32 = 4096;
/// A shorter lease keeps clients busy renewing; a longer one outlives any lab.
const LEASE_SECONDS: RangeInclusive<u64> = 60..=30 * 86_400;

/// What a person writes about a subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubnetText {
    /// The interface it is on; empty where it is reached through a relay.
    pub interface: String,
    /// `10.77.0.0/24`.
    pub network: String,
    /// The first and last address for anybody; `None` where only reservations are served.
    pub range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The router that clients are told.
    pub router: Option<Ipv4Addr>,
    /// The name servers that clients are told.
    pub dns: Vec<Ipv4Addr>,
    /// How long a lease lasts.
    pub lease_seconds: u64,
    /// Addresses for single machines.
    pub reservations: Vec<(MacAddr, Reservation)>,
}

/// An address that is kept for one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The address.
    pub address: Ipv4Addr,
    /// The name that the machine is told; empty for none.
    pub hostname: String,
}

/// A subnet, valid in itself.
#[derive(Debug, Clone)]
pub struct Subnet {
    interface: String,
    network: u32,
    prefix: u8,
    range: Option<RangeInclusive<u32>>,
    router: Option<Ipv4Addr>,
    dns: Vec<Ipv4Addr>,
    lease: Duration,
    reservations: HashMap<MacAddr, Reservation>,
    reserved: HashSet<Ipv4Addr>,
}

/// What is wrong with a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Not a network.
    #[error("network {0:?} is not of the form 10.77.0.0/24")]
    Network(String),
    /// Host bits are set.
    #[error("network {given} has bits beyond its prefix set; the network is {meant}")]
    HostBits {
        /// As written.
        given: String,
        /// As it should be.
        meant: String,
    },
    /// Too small or too large.
    #[error(
        "network {0} is not between /8 and /30: firmware refuses addresses of smaller networks (tianocore/edk2#8557)"
    )]
    Prefix(String),
    /// An address outside.
    #[error("{key} {address} is not an address for hosts of {network}")]
    Outside {
        /// The key.
        key: &'static str,
        /// Its value.
        address: Ipv4Addr,
        /// The network.
        network: String,
    },
    /// The range ends before it starts.
    #[error("range_end {end} is before range_start {start}")]
    Backwards {
        /// Where it starts.
        start: Ipv4Addr,
        /// Where it ends.
        end: Ipv4Addr,
    },
    /// The range is too large.
    #[error("the range has {0} addresses; at most {LARGEST_RANGE} make sense on one segment")]
    LargeRange(u32),
    /// The range holds the router.
    #[error("the router {0} is inside the range; end the range before it, or start it after")]
    RouterInRange(Ipv4Addr),
    /// There is nothing to lease.
    #[error("network {0} has neither a range nor reservations: there is nothing to lease")]
    Nothing(String),
    /// The lease is too short or too long.
    #[error("lease_seconds {0} is not between 60 (a minute) and 2592000 (30 days)")]
    Lease(u64),
    /// Two reservations for one machine or of one address.
    #[error("{0} is reserved twice")]
    Twice(String),
    /// A name that is none.
    #[error("hostname {0:?} of a reservation is not a host name of letters, digits and hyphens")]
    Hostname(String),
    /// Two subnets share addresses.
    #[error("the networks {0} and {1} overlap")]
    Overlap(String, String),
}

impl SubnetText {
    /// Checks everything that a subnet must be.
    pub fn parse(self) -> Result<Subnet, SubnetError> {
        let (network, prefix) = parse_network(&self.network)?;
        let subnet = Subnet {
            interface: self.interface,
            network,
            prefix,
            range: None,
            router: self.router,
            dns: self.dns,
            lease: Duration::from_secs(self.lease_seconds),
            reservations: HashMap::new(),
            reserved: HashSet::new(),
        };
        if !LEASE_SECONDS.contains(&self.lease_seconds) {
            return Err(SubnetError::Lease(self.lease_seconds));
        }
        if let Some(router) = subnet.router {
            subnet.check_inside("router", router)?;
        }
        let range = self.range.map(|(start, end)| subnet.check_range(start, end)).transpose()?;
        let subnet = Subnet { range, ..subnet }.with_reservations(self.reservations)?;
        if subnet.range.is_none() && subnet.reservations.is_empty() {
            return Err(SubnetError::Nothing(subnet.to_string()));
        }
        Ok(subnet)
    }
}

impl Subnet {
    /// Checks that no two subnets share addresses.
    pub fn check_together(subnets: &[Self]) -> Result<(), SubnetError> {
        for (index, first) in subnets.iter().enumerate() {
            for second in subnets.iter().skip(index + 1) {
                let shared = mask(first.prefix.min(second.prefix));
                if first.network & shared == second.network & shared {
                    return Err(SubnetError::Overlap(first.to_string(), second.to_string()));
                }
            }
        }
        Ok(())
    }

    /// The interface it is on; empty where it is reached through a relay.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Whether an address is of this network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.network
    }

    /// Whether the address may be given to this machine at all.
    pub fn is_for(&self, address: Ipv4Addr, mac: MacAddr) -> bool {
        match self.reservations.get(&mac) {
            Some(reservation) if reservation.address == address => true,
            _ => self.is_in_range(address) && !self.reserved.contains(&address),
        }
    }

    fn is_in_range(&self, address: Ipv4Addr) -> bool {
        self.range.as_ref().is_some_and(|range| range.contains(&u32::from(address)))
    }

    /// The addresses for anybody.
    pub(super) fn range(&self) -> Option<&RangeInclusive<u32>> {
        self.range.as_ref()
    }

    pub(super) fn reservation(&self, mac: MacAddr) -> Option<&Reservation> {
        self.reservations.get(&mac)
    }

    /// Whether the address is kept for a machine.
    pub fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.reserved.contains(&address)
    }

    pub(super) const fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix))
    }

    pub(super) const fn router(&self) -> Option<Ipv4Addr> {
        self.router
    }

    pub(super) fn dns(&self) -> &[Ipv4Addr] {
        &self.dns
    }

    pub(super) const fn lease(&self) -> Duration {
        self.lease
    }

    fn check_inside(&self, key: &'static str, address: Ipv4Addr) -> Result<(), SubnetError> {
        let broadcast = self.network | !mask(self.prefix);
        let host = u32::from(address);
        if self.contains(address) && host != self.network && host != broadcast {
            return Ok(());
        }
        Err(SubnetError::Outside { key, address, network: self.to_string() })
    }

    fn check_range(
        &self,
        start: Ipv4Addr,
        end: Ipv4Addr,
    ) -> Result<RangeInclusive<u32>, SubnetError> {
        self.check_inside("range_start", start)?;
        self.check_inside("range_end", end)?;
        let range = u32::from(start)..=u32::from(end);
        if range.is_empty() {
            return Err(SubnetError::Backwards { start, end });
        }
        let addresses = range.end() - range.start() + 1;
        if addresses > LARGEST_RANGE {
            return Err(SubnetError::LargeRange(addresses));
        }
        match self.router {
            Some(router) if range.contains(&u32::from(router)) => {
                Err(SubnetError::RouterInRange(router))
            }
            _ => Ok(range),
        }
    }

    fn with_reservations(
        mut self,
        reservations: Vec<(MacAddr, Reservation)>,
    ) -> Result<Self, SubnetError> {
        for (mac, reservation) in reservations {
            self.check_inside("the reserved address", reservation.address)?;
            if !is_hostname(&reservation.hostname) {
                return Err(SubnetError::Hostname(reservation.hostname));
            }
            if !self.reserved.insert(reservation.address) {
                return Err(SubnetError::Twice(reservation.address.to_string()));
            }
            if self.reservations.insert(mac, reservation).is_some() {
                return Err(SubnetError::Twice(mac.to_string()));
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.prefix)
    }
}

/// The mask of a prefix.
pub(super) const fn mask(prefix: u8) -> u32 {
    match prefix {
        0 => 0,
        1..=31 => u32::MAX << (32 - prefix),
        _ => u32::MAX,
    }
}

fn parse_network(text: &str) -> Result<(u32, u8), SubnetError> {
    let unreadable = || SubnetError::Network(text.to_owned());
    let (address, prefix) = text.split_once('/').ok_or_else(unreadable)?;
    let address: Ipv4Addr = address.parse().map_err(|_| unreadable())?;
    let prefix: u8 = prefix.parse().ok().filter(|&prefix| prefix <= 32).ok_or_else(unreadable)?;
    if !(8..=30).contains(&prefix) {
        return Err(SubnetError::Prefix(text.to_owned()));
    }
    let network = u32::from(address) & mask(prefix);
    if network != u32::from(address) {
        let meant = format!("{}/{prefix}", Ipv4Addr::from(network));
        return Err(SubnetError::HostBits { given: text.to_owned(), meant });
    }
    Ok((network, prefix))
}

/// RFC 1123 §2.1; empty for none.
fn is_hostname(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.is_empty() || (name.len() <= 253 && name.split('.').all(is_label))
}
