//! Who has which address: leases by machine, offers that are held for a while, addresses that rest after a DECLINE.
//!
//! A machine is its MAC address: on its way from firmware to the installed system it sends three different client
//! identifiers (option 61), and must not use up three addresses. Everything is bounded by the configured addresses.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use bty_types::MacAddr;

use super::subnet::Subnet;

/// How long an offer is held. OVMF takes up to 6.5 s from its DISCOVER to its REQUEST on a busy machine.
const OFFER_HELD: Duration = Duration::from_mins(1);
/// How long an address rests after a client found it in use.
const DECLINED_RESTS: Duration = Duration::from_mins(10);

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Whose it is.
    pub mac: MacAddr,
    /// Until when.
    pub expires_at: SystemTime,
    /// The name that the client gave itself, printable part.
    pub hostname: String,
}

/// A change that must survive a restart, and so must be on disk before the answer goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// An address was leased, or a lease was renewed.
    Bound(Lease),
    /// An address is free again.
    Freed(Ipv4Addr),
    /// An address rests.
    Declined {
        /// The address.
        address: Ipv4Addr,
        /// Until when.
        until: SystemTime,
    },
}

impl LeaseChange {
    /// The same change, its end told by another clock.
    #[must_use]
    pub fn told_by(self, clock: impl Fn(SystemTime) -> SystemTime) -> Self {
        match self {
            Self::Bound(lease) => {
                let expires_at = clock(lease.expires_at);
                Self::Bound(Lease { expires_at, ..lease })
            }
            Self::Declined { address, until } => Self::Declined { address, until: clock(until) },
            Self::Freed(address) => Self::Freed(address),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offered,
    Bound,
    Declined,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Whose it is, and in which subnet; `None` while the address rests.
    holder: Option<Holder>,
    state: State,
    until: SystemTime,
    hostname: String,
}

/// A machine in the subnet of this index.
type Holder = (MacAddr, usize);

/// All leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    entries: BTreeMap<Ipv4Addr, Entry>,
    /// The address that a machine has, or had last.
    bound: HashMap<Holder, Ipv4Addr>,
    /// The address that was offered to it last.
    offered: HashMap<Holder, Ipv4Addr>,
}

impl Leases {
    /// Takes up a change that an earlier run made. One of an address that is no more configured is dropped. None lasts longer than one
    /// that is made now: a machine whose clock starts too early would give the addresses of clients that are gone to nobody.
    pub(super) fn restore(&mut self, now: SystemTime, change: LeaseChange, subnets: &[Subnet]) {
        match change {
            LeaseChange::Bound(lease) => {
                let is_for = |subnet: &&Subnet| subnet.is_for(lease.address, lease.mac);
                if let Some((index, subnet)) = (0..).zip(subnets).find(|(_, subnet)| is_for(subnet))
                {
                    self.put(
                        lease.address,
                        Entry {
                            holder: Some((lease.mac, index)),
                            state: State::Bound,
                            until: lease.expires_at.min(now + subnet.lease()),
                            hostname: lease.hostname,
                        },
                    );
                }
            }
            LeaseChange::Freed(address) => self.expire(address),
            LeaseChange::Declined { address, until } => {
                if subnets.iter().any(|subnet| subnet.contains(address)) {
                    self.rest(address, until.min(now + DECLINED_RESTS));
                }
            }
        }
    }

    /// How many leases run.
    pub(super) fn count(&self, now: SystemTime) -> usize {
        let runs = |entry: &&Entry| entry.state == State::Bound && entry.until > now;
        self.entries.values().filter(runs).count()
    }

    /// The leases that run, by address.
    pub(super) fn running(&self, now: SystemTime) -> impl Iterator<Item = Lease> + '_ {
        self.entries.iter().filter_map(move |(&address, entry)| {
            let (mac, _) = entry.holder?;
            (entry.state == State::Bound && entry.until > now).then(|| Lease {
                address,
                mac,
                expires_at: entry.until,
                hostname: entry.hostname.clone(),
            })
        })
    }

