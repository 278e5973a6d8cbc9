//! Packets as clients send them, answers as clients read them, and a server to send them to.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, SystemTime},
};

use bty_types::MacAddr;

use crate::engine::*;

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(super) const RELAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 254);
pub(super) const INTERFACE_INDEX: u32 = 7;
pub(super) const XID: u32 = 0x1122_3344;
/// What iPXE's EFI build sends as option 175: priority, PXE extensions, HTTP, DNS, TFTP, its version.
pub(super) const IPXE_FEATURES: &[u8] =
    b"\x10\x01\x02\x13\x01\x01\x15\x01\x01\x17\x01\x01\x24\x01\x01\xeb\x03\x01\x00\x00";

pub(super) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

pub(super) fn mac(last: u8) -> MacAddr {
    MacAddr::new([0x52, 0x54, 0, 0x77, 0, last]).unwrap()
}

/// A message to build.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) op: u8,
    pub(super) xid: u32,
    pub(super) flags: u16,
    pub(super) ciaddr: Ipv4Addr,
    pub(super) giaddr: Ipv4Addr,
    pub(super) mac: [u8; 6],
    pub(super) options: Vec<(u8, Vec<u8>)>,
}

impl Packet {
    pub(super) fn new(message: u8) -> Self {
        Self {
            op: 1,
            xid: XID,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            mac: mac(1).bytes(),
            options: vec![(53, vec![message])],
        }
    }

    pub(super) fn discover() -> Self {
        Self::new(1)
    }

    pub(super) fn request() -> Self {
        Self::new(3)
    }

    pub(super) fn with(mut self, code: u8, value: impl AsRef<[u8]>) -> Self {
        self.options.push((code, value.as_ref().to_vec()));
        self
    }

    pub(super) fn of(mut self, mac: MacAddr) -> Self {
        self.mac = mac.bytes();
        self
    }

    pub(super) fn holding(mut self, address: Ipv4Addr) -> Self {
        self.ciaddr = address;
        self
    }

    pub(super) fn relayed(mut self) -> Self {
        self.giaddr = RELAY;
        self.with(82, b"\x01\x04eth0")
    }

    /// As firmware of this architecture: vendor class, architecture, interface and a UUID.
    pub(super) fn firmware(self, class: &str, architecture: u16) -> Self {
        let name = format!("{class}:Arch:{architecture:05}:UNDI:003000");
        let mut uuid = vec![0];
        uuid.extend(1..=16);
        self.with(57, 1472_u16.to_be_bytes())
            .with(60, name)
            .with(93, architecture.to_be_bytes())
            .with(94, [1, 3, 0])
            .with(97, uuid)
    }

    pub(super) fn pxe(self, architecture: u16) -> Self {
        self.firmware("PXEClient", architecture)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.op, 1, 6, 0];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(4_u16.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.ciaddr.octets());
        bytes.extend([0; 8]);
        bytes.extend(self.giaddr.octets());
        bytes.extend(self.mac);
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99]);
        for (code, value) in &self.options {
            for chunk in value.chunks(255) {
                bytes.extend([*code, u8::try_from(chunk.len()).unwrap()]);
                bytes.extend(chunk);
            }
        }
        bytes.push(255);
        bytes
    }
}

/// An answer as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) flags: u16,
    pub(super) ciaddr: Ipv4Addr,
    pub(super) yiaddr: Ipv4Addr,
    pub(super) siaddr: Ipv4Addr,
    pub(super) giaddr: Ipv4Addr,
    pub(super) sname: String,
    pub(super) file: String,
    pub(super) order: Vec<u8>,
    pub(super) options: BTreeMap<u8, Vec<u8>>,
}

