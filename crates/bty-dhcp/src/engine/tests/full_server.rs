//! The states of a lease (RFC 2131 §4.3 and §4.4).

use std::net::Ipv4Addr;

use super::packets::*;
use crate::engine::*;

const fn lan(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host)
}

fn selecting(address: Ipv4Addr) -> Packet {
    Packet::request().with(54, SERVER.octets()).with(50, address.octets())
}

fn lease(server: &mut Server, last: u8) -> Ipv4Addr {
    let offered = server.ask(&Packet::discover().of(mac(last)));
    let acked = server.ask(&selecting(offered.yiaddr).of(mac(last)));
    assert_eq!((offered.message(), acked.message()), (2, 5));
    assert_eq!(offered.yiaddr, acked.yiaddr);
    acked.yiaddr
}

fn bound(server: &Server) -> Vec<(Ipv4Addr, u8)> {
    let leases = server.engine.leases(server.now);
    leases.iter().map(|(lease, _)| (lease.address, lease.mac.bytes()[5])).collect()
}

#[test]
fn a_lease_has_what_the_network_is_like() {
    let mut server = Server::new(Mode::Full);
    let offered = server.ask(&Packet::discover());
    let outcome = server.send(&selecting(offered.yiaddr).with(12, "node\u{7}7"));
    let acked = Read::new(&outcome.reply.unwrap().bytes);
    assert_eq!(acked.options[&1], [255, 255, 255, 0]);
    assert_eq!(acked.options[&3], [10, 77, 0, 254]);
    assert_eq!(acked.options[&6], [10, 77, 0, 53]);
    assert_eq!(acked.options[&51], 3600_u32.to_be_bytes());
    assert_eq!(acked.options[&58], 1800_u32.to_be_bytes());
    assert_eq!(acked.options[&59], 3150_u32.to_be_bytes());
    let lease = Lease {
        address: acked.yiaddr,
        mac: mac(1),
        expires_at: server.now + std::time::Duration::from_hours(1),
        hostname: "node7".to_owned(),
    };
    assert_eq!(outcome.changes, [LeaseChange::Bound(lease.clone())]);
    assert_eq!(server.engine.leases(server.now), [(lease, false)]);
}

#[test]
fn a_machine_keeps_its_address_whatever_client_identifier_it_sends() {
    let mut server = Server::new(Mode::Full);
    let address = lease(&mut server, 1);
    for id in [b"\x00uuid".as_slice(), b"\x01\x52\x54\x00\x77\x00\x01", b"\xff\x00duid"] {
        let read = server.ask(&Packet::discover().with(61, id));
        assert_eq!((read.yiaddr, read.options[&61].as_slice()), (address, id));
    }
    server.after(7200);
    assert_eq!(server.ask(&Packet::discover()).yiaddr, address, "even after it expired");
}

#[test]
fn an_offer_is_held_for_its_machine_and_then_let_go() {
    let mut server = Server::new(Mode::Full);
    let addresses: Vec<_> =
        (1..=4).map(|last| server.ask(&Packet::discover().of(mac(last))).yiaddr).collect();
    let mut distinct = addresses.clone();
    distinct.sort();
    assert_eq!(distinct, [lan(100), lan(101), lan(102), lan(103)]);
    let fifth = Packet::discover().of(mac(5));
    assert_eq!(server.silence(&fifth), Silence::Exhausted("10.77.0.0/24".to_owned()));
    assert_eq!(server.ask(&Packet::discover().of(mac(2))).yiaddr, addresses[1]);
    server.after(61);
    assert!(distinct.contains(&server.ask(&fifth).yiaddr));
}

#[test]
fn a_wanted_address_is_given_where_it_is_free() {
    let mut server = Server::new(Mode::Full);
    let wanting =
        |last, address: Ipv4Addr| Packet::discover().of(mac(last)).with(50, address.octets());
    assert_eq!(server.ask(&wanting(1, lan(102))).yiaddr, lan(102));
    assert_ne!(server.ask(&wanting(2, lan(102))).yiaddr, lan(102));
    for never in [lan(50), lan(1), lan(200), Ipv4Addr::new(10, 9, 9, 9)] {
        let got = server.ask(&wanting(3, never)).yiaddr;
        assert!((lan(100)..=lan(103)).contains(&got), "{got}");
    }
}

#[test]
fn a_reservation_is_its_machines_and_nobody_elses() {
    let mut server = Server::new(Mode::Full);
    let read = server.ask(&Packet::discover().of(mac(0x50)));
    assert_eq!((read.yiaddr, read.options[&12].as_slice()), (lan(50), b"fifty".as_slice()));
    let other = server.ask(&selecting(lan(50)).of(mac(1)));
    assert_eq!(other.message(), 6);
    assert_eq!(lease(&mut server, 0x50), lan(50));
    assert!(server.engine.leases(server.now)[0].1, "it is shown as reserved");
}