    /// The changes that rebuild this state.
    pub(super) fn changes(&self, now: SystemTime) -> Vec<LeaseChange> {
        let resting = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state == State::Declined && entry.until > now)
            .map(|(&address, entry)| LeaseChange::Declined { address, until: entry.until });
        self.running(now).map(LeaseChange::Bound).chain(resting).collect()
    }

    /// Finds an address and holds it for the machine: its reservation, the one it has or had, the one it was offered or
    /// wants, any.
    pub(super) fn offer(
        &mut self,
        now: SystemTime,
        (index, subnet): (usize, &Subnet),
        mac: MacAddr,
        wanted: Option<Ipv4Addr>,
        own: Ipv4Addr,
    ) -> Option<Ipv4Addr> {
        let holder = (mac, index);
        let reserved = subnet.reservation(mac).map(|reservation| reservation.address);
        let before = [self.bound.get(&holder), self.offered.get(&holder)].map(Option::<&_>::copied);
        let favourite =
            [reserved].into_iter().chain(before).chain([wanted]).flatten().find(|&address| {
                address != own && subnet.is_for(address, mac) && self.is_free(now, address, mac)
            });
        let address = favourite.or_else(|| self.search(now, subnet, mac, own))?;
        if self.has(now, mac, address) {
            return Some(address);
        }
        self.withdraw(mac, index);
        self.put(
            address,
            Entry {
                holder: Some(holder),
                state: State::Offered,
                until: now + OFFER_HELD,
                hostname: String::new(),
            },
        );
        Some(address)
    }

    /// Whether the machine may have the address now.
    pub(super) fn is_free(&self, now: SystemTime, address: Ipv4Addr, mac: MacAddr) -> bool {
        self.entries
            .get(&address)
            .is_none_or(|entry| entry.until <= now || entry.holder.is_some_and(|(of, _)| of == mac))
    }

    /// Whether the machine has a lease of the address that runs.
    pub(super) fn has(&self, now: SystemTime, mac: MacAddr, address: Ipv4Addr) -> bool {
        self.entries.get(&address).is_some_and(|entry| {
            entry.state == State::Bound
                && entry.until > now
                && entry.holder.is_some_and(|(of, _)| of == mac)
        })
    }

    /// The address that the machine has or had last in a subnet.
    pub(super) fn last(&self, mac: MacAddr, index: usize) -> Option<Ipv4Addr> {
        self.bound.get(&(mac, index)).copied()
    }

    /// Leases the address to the machine, and frees what it had in the same subnet.
    pub(super) fn bind(
        &mut self,
        now: SystemTime,
        (index, subnet): (usize, &Subnet),
        mac: MacAddr,
        address: Ipv4Addr,
        hostname: String,
    ) -> Vec<LeaseChange> {
        let mut changes = Vec::new();
        self.withdraw(mac, index);
        if let Some(before) = self.last(mac, index).filter(|&before| before != address) {
            self.forget(before);
            changes.push(LeaseChange::Freed(before));
        }
        let expires_at = now + subnet.lease();
        self.put(
            address,
            Entry {
                holder: Some((mac, index)),
                state: State::Bound,
                until: expires_at,
                hostname: hostname.clone(),
            },
        );
        changes.push(LeaseChange::Bound(Lease { address, mac, expires_at, hostname }));
        changes
    }

    /// Lets go of what was offered to the machine.
    pub(super) fn withdraw(&mut self, mac: MacAddr, index: usize) {
        if let Some(&address) = self.offered.get(&(mac, index)) {
            self.forget(address);
        }
    }

    /// The machine gave its address back. It gets the same again where nobody else has taken it.
    pub(super) fn release(&mut self, address: Ipv4Addr) -> Vec<LeaseChange> {
        self.expire(address);
        vec![LeaseChange::Freed(address)]
    }

    /// The machine found its address in use by somebody else.
    pub(super) fn decline(&mut self, now: SystemTime, address: Ipv4Addr) -> Vec<LeaseChange> {
        let until = now + DECLINED_RESTS;
        self.rest(address, until);
        vec![LeaseChange::Declined { address, until }]
    }

    /// An address that was never used, else one that is free again. The search starts where the machine's MAC says, so that
    /// it finds the same address even if every record was lost.
    fn search(
        &self,
        now: SystemTime,
        subnet: &Subnet,
        mac: MacAddr,
        own: Ipv4Addr,
    ) -> Option<Ipv4Addr> {
        let range = subnet.range()?;
        let (first, last) = (*range.start(), *range.end());
        let start = first + spread(mac) % (last - first + 1);
        let around = || (start..=last).chain(first..start).map(Ipv4Addr::from);
        let usable = |address: &Ipv4Addr| *address != own && subnet.is_for(*address, mac);
        around()
            .filter(usable)
            .find(|address| !self.entries.contains_key(address))
            .or_else(|| around().filter(usable).find(|&address| self.is_free(now, address, mac)))
    }

    /// The one way in for an entry: whoever held the address before is forgotten, so that the maps never outgrow the addresses.
    fn put(&mut self, address: Ipv4Addr, entry: Entry) {
        self.forget(address);
        if let Some(holder) = entry.holder {
            let map = match entry.state {
                State::Offered => &mut self.offered,
                State::Bound | State::Declined => &mut self.bound,
            };
            map.insert(holder, address);
        }
        self.entries.insert(address, entry);
    }

    fn forget(&mut self, address: Ipv4Addr) {
        if let Some(holder) = self.entries.remove(&address).and_then(|entry| entry.holder) {
            for map in [&mut self.bound, &mut self.offered] {
                if map.get(&holder) == Some(&address) {
                    map.remove(&holder);
                }
            }
        }
    }

    fn expire(&mut self, address: Ipv4Addr) {
        if let Some(entry) = self.entries.get_mut(&address)
            && entry.state == State::Bound
        {
            entry.until = SystemTime::UNIX_EPOCH;
        }
    }

    fn rest(&mut self, address: Ipv4Addr, until: SystemTime) {
        let entry = Entry { holder: None, state: State::Declined, until, hostname: String::new() };
        self.put(address, entry);
    }
}

/// FNV-1a over the MAC address.
fn spread(mac: MacAddr) -> u32 {
    mac.bytes()
        .iter()
        .fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