impl Read {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let address = |at: usize| {
            let octets: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            Ipv4Addr::from(octets)
        };
        let text = |field: &[u8]| {
            let end = field.iter().position(|&byte| byte == 0).expect("a NUL ends the field");
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        assert_eq!(bytes[0], 2, "the answer is not a BOOTREPLY");
        assert_eq!(bytes[4..8], XID.to_be_bytes(), "the answer is of another transaction");
        assert_eq!(bytes[236..240], [99, 130, 83, 99]);
        let (mut at, mut order, mut options) = (240, Vec::new(), BTreeMap::<u8, Vec<u8>>::new());
        while bytes[at] != 255 {
            let (code, length) = (bytes[at], usize::from(bytes[at + 1]));
            assert_ne!(code, 0, "there is padding between options");
            order.push(code);
            options.entry(code).or_default().extend(&bytes[at + 2..at + 2 + length]);
            at += 2 + length;
        }
        Self {
            flags: u16::from_be_bytes([bytes[10], bytes[11]]),
            ciaddr: address(12),
            yiaddr: address(16),
            siaddr: address(20),
            giaddr: address(24),
            sname: text(&bytes[44..108]),
            file: text(&bytes[108..236]),
            order,
            options,
        }
    }

    /// A text option, which must end in a NUL.
    pub(super) fn text(&self, code: u8) -> Option<String> {
        let value = self.options.get(&code)?;
        let text = value.strip_suffix(&[0]).expect("the option ends in a NUL");
        Some(String::from_utf8(text.to_vec()).unwrap())
    }

    pub(super) fn message(&self) -> u8 {
        self.options[&53][0]
    }
}

/// An engine with one interface, and what was sent to it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) engine: Engine,
    pub(super) directory: Directory,
    pub(super) now: SystemTime,
}

impl Server {
    pub(super) fn new(mode: Mode) -> Self {
        let rules = Rules { mode, files: BootFiles::default(), subnets: subnets() };
        let now = start();
        Self { engine: Engine::new(now, rules, []), directory: Directory::default(), now }
    }

    pub(super) fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    pub(super) fn send_bytes(&mut self, ingress: &Ingress, bytes: &[u8]) -> Outcome {
        self.engine.handle(self.now, ingress, bytes, &self.directory)
    }

    /// Sends a packet to port 67.
    pub(super) fn send(&mut self, packet: &Packet) -> Outcome {
        let source = if packet.giaddr.is_unspecified() {
            SocketAddrV4::new(packet.ciaddr, 68)
        } else {
            SocketAddrV4::new(packet.giaddr, 67)
        };
        self.send_bytes(&ingress(ServerPort::Dhcp, source), &packet.bytes())
    }

    /// Sends a packet to port 4011.
    pub(super) fn send_4011(&mut self, packet: &Packet) -> Outcome {
        let source = SocketAddrV4::new(packet.ciaddr, 68);
        self.send_bytes(&ingress(ServerPort::Pxe, source), &packet.bytes())
    }

    pub(super) fn ask(&mut self, packet: &Packet) -> Read {
        let outcome = self.send(packet);
        Read::new(&outcome.reply.unwrap_or_else(|| panic!("silence: {:?}", outcome.record)).bytes)
    }

    pub(super) fn silence(&mut self, packet: &Packet) -> Silence {
        silence(self.send(packet))
    }
}

pub(super) fn silence(outcome: Outcome) -> Silence {
    assert_eq!(outcome.reply, None);
    match outcome.record.verdict {
        Verdict::Silent(silence) => silence,
        Verdict::Answered(answer) => panic!("answered: {answer:?}"),
    }
}

pub(super) fn ingress(port: ServerPort, source: SocketAddrV4) -> Ingress {
    Ingress {
        port,
        index: INTERFACE_INDEX,
        interface: "eth0".into(),
        address: SERVER,
        prefix: 24,
        source,
    }
}

/// The LAN of the server, and one behind the relay.
pub(super) fn subnets() -> Vec<Subnet> {
    let lan = SubnetText {
        interface: "eth0".into(),
        network: "10.77.0.0/24".into(),
        range: Some((Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 103))),
        router: Some(Ipv4Addr::new(10, 77, 0, 254)),
        dns: vec![Ipv4Addr::new(10, 77, 0, 53)],
        lease_seconds: 3600,
        reservations: vec![(
            mac(0x50),
            Reservation { address: Ipv4Addr::new(10, 77, 0, 50), hostname: "fifty".into() },
        )],
    };
    let behind = SubnetText {
        interface: String::new(),
        network: "10.88.0.0/24".into(),
        range: Some((Ipv4Addr::new(10, 88, 0, 100), Ipv4Addr::new(10, 88, 0, 199))),
        router: Some(RELAY),
        lease_seconds: 3600,
        ..SubnetText::default()
    };
    [lan, behind].map(|text| text.parse().unwrap()).into()
}