#[test]
fn selecting_another_servers_offer_frees_ours_and_stays_unanswered() {
    let mut server = Server::new(Mode::Full);
    for last in 1..=4 {
        server.ask(&Packet::discover().of(mac(last)));
    }
    let elsewhere = Packet::request().with(54, [10, 77, 0, 2]).with(50, [10, 77, 0, 9]);
    assert_eq!(server.silence(&elsewhere), Silence::OtherServer(lan(2)));
    assert!(server.send(&Packet::discover().of(mac(5))).reply.is_some());
}

#[test]
fn selecting_what_is_not_to_be_had_is_refused() {
    let mut server = Server::new(Mode::Full);
    let first = lease(&mut server, 1);
    for address in [first, lan(1), lan(99), lan(255), Ipv4Addr::new(192, 168, 1, 1)] {
        let outcome = server.send(&selecting(address).of(mac(2)));
        let reply = outcome.reply.unwrap();
        let read = Read::new(&reply.bytes);
        assert_eq!(read.message(), 6, "{address}");
        assert_eq!(reply.destination.to_string(), "255.255.255.255:68");
        assert_eq!((read.yiaddr, read.siaddr), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED));
        assert_eq!(read.flags & 0x8000, 0x8000);
        for option in [1, 3, 51, 67, 97] {
            assert!(!read.options.contains_key(&option), "option {option} in a NAK");
        }
        assert!(outcome.changes.is_empty());
    }
    assert_eq!(
        server.silence(&Packet::request().with(54, SERVER.octets())),
        Silence::NoAddressAsked
    );
}

#[test]
fn selecting_after_a_restart_that_lost_the_offer_is_confirmed() {
    let offered = Server::new(Mode::Full).ask(&Packet::discover()).yiaddr;
    assert_eq!(Server::new(Mode::Full).ask(&selecting(offered)).message(), 5);
}

#[test]
fn init_reboot_is_confirmed_refused_or_left_to_others() {
    let reboot = |address: Ipv4Addr| Packet::request().with(50, address.octets());
    let mut server = Server::new(Mode::Full);
    let address = lease(&mut server, 1);
    assert_eq!(server.ask(&reboot(address)).message(), 5);
    let other = (100..=103).map(lan).find(|&other| other != address).unwrap();
    assert_eq!(server.ask(&reboot(other)).message(), 6, "not the address it has");
    assert_eq!(bound(&server), [(address, 1)]);
    assert_eq!(server.ask(&reboot(Ipv4Addr::new(192, 168, 1, 1))).message(), 6, "wrong network");
    let stranger = reboot(lan(103)).of(mac(9));
    assert_eq!(server.silence(&stranger), Silence::UnknownLease(lan(103)));
}

#[test]
fn renewing_extends_by_unicast_and_rebinding_refuses_what_another_has() {
    let mut server = Server::new(Mode::Full);
    let address = lease(&mut server, 1);
    server.after(1800);
    let outcome = server.send(&Packet::request().holding(address));
    let reply = outcome.reply.unwrap();
    assert_eq!(reply.destination.to_string(), format!("{address}:68"));
    let read = Read::new(&reply.bytes);
    assert_eq!((read.message(), read.yiaddr, read.ciaddr), (5, address, address));
    assert_eq!(outcome.changes.len(), 1);
    server.after(3000);
    assert_eq!(bound(&server), [(address, 1)]);
    let thief = server.send(&Packet::request().holding(address).of(mac(2)));
    let thief = thief.reply.unwrap();
    assert_eq!(Read::new(&thief.bytes).message(), 6);
    assert_eq!(thief.destination.to_string(), "255.255.255.255:68", "a NAK goes out by broadcast");
    let foreign = Ipv4Addr::new(192, 168, 1, 1);
    assert_eq!(server.silence(&Packet::request().holding(foreign)), Silence::UnknownLease(foreign));
}

#[test]
fn a_declined_address_rests_and_a_released_one_is_free() {
    let mut server = Server::new(Mode::Full);
    let address = lease(&mut server, 1);
    let decline = Packet::new(4).with(54, SERVER.octets()).with(50, address.octets());
    let stranger = decline.clone().of(mac(2));
    assert_eq!(server.silence(&stranger), Silence::NotItsAddress(address));
    assert_eq!(server.silence(&decline), Silence::Declined(address));
    assert_ne!(server.ask(&Packet::discover().with(50, address.octets())).yiaddr, address);
    server.after(601);
    let again = server.ask(&Packet::discover().of(mac(7)).with(50, address.octets()));
    assert_eq!(again.yiaddr, address, "it has rested");

    let second = lease(&mut server, 2);
    assert_eq!(
        server.silence(&Packet::new(7).of(mac(3)).holding(second)),
        Silence::NotItsAddress(second)
    );
    assert_eq!(
        server.silence(&Packet::new(7).of(mac(2)).holding(second)),
        Silence::Released(second)
    );
    assert_eq!(bound(&server), []);
    let taken = server.ask(&Packet::discover().of(mac(9)).with(50, second.octets()));
    assert_eq!(taken.yiaddr, second);
}

