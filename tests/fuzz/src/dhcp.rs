//! DHCP: a conversation of any datagrams with any of the three modes.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, SystemTime},
};

use bty_dhcp::engine::{
    BootFiles, Directory, Engine, Ingress, Mode, Overheard, Rules, ServerPort, Subnet, SubnetText,
    Verdict,
};

/// The most that is sent in one conversation.
const MOST_DATAGRAMS: usize = 64;

/// The first byte chooses the mode and the port, then datagrams follow.
pub(crate) fn datagrams(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let mode = match choice & 3 {
        0 => Mode::Proxy,
        1 => Mode::Off,
        _ => Mode::Full,
    };
    let port = if choice & 0x80 == 0 { ServerPort::Dhcp } else { ServerPort::Pxe };
    let rules =
        Rules { mode, files: BootFiles::default(), subnets: subnet().into_iter().collect() };
    let mut now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let mut engine = Engine::new(now, rules, []);
    let directory = Directory::default();
    let ingress = Ingress {
        port,
        index: 1,
        interface: "eth0".into(),
        address: Ipv4Addr::new(10, 77, 0, 1),
        prefix: 24,
        source: SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 101), 68),
    };
    // What other servers say is read from whole packets.
    if let Some(heard) = Overheard::in_packet(rest) {
        assert!(heard.boot_file.len() <= 64, "a boot file of {} bytes", heard.boot_file.len());
        assert!(heard.boots || heard.boot_file.is_empty(), "a boot file of nobody");
    }
    for datagram in crate::pieces(rest).take(MOST_DATAGRAMS) {
        now += Duration::from_millis(700);
        let outcome = engine.handle(now, &ingress, datagram, &directory);
        let is_answered = matches!(outcome.record.verdict, Verdict::Answered(_));
        assert_eq!(outcome.reply.is_some(), is_answered, "a reply and its record belong together");
        assert!(!outcome.record.verdict.reason().is_empty(), "a decision without a reason");
        let Some(reply) = outcome.reply else { continue };
        assert_ne!(mode, Mode::Off, "a server that is off answers");
        assert!(
            (300..=1472).contains(&reply.bytes.len()),
            "an answer of {} bytes",
            reply.bytes.len()
        );
        let echo = engine.handle(now, &ingress, &reply.bytes, &directory);
        assert!(echo.reply.is_none(), "our own answer, heard again, is answered");
    }
}

fn subnet() -> Option<Subnet> {
    let text = SubnetText {
        interface: "eth0".into(),
        network: "10.77.0.0/24".into(),
        range: Some((Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 103))),
        lease_seconds: 3600,
        ..SubnetText::default()
    };
    text.parse().ok()
}
