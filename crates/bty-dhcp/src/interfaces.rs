//! Our own interfaces and addresses, as they are now: a cable that is plugged in later is served without a restart.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use bty_types::MacAddr;
use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::{InterfaceFlags, if_nametoindex},
};

/// How old the table may be when a packet comes.
const FRESH: Duration = Duration::from_secs(1);

/// An interface that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: Arc<str>,
    /// Its IPv4 addresses with the lengths of their prefixes, in the kernel's order.
    pub(crate) addresses: Vec<(Ipv4Addr, u8)>,
    /// Its card; `None` where it is none of Ethernet.
    mac: Option<MacAddr>,
}

/// The interfaces that are served, by index.
#[derive(Debug)]
pub(crate) struct Interfaces {
    /// Empty for all but loopback.
    wanted: Vec<String>,
    table: HashMap<u32, Interface>,
    read_at: Option<Instant>,
}

impl Interfaces {
    pub(crate) fn new(wanted: Vec<String>) -> Self {
        Self { wanted, table: HashMap::new(), read_at: None }
    }

    /// The interface of this index; `None` where it is not served or has no address.
    pub(crate) fn get(&mut self, index: u32) -> Option<&Interface> {
        self.refresh();
        self.table.get(&index)
    }

    /// One of our own addresses, with its prefix; `None` where it isn't ours.
    pub(crate) fn own(&self, address: Ipv4Addr) -> Option<(Ipv4Addr, u8)> {
        let mut all = self.table.values().flat_map(|interface| &interface.addresses);
        all.find(|(own, _)| *own == address).copied()
    }

    /// The cards that are served: index, first address, MAC address.
    pub(crate) fn cards(&mut self) -> Vec<(u32, Ipv4Addr, MacAddr)> {
        self.refresh();
        let card = |(&index, interface): (&u32, &Interface)| {
            let (address, _) = interface.addresses.first()?;
            Some((index, *address, interface.mac?))
        };
        self.table.iter().filter_map(card).collect()
    }

    /// `eth0 (10.77.0.1)`, for the line of status.
    pub(crate) fn describe(&mut self) -> String {
        self.refresh();
        let mut shown: Vec<String> = self
            .table
            .values()
            .map(|interface| {
                let addresses: Vec<String> =
                    interface.addresses.iter().map(|(address, _)| address.to_string()).collect();
                format!("{} ({})", interface.name, addresses.join(", "))
            })
            .collect();
        shown.sort();
        if shown.is_empty() { "no interface yet".to_owned() } else { shown.join(", ") }
    }

    fn refresh(&mut self) {
        if self.read_at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        self.read_at = Some(Instant::now());
        let addresses = match getifaddrs() {
            Ok(addresses) => addresses,
            Err(problem) => {
                tracing::warn!(err = %problem, "reading our own addresses failed; the last known serve");
                return;
            }
        };
        let mut table: HashMap<u32, Interface> = HashMap::new();
        let mut cards: HashMap<u32, MacAddr> = HashMap::new();
        for entry in addresses {
            if let Some((index, mac)) = card(&entry) {
                cards.insert(index, mac);
            }
            if let Some((name, address)) = self.served(&entry)
                && let Ok(index) = if_nametoindex(name)
            {
                let new = || Interface { name: name.into(), addresses: Vec::new(), mac: None };
                table.entry(index).or_insert_with(new).addresses.push(address);
            }
        }
        for (index, interface) in &mut table {
            interface.mac = cards.remove(index);
        }
        if table != self.table {
            tracing::debug!(?table, "our addresses changed");
        }
        self.table = table;
    }

    fn served<'e>(&self, entry: &'e InterfaceAddress) -> Option<(&'e str, (Ipv4Addr, u8))> {
        // An alias is named `eth0:1`.
        let name = entry.interface_name.split(':').next()?;
        let is_wanted = if self.wanted.is_empty() {
            !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        } else {
            self.wanted.iter().any(|wanted| wanted == name)
        };
        let address = entry.address.as_ref()?.as_sockaddr_in()?.ip();
        let mask = entry.netmask.as_ref()?.as_sockaddr_in()?.ip();
        let prefix = u8::try_from(u32::from(mask).leading_ones()).ok()?;
        (is_wanted && entry.flags.contains(InterfaceFlags::IFF_UP))
            .then_some((name, (address, prefix)))
    }
}

fn card(entry: &InterfaceAddress) -> Option<(u32, MacAddr)> {
    let link = entry.address.as_ref()?.as_link_addr()?;
    Some((u32::try_from(link.ifindex()).ok()?, MacAddr::new(link.addr()?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_served_only_when_it_is_named() {
        let loopback = if_nametoindex("lo").unwrap();
        let mut all = Interfaces::new(Vec::new());
        assert_eq!(all.get(loopback), None);
        let mut named = Interfaces::new(vec!["lo".into()]);
        let interface = named.get(loopback).unwrap();
        assert_eq!(&*interface.name, "lo");
        assert!(interface.addresses.contains(&(Ipv4Addr::LOCALHOST, 8)));
        assert_eq!(named.own(Ipv4Addr::LOCALHOST), Some((Ipv4Addr::LOCALHOST, 8)));
        assert!(named.describe().starts_with("lo (127.0.0.1"));
    }
}
