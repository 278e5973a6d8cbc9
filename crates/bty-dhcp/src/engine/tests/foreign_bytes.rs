//! Whatever comes from the LAN: no panic, bounded work, an answer or a reason.

use std::net::SocketAddrV4;

use bty_types::MacAddr;
use proptest::prelude::*;

use super::packets::*;
use crate::engine::*;

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Proxy), Just(Mode::Full), Just(Mode::Off)]
}

fn ports() -> impl Strategy<Value = ServerPort> {
    prop_oneof![Just(ServerPort::Dhcp), Just(ServerPort::Pxe)]
}

fn judge(server: &mut Server, port: ServerPort, source: u32, bytes: &[u8]) {
    let source = SocketAddrV4::new(source.into(), 68);
    let outcome = server.send_bytes(&ingress(port, source), bytes);
    assert_eq!(
        outcome.reply.is_some(),
        matches!(outcome.record.verdict, Verdict::Answered(_)),
        "a reply and its record belong together"
    );
    assert!(!outcome.record.verdict.reason().is_empty());
    if let Some(reply) = outcome.reply {
        assert!((300..=1472).contains(&reply.bytes.len()));
        let again = server.send_bytes(&ingress(port, source), &reply.bytes);
        assert_eq!(again.reply, None, "our own answer, heard again, is not answered");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered_or_not(
        mode in modes(), port in ports(), source: u32,
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        judge(&mut Server::new(mode), port, source, &bytes);
    }

    #[test]
    fn any_options_are_answered_or_not(
        mode in modes(), port in ports(), source: u32, ciaddr: u32, giaddr: u32, message in 0_u8..12,
        options in prop::collection::vec(
            (prop_oneof![Just(43_u8), Just(50), Just(54), Just(57), Just(60), Just(61), Just(77),
                Just(82), Just(93), Just(97), Just(175), any::<u8>()],
             prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut packet = Packet::new(message);
        packet.ciaddr = ciaddr.into();
        packet.giaddr = giaddr.into();
        packet.options.extend(options.into_iter().filter(|(code, _)| !matches!(code, 0 | 255)));
        let mut bytes = packet.bytes();
        bytes.pop();
        bytes.extend(tail);
        judge(&mut Server::new(mode), port, source, &bytes);
    }

    #[test]
    fn any_flipped_or_cut_packet_is_answered_or_not(
        mode in modes(), port in ports(), at in 0_usize..400, to: u8, length in 0_usize..400,
    ) {
        let mut bytes = Packet::discover().pxe(7).with(77, b"\x04iPXE").with(175, IPXE_FEATURES)
            .relayed().bytes();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        bytes.truncate(length);
        judge(&mut Server::new(mode), port, 0, &bytes);
    }
}

fn malformed(bytes: &[u8]) -> Malformed {
    let source = SocketAddrV4::new(0.into(), 68);
    let outcome = Server::new(Mode::Proxy).send_bytes(&ingress(ServerPort::Dhcp, source), bytes);
    match silence(outcome) {
        Silence::Malformed(malformed) => malformed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_a_dhcp_message_is_named() {
    let good = Packet::discover().pxe(7).bytes();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    assert_eq!(malformed(&[]), Malformed::TooShort);
    assert_eq!(malformed(&good[..239]), Malformed::TooShort);
    assert_eq!(malformed(&vec![1; 5000]), Malformed::TooLong);
    assert_eq!(malformed(&changed(236, 0)), Malformed::Cookie);
    assert_eq!(malformed(&changed(0, 3)), Malformed::Op);
    assert_eq!(malformed(&changed(2, 200)), Malformed::HardwareAddress);
    assert_eq!(malformed(&changed(28, 0xff)), Malformed::HardwareAddress);
}

#[test]
fn a_broken_option_hides_nothing_it_makes_the_message_malformed() {
    // dhcproto ends silently at such an option, and what follows is lost.
    let mut bytes = Packet::discover().bytes();
    bytes.pop();
    bytes.extend([51, 200, 1]);
    assert_eq!(malformed(&bytes), Malformed::OptionBeyondEnd { code: 51 });
    let wrong = |code, value: &[u8]| malformed(&Packet::discover().with(code, value).bytes());
    assert_eq!(wrong(50, &[1, 2, 3]), Malformed::OptionLength { code: 50 });
    assert_eq!(wrong(54, &[1; 5]), Malformed::OptionLength { code: 54 });
    assert_eq!(wrong(53, &[1]), Malformed::OptionLength { code: 53 }, "two message types");
    // One that no decision hangs on, of a wrong length, is passed over.
    let odd = Packet::discover().with(51, [1, 2, 3]).with(57, [1]).pxe(7);
    assert!(Server::new(Mode::Proxy).send(&odd).reply.is_some());
}

#[test]
fn split_and_overloaded_options_are_read_whole() {
    // RFC 3396: the parts of an option are one, also with others between.
    let split = Packet::discover().with(60, "PXECl").with(93, [0, 7]).with(60, "ient");
    assert_eq!(Server::new(Mode::Proxy).ask(&split).file, "x64/snponly.efi");
    // RFC 2132 §9.3: options go on in `file`.
    let mut overloaded = Packet::discover().with(52, [1]).bytes();
    overloaded[108..114].copy_from_slice(&[93, 2, 0, 11, 255, 0]);
    let source = SocketAddrV4::new(0.into(), 68);
    let outcome =
        Server::new(Mode::Proxy).send_bytes(&ingress(ServerPort::Dhcp, source), &overloaded);
    assert_eq!(Read::new(&outcome.reply.unwrap().bytes).file, "arm64/snponly.efi");
}

#[test]
fn a_flood_of_new_machines_takes_bounded_memory_and_leaves_leases_alone() {
    let mut server = Server::new(Mode::Full);
    let held = server.ask(&Packet::discover().of(mac(1))).yiaddr;
    let request = Packet::request().of(mac(1)).with(54, SERVER.octets()).with(50, held.octets());
    server.ask(&request);
    let mut exhausted = 0;
    for number in 0..3_000_u32 {
        let [_, high, middle, low] = number.to_be_bytes();
        let card = MacAddr::new([2, 0, 0, high, middle, low]).unwrap();
        let outcome = server.send(&Packet::discover().pxe(7).of(card));
        exhausted += u32::from(outcome.reply.is_none());
    }
    assert_eq!(exhausted, 3_000 - 3, "a range of four, one of them leased");
    let renewed = server.ask(&Packet::request().of(mac(1)).holding(held));
    assert_eq!((renewed.message(), renewed.yiaddr), (5, held));
}
