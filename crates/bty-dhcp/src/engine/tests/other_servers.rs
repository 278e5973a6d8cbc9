//! Other servers: what their packets say of them, and what is said of them to a person.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use super::packets::*;
use crate::engine::*;

const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

/// A server's message as the network carries it, from this address and port.
fn carried(message: &Packet, from: Ipv4Addr, port: u16, yiaddr: [u8; 4]) -> Vec<u8> {
    let mut datagram = message.bytes();
    datagram[0] = 2;
    datagram[16..20].copy_from_slice(&yiaddr);
    let udp_length = u16::try_from(datagram.len() + 8).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend((udp_length + 20).to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(from.octets());
    packet.extend([255; 4]);
    packet.extend(port.to_be_bytes());
    packet.extend(68_u16.to_be_bytes());
    packet.extend(udp_length.to_be_bytes());
    packet.extend([0; 2]);
    packet.extend(datagram);
    packet
}

fn overheard(server: Ipv4Addr, leases: bool, boot_file: Option<&str>) -> Overheard {
    let boots = boot_file.is_some();
    Overheard { server, leases, boots, boot_file: boot_file.unwrap_or_default().to_owned() }
}

#[test]
fn a_servers_packet_says_what_it_does() {
    let offer = || Packet::new(2).with(54, STRANGER.octets());
    let (given, none) = ([10, 77, 0, 120], [0; 4]);
    for (what, message, port, yiaddr, want) in [
        ("a lease", offer(), 67, given, overheard(STRANGER, true, None)),
        (
            "a lease with a file",
            offer().with(67, "x.efi\0"),
            67,
            given,
            overheard(STRANGER, true, Some("x.efi")),
        ),
        (
            "a proxy that sends to port 4011",
            offer().with(60, "PXEClient"),
            67,
            none,
            overheard(STRANGER, false, Some("")),
        ),
        (
            "a proxy's answer there",
            Packet::new(5).with(67, "y.0"),
            4011,
            none,
            overheard(STRANGER, false, Some("y.0")),
        ),
        (
            "a refusal",
            Packet::new(6).with(54, STRANGER.octets()),
            67,
            none,
            overheard(STRANGER, false, None),
        ),
    ] {
        let packet = carried(&message, STRANGER, port, yiaddr);
        assert_eq!(Overheard::in_packet(&packet), Some(want), "{what}");
    }
}

#[test]
fn options_in_the_place_of_a_files_name_are_no_file() {
    const FILE: usize = 28 + 108;
    let options = b"\x0f\x0bexample.com\xff";
    for (overload, boots) in [(1, false), (2, true), (3, false)] {
        let offer = Packet::new(2).with(54, STRANGER.octets()).with(52, [overload]);
        let mut packet = carried(&offer, STRANGER, 67, [10, 77, 0, 120]);
        packet[FILE..FILE + options.len()].copy_from_slice(options);
        let heard = Overheard::in_packet(&packet).unwrap();
        assert_eq!((heard.leases, heard.boots), (true, boots), "overload {overload}");
    }
}

#[test]
fn what_is_no_servers_answer_is_passed_over() {
    let packet = carried(&Packet::new(2).with(54, STRANGER.octets()), STRANGER, 67, [0; 4]);
    let changed = |at: usize, byte: u8| {
        let mut packet = packet.clone();
        packet[at] = byte;
        Overheard::in_packet(&packet)
    };
    assert!(changed(1, 0).is_some());
    for (at, byte, what) in [
        (0, 0x65, "IPv6"),
        (0, 0x44, "a header that is too short"),
        (0, 0x4f, "a header that takes half of the message"),
        (6, 0x20, "more fragments"),
        (7, 1, "a later fragment"),
        (9, 6, "TCP"),
        (21, 68, "from another port"),
        (28, 1, "a client's message"),
        (24, 0xff, "longer than the packet"),
        (2, 0xff, "longer than what came"),
    ] {
        assert_eq!(changed(at, byte), None, "{what}");
    }
    for length in 0..packet.len() {
        assert_eq!(Overheard::in_packet(&packet[..length]), None, "{length} bytes");
    }
}

#[derive(Debug)]
struct Heard {
    servers: Servers,
    interface: Arc<str>,
    seconds: u64,
}

impl Heard {
    fn new(mode: Mode) -> Self {
        Self { servers: Servers::new(mode), interface: "eth0".into(), seconds: 0 }
    }

    /// What is said after so many seconds more: whether it is trouble, and the words.
    fn hear(&mut self, after: u64, heard: Overheard) -> Option<(bool, String)> {
        self.seconds += after;
        let now = start() + Duration::from_secs(self.seconds);
        let news = self.servers.hear(now, &self.interface, Some(mac(9)), heard)?;
        Some((news.is_trouble, news.message))
    }
}

#[test]
fn beside_a_proxy_one_server_gives_addresses_and_a_second_is_a_question() {
    let lans = Ipv4Addr::new(10, 77, 0, 2);
    let mut heard = Heard::new(Mode::Proxy);
    let said = heard.hear(0, overheard(lans, true, None)).unwrap();
    let words = "another DHCP server, 10.77.0.2 (52:54:00:77:00:09), gives addresses on eth0";
    assert_eq!(said, (false, words.to_owned()));
    assert_eq!(heard.hear(7200, overheard(lans, true, None)), None, "it is as it should be");
    let (is_trouble, said) = heard.hear(1, overheard(STRANGER, true, None)).unwrap();
    assert!(is_trouble && said.ends_with(", and so does 10.77.0.2: is one of them a stranger?"));
}

#[test]
fn who_says_where_to_boot_from_is_trouble_once_an_hour() {
    for mode in [Mode::Proxy, Mode::Full] {
        let mut heard = Heard::new(mode);
        let proxy = || overheard(STRANGER, false, Some("x.efi"));
        let (is_trouble, said) = heard.hear(0, proxy()).unwrap();
        assert!(is_trouble && said.contains("says where to boot from on eth0 (x.efi)"), "{said}");
        assert_eq!(heard.hear(1, proxy()), None);
        assert_eq!(heard.hear(3598, proxy()), None);
        assert!(heard.hear(1, proxy()).is_some());
        let (_, said) = heard.hear(1, overheard(STRANGER, true, None)).unwrap();
        assert!(said.contains("gives addresses and says where to boot from"), "{said}");
    }
    let mut heard = Heard::new(Mode::Full);
    let (is_trouble, _) = heard.hear(0, overheard(STRANGER, true, None)).unwrap();
    assert!(is_trouble, "a full server is the only one");
}

#[test]
fn what_a_server_says_itself_outweighs_what_clients_say_of_it() {
    let mut servers = Servers::new(Mode::Proxy);
    let mut hear = |card, heard| servers.hear(start(), &"eth0".into(), card, heard).is_some();
    assert!(hear(Some(mac(9)), overheard(STRANGER, false, Some("x.efi"))));
    assert!(!hear(None, overheard(STRANGER, true, None)), "a client took the proxy's offer");
    let unheard = Ipv4Addr::new(10, 77, 0, 4);
    assert!(hear(None, overheard(unheard, true, None)));
    assert!(hear(Some(mac(8)), overheard(unheard, false, Some("y.efi"))), "and it was no lease");
    let shown = servers.list(start());
    let shown: Vec<_> = shown.iter().map(|one| (one.address, one.leases, one.boots)).collect();
    assert_eq!(shown, [(STRANGER, false, true), (unheard, false, true)]);
}

#[test]
fn a_forger_of_servers_fills_neither_memory_nor_log() {
    let mut heard = Heard::new(Mode::Proxy);
    let forged = |number: u32| overheard(Ipv4Addr::from(0x0a01_0000 + number), false, Some("x"));
    let said = (0..10_000).filter(|&number| heard.hear(0, forged(number)).is_some()).count();
    assert_eq!(said, 40);
    let now = start();
    assert_eq!(heard.servers.list(now).len(), 64);
    assert!(heard.hear(3600, forged(1)).is_some(), "the next hour is open again");
    let later = now + Duration::from_hours(24 + 1);
    assert_eq!(heard.servers.list(later).len(), 0, "who is silent for a day is gone");
}

#[test]
fn our_question_is_a_discover_that_firmware_would_not_ask() {
    let probe = Probe { mac: mac(1), xid: XID };
    let bytes = probe.bytes();
    assert!(probe.is(&bytes) && !Probe { xid: 1, ..probe }.is(&bytes));
    assert_eq!(bytes.len(), 300);
    let record = Server::new(Mode::Proxy)
        .send_bytes(&ingress(ServerPort::Dhcp, "10.77.0.9:67".parse().unwrap()), &bytes)
        .record;
    let sender = record.sender.unwrap();
    assert_eq!((sender.client, sender.message), (Client::Plain, Some(Message::Discover)));
    let offer = Server::new(Mode::Full)
        .send_bytes(&ingress(ServerPort::Dhcp, "10.77.0.9:67".parse().unwrap()), &bytes)
        .reply
        .unwrap();
    assert_eq!(offer.destination.to_string(), "255.255.255.255:68");
    assert_eq!(Read::new(&offer.bytes).flags, 0x8000);
}
