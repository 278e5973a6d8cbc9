//! Which machine an address belongs to, as the kernel's neighbour table has it: neither TFTP nor HTTP knows MAC addresses.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use bty_types::MacAddr;

/// The machine that has this address now; `None` where it is behind a relay or a router, or isn't IPv4. Reads a file of the
/// kernel.
pub fn machine_at(address: IpAddr) -> Option<MacAddr> {
    let IpAddr::V4(address) = address.to_canonical() else { return None };
    owner(&fs::read_to_string("/proc/net/arp").ok()?, address)
}

/// The owner of an address in the text of `/proc/net/arp` (arp(7)): columns address, hardware type, flags, MAC, mask, device.
fn owner(table: &str, address: Ipv4Addr) -> Option<MacAddr> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let found: Ipv4Addr = columns.next()?.parse().ok()?;
        let mac = columns.nth(2)?.parse().ok()?;
        (found == address).then_some(mac)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_an_address_is_found() {
        let table = "\
IP address       HW type     Flags       HW address            Mask     Device
10.77.0.50       0x1         0x2         52:54:00:77:00:01     *        eth0
10.77.0.51       0x1         0x0         00:00:00:00:00:00     *        eth0
";
        let mac = "52:54:00:77:00:01".parse().ok();
        assert_eq!(owner(table, Ipv4Addr::new(10, 77, 0, 50)), mac);
        assert_eq!(owner(table, Ipv4Addr::new(10, 77, 0, 51)), None, "an unfinished entry");
        assert_eq!(owner(table, Ipv4Addr::new(10, 77, 0, 52)), None);
        assert_eq!(owner("", Ipv4Addr::LOCALHOST), None);
    }
}
