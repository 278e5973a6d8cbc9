//! Packets that real clients sent (`fixtures/README.md`), and what they are told.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::packets::*;
use crate::engine::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn told(mode: Mode, port: ServerPort, hex: &str) -> Outcome {
    let source = match port {
        ServerPort::Dhcp => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        // OVMF asks from 4011 too.
        ServerPort::Pxe => SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 180), 4011),
    };
    Server::new(mode).send_bytes(&ingress(port, source), &bytes(hex))
}

const OVMF_PXE: &str = include_str!("../../../fixtures/ovmf-pxe-discover.hex");
const OVMF_4011: &str = include_str!("../../../fixtures/ovmf-pxe-4011-request.hex");
const OVMF_HTTP: &str = include_str!("../../../fixtures/ovmf-http-discover.hex");
const IPXE_EFI: &str = include_str!("../../../fixtures/ipxe-efi-discover.hex");
const IPXE_BIOS: &str = include_str!("../../../fixtures/ipxe-bios-discover.hex");
const AAVMF_PXE: &str = include_str!("../../../fixtures/aavmf-pxe-discover.hex");
const AAVMF_4011: &str = include_str!("../../../fixtures/aavmf-pxe-4011-request.hex");
const AAVMF_HTTP: &str = include_str!("../../../fixtures/aavmf-http-discover.hex");
const UDHCPC: &str = include_str!("../../../fixtures/udhcpc-discover.hex");
const UDHCPC_RELEASE: &str = include_str!("../../../fixtures/udhcpc-release.hex");

#[test]
fn real_clients_are_known_for_what_they_are() {
    let clients = [
        (OVMF_PXE, Client::FirmwarePxe, Some(7)),
        (OVMF_4011, Client::FirmwarePxe, Some(7)),
        (OVMF_HTTP, Client::FirmwareHttp, Some(16)),
        (AAVMF_PXE, Client::FirmwarePxe, Some(11)),
        (AAVMF_4011, Client::FirmwarePxe, Some(11)),
        (AAVMF_HTTP, Client::FirmwareHttp, Some(19)),
        (IPXE_EFI, Client::Ipxe, Some(7)),
        (IPXE_BIOS, Client::Ipxe, Some(0)),
        (UDHCPC, Client::Plain, None),
        (UDHCPC_RELEASE, Client::Plain, None),
    ];
    let uuid = [
        0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55,
        0x55,
    ];
    for (hex, client, architecture) in clients {
        let sender = told(Mode::Proxy, ServerPort::Dhcp, hex).record.sender.unwrap();
        assert_eq!(sender.client, client);
        assert_eq!(sender.architecture, architecture.map(Architecture), "{client:?}");
        // SMBIOS has the first three fields in little-endian order; these read the same both ways.
        assert_eq!(sender.uuid, (client != Client::Plain).then_some(uuid), "{client:?}");
    }
}

#[test]
fn real_firmware_is_told_its_boot_file() {
    let script = "http://10.77.0.1/boot.ipxe?via=pxe";
    for (hex, want) in [
        (OVMF_PXE, "x64/snponly.efi"),
        (OVMF_HTTP, "http://10.77.0.1/boot/x64/snponly.efi"),
        (AAVMF_PXE, "arm64/snponly.efi"),
        (AAVMF_HTTP, "http://10.77.0.1/boot/arm64/snponly.efi"),
        (IPXE_EFI, script),
        (IPXE_BIOS, script),
    ] {
        for mode in [Mode::Proxy, Mode::Full] {
            let reply = told(mode, ServerPort::Dhcp, hex).reply.expect(want);
            let name = reply.bytes.windows(want.len()).filter(|part| *part == want.as_bytes());
            assert_eq!(name.count(), 2, "{want} is in `file` and in option 67");
            assert_eq!(reply.destination.to_string(), "255.255.255.255:68");
        }
    }
    for (hex, want) in [(OVMF_4011, "x64/snponly.efi"), (AAVMF_4011, "arm64/snponly.efi")] {
        let reply = told(Mode::Proxy, ServerPort::Pxe, hex).reply.unwrap();
        assert_eq!(reply.destination.to_string(), "10.77.0.180:4011");
        assert!(reply.bytes.windows(want.len()).any(|part| part == want.as_bytes()));
    }
}

#[test]
fn udhcpc_gets_a_lease_from_a_full_server_and_nothing_from_a_proxy() {
    assert_eq!(silence(told(Mode::Proxy, ServerPort::Dhcp, UDHCPC)), Silence::PlainClient);
    let reply = told(Mode::Full, ServerPort::Dhcp, UDHCPC).reply.unwrap();
    assert_eq!(reply.bytes.len(), 300);
    let release = told(Mode::Full, ServerPort::Dhcp, UDHCPC_RELEASE);
    assert!(matches!(silence(release), Silence::NotItsAddress(_)));
}

/// What a client sent in the course of a lease, in order; what it doesn't do is missing.
#[derive(Debug)]
struct Course {
    client: &'static str,
    discover: &'static str,
    request: &'static str,
    renew: &'static str,
    rebind: &'static str,
    release: &'static str,
    decline: Option<&'static str>,
}

macro_rules! packet {
    ($name:literal) => {
        include_str!(concat!("../../../fixtures/", $name, ".hex"))
    };
}