#[test]
fn inform_gets_options_and_no_lease() {
    let mut server = Server::new(Mode::Full);
    let outcome = server.send(&Packet::new(8).holding(lan(30)));
    let reply = outcome.reply.unwrap();
    let read = Read::new(&reply.bytes);
    assert_eq!(reply.destination.to_string(), "10.77.0.30:68");
    assert_eq!((read.message(), read.yiaddr), (5, Ipv4Addr::UNSPECIFIED));
    assert_eq!(read.options[&6], [10, 77, 0, 53]);
    assert!(!read.options.contains_key(&51));
    assert!(outcome.changes.is_empty());
}

#[test]
fn a_relayed_client_gets_an_address_of_its_own_network() {
    let mut server = Server::new(Mode::Full);
    let outcome = server.send(&Packet::discover().pxe(7).relayed());
    let reply = outcome.reply.unwrap();
    assert_eq!((reply.destination.to_string().as_str(), reply.interface), ("10.88.0.254:67", None));
    let read = Read::new(&reply.bytes);
    assert_eq!(read.yiaddr.octets()[..3], [10, 88, 0]);
    assert_eq!(read.options[&3], RELAY.octets());
    assert_eq!((read.siaddr, read.file.as_str()), (SERVER, "x64/snponly.efi"));
    let wrong = Packet::request().with(50, [10, 77, 0, 100]).relayed();
    let nak = server.ask(&wrong);
    assert_eq!((nak.message(), nak.flags), (6, 0x8000), "the relay must broadcast a NAK");
    let unknown = Packet { giaddr: Ipv4Addr::new(10, 99, 0, 1), ..Packet::discover() };
    assert_eq!(server.silence(&unknown), Silence::NoSubnet);
    // It renews by unicast, past the relay.
    let acked = server.ask(&selecting(read.yiaddr).relayed());
    let renewed = server.ask(&Packet::request().holding(acked.yiaddr));
    assert_eq!((renewed.message(), renewed.yiaddr), (5, acked.yiaddr));
}

#[test]
fn an_interface_without_a_subnet_is_not_served() {
    let mut server = Server::new(Mode::Full);
    let mut elsewhere = ingress(ServerPort::Dhcp, "0.0.0.0:68".parse().unwrap());
    elsewhere.interface = "eth1".into();
    let outcome = server.send_bytes(&elsewhere, &Packet::discover().pxe(7).bytes());
    assert_eq!(silence(outcome), Silence::NoSubnet);
}

#[test]
fn leases_survive_a_restart_and_those_of_addresses_no_more_configured_are_dropped() {
    let mut server = Server::new(Mode::Full);
    let first = lease(&mut server, 1);
    let second = lease(&mut server, 2);
    server.send(&Packet::new(4).of(mac(2)).with(50, second.octets()));
    let gone = LeaseChange::Bound(Lease {
        address: lan(200),
        mac: mac(3),
        expires_at: server.now + std::time::Duration::from_mins(1),
        hostname: String::new(),
    });
    let mut changes = server.engine.lease_changes(server.now);
    assert_eq!(changes.len(), 2);
    changes.push(gone);
    let rules = Rules { mode: Mode::Full, files: BootFiles::default(), subnets: subnets() };
    server.engine = Engine::new(server.now, rules, changes);
    assert_eq!(bound(&server), [(first, 1)]);
    assert_eq!(server.ask(&Packet::discover()).yiaddr, first);
    assert_ne!(server.ask(&Packet::discover().of(mac(2))).yiaddr, second, "it still rests");
}

#[test]
fn a_clock_that_starts_too_early_makes_no_lease_last_for_years() {
    let mut server = Server::new(Mode::Full);
    let address = lease(&mut server, 1);
    let changes = server.engine.lease_changes(server.now);
    let rules = Rules { mode: Mode::Full, files: BootFiles::default(), subnets: subnets() };
    server.now -= std::time::Duration::from_hours(24 * 365);
    server.engine = Engine::new(server.now, rules, changes);
    assert_eq!(bound(&server), [(address, 1)]);
    server.after(24 * 3600);
    assert_eq!(bound(&server), []);
}

#[test]
fn the_server_never_gives_its_own_address_away() {
    let text = SubnetText {
        interface: "eth0".into(),
        network: "10.77.0.0/24".into(),
        range: Some((lan(1), lan(2))),
        lease_seconds: 60,
        ..SubnetText::default()
    };
    let rules =
        Rules { mode: Mode::Full, subnets: vec![text.parse().unwrap()], ..Rules::default() };
    let mut server = Server::new(Mode::Full);
    server.engine = Engine::new(server.now, rules, []);
    assert_eq!(server.ask(&Packet::discover().with(50, SERVER.octets())).yiaddr, lan(2));
    assert!(matches!(server.silence(&Packet::discover().of(mac(2))), Silence::Exhausted(_)));
}
