//! Which machine an address belongs to, as the kernel's neighbour table has it.
//!
//! A token is bound to the address that iPXE had. The live system asks for a lease of its own, and some DHCP servers give it
//! another address; then the neighbour table says whether it is the same machine.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use bty_types::MacAddr;

/// Whether the neighbour table says that `address` is `mac`. Only on the same segment; behind a relay it can't say.
pub(crate) fn confirms(address: IpAddr, mac: MacAddr) -> bool {
    let IpAddr::V4(address) = address.to_canonical() else { return false };
    fs::read_to_string("/proc/net/arp").is_ok_and(|table| owner(&table, address) == Some(mac))
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

    const TABLE: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.77.0.50       0x1         0x2         52:54:00:77:00:01     *        eth0
10.77.0.51       0x1         0x0         00:00:00:00:00:00     *        eth0
";

    #[test]
    fn finds_the_owner_of_an_address() {
        let mac = "52:54:00:77:00:01".parse().ok();
        assert_eq!(owner(TABLE, Ipv4Addr::new(10, 77, 0, 50)), mac);
    }

    #[test]
    fn an_unfinished_entry_belongs_to_nobody() {
        assert_eq!(owner(TABLE, Ipv4Addr::new(10, 77, 0, 51)), None);
        assert_eq!(owner(TABLE, Ipv4Addr::new(10, 77, 0, 52)), None);
        assert_eq!(owner("", Ipv4Addr::LOCALHOST), None);
    }
}