const COURSES: [Course; 4] = [
    Course {
        client: "udhcpc",
        discover: UDHCPC,
        request: packet!("udhcpc-request"),
        renew: packet!("udhcpc-renew"),
        rebind: packet!("udhcpc-rebind"),
        release: UDHCPC_RELEASE,
        decline: Some(packet!("udhcpc-decline")),
    },
    Course {
        client: "dhclient",
        discover: packet!("dhclient-discover"),
        request: packet!("dhclient-request"),
        renew: packet!("dhclient-renew"),
        rebind: packet!("dhclient-rebind"),
        release: packet!("dhclient-release"),
        decline: Some(packet!("dhclient-decline")),
    },
    Course {
        client: "dhcpcd",
        discover: packet!("dhcpcd-discover"),
        request: packet!("dhcpcd-request"),
        renew: packet!("dhcpcd-renew"),
        rebind: packet!("dhcpcd-rebind"),
        release: packet!("dhcpcd-release"),
        decline: Some(packet!("dhcpcd-decline")),
    },
    Course {
        client: "systemd-networkd",
        discover: packet!("networkd-discover"),
        request: packet!("networkd-request"),
        renew: packet!("networkd-renew"),
        rebind: packet!("networkd-rebind"),
        release: packet!("networkd-release"),
        decline: None,
    },
];

/// A conversation with a full server, in which the client is given what it asked for when it was captured: its packets name the
/// addresses of then.
#[derive(Debug)]
struct Conversation {
    server: Server,
    mac: [u8; 6],
    address: Ipv4Addr,
}

impl Conversation {
    fn new() -> Self {
        Self { server: Server::new(Mode::Full), mac: mac(1).bytes(), address: SERVER }
    }

    /// Sends a packet as it was captured, but for its card and the address that it is about.
    fn send(&mut self, hex: &str) -> Outcome {
        let mut packet = bytes(hex);
        packet[28..34].copy_from_slice(&self.mac);
        if packet[12..16] != [0; 4] {
            packet[12..16].copy_from_slice(&self.address.octets());
        }
        let requested = packet.windows(2).skip(240).position(|option| option == [50, 4]);
        if let Some(at) = requested.map(|at| at + 240 + 2) {
            packet[at..at + 4].copy_from_slice(&self.address.octets());
        }
        let source = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        self.server.send_bytes(&ingress(ServerPort::Dhcp, source), &packet)
    }

    /// The message that answers, the address in it, and where it goes.
    fn answer(&mut self, hex: &str) -> (Message, Option<Ipv4Addr>, String) {
        let outcome = self.send(hex);
        let Verdict::Answered(answer) = outcome.record.verdict else {
            panic!("silence: {:?}", outcome.record)
        };
        assert_eq!(answer.boot_file, "", "a boot file for an operating system");
        let reply = outcome.reply.unwrap();
        (answer.message, answer.leased, reply.destination.to_string())
    }

    fn lease(&mut self, course: &Course) {
        let (message, offered, to) = self.answer(course.discover);
        assert_eq!((message, to.as_str()), (Message::Offer, "255.255.255.255:68"));
        self.address = offered.unwrap();
        let (message, given, to) = self.answer(course.request);
        assert_eq!((message, given), (Message::Ack, Some(self.address)));
        assert_eq!(to, "255.255.255.255:68");
    }
}

#[test]
fn real_clients_lease_renew_rebind_and_release() {
    for course in &COURSES {
        let mut conversation = Conversation::new();
        conversation.lease(course);
        let own = Some(conversation.address);
        let direct = format!("{}:68", conversation.address);
        for (hex, after) in [(course.renew, 1800), (course.rebind, 1700)] {
            conversation.server.after(after);
            let answer = conversation.answer(hex);
            assert_eq!(answer, (Message::Ack, own, direct.clone()), "{}", course.client);
        }
        let released = silence(conversation.send(course.release));
        assert_eq!(released, Silence::Released(conversation.address), "{}", course.client);
    }
}

#[test]
fn real_clients_decline_and_get_another_address() {
    let declining = COURSES.iter().filter_map(|course| Some((course, course.decline?)));
    for (course, decline) in declining {
        let mut conversation = Conversation::new();
        conversation.lease(course);
        let taken = conversation.address;
        let declined = silence(conversation.send(decline));
        assert_eq!(declined, Silence::Declined(taken), "{}", course.client);
        let (_, offered, _) = conversation.answer(course.discover);
        assert_ne!(offered, Some(taken), "{}", course.client);
    }
}

#[test]
fn dhcpcd_is_informed_without_a_lease() {
    let mut conversation = Conversation::new();
    conversation.address = "10.77.0.21".parse().unwrap();
    let answer = conversation.answer(packet!("dhcpcd-inform"));
    assert_eq!(answer, (Message::Ack, None, "10.77.0.21:68".to_owned()));
}

#[test]
fn a_proxy_keeps_out_of_every_course() {
    for course in &COURSES {
        for hex in [course.discover, course.request, course.renew, course.rebind, course.release] {
            let outcome = told(Mode::Proxy, ServerPort::Dhcp, hex);
            assert_eq!(silence(outcome), Silence::PlainClient, "{}", course.client);
        }
    }
}
