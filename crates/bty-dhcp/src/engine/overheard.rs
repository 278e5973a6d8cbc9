//! What a message that another DHCP server sent to somebody else says of that server.

use std::net::Ipv4Addr;

use super::{
    options::code,
    request::{Message, Op, Request, printable},
};

/// The shortest header of IPv4 (RFC 791 §3.1), and that of UDP (RFC 768).
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const UDP: u8 = 17;
/// More fragments, and the offset of this one: a DHCP message comes whole.
const FRAGMENT: u16 = 0x3fff;
/// Ports that servers answer from.
const SERVER_PORTS: [u16; 2] = [67, 4011];
const BOOT_CLASSES: [&[u8]; 2] = [b"PXEClient", b"HTTPClient"];

/// What a server was heard to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overheard {
    /// The server: its identifier (option 54), else where its message came from.
    pub server: Ipv4Addr,
    /// Whether it gives an address.
    pub leases: bool,
    /// Whether it says where to boot from.
    pub boots: bool,
    /// The boot file that it names, printable part; empty where none.
    pub boot_file: String,
}

impl Overheard {
    /// Reads an IPv4 packet; `None` where it is not a DHCP server's answer.
    pub fn in_packet(packet: &[u8]) -> Option<Self> {
        let (source, port, datagram) = udp(packet)?;
        if !SERVER_PORTS.contains(&port) {
            return None;
        }
        let reply = Request::parse(datagram).ok().filter(|message| message.op == Op::Reply)?;
        Some(Self::in_reply(&reply, source, port))
    }

    pub(super) fn in_reply(reply: &Request, source: Ipv4Addr, port: u16) -> Self {
        let named = reply.options.get(code::BOOT_FILE).unwrap_or(&reply.file);
        let boot_file = printable(named.split(|&byte| byte == 0).next().unwrap_or_default());
        let is_boot_class =
            || BOOT_CLASSES.iter().any(|class| reply.vendor_class().starts_with(class));
        let gives = matches!(reply.message, None | Some(Message::Offer | Message::Ack));
        Self {
            server: reply.server_id.unwrap_or(source),
            leases: gives && !reply.yiaddr.is_unspecified(),
            boots: port != 67 || !boot_file.is_empty() || is_boot_class(),
            boot_file,
        }
    }
}

/// Where a UDP datagram came from, and what is in it. Neither checksum is looked at: a virtual card leaves them to be filled in
/// by nobody.
fn udp(packet: &[u8]) -> Option<(Ipv4Addr, u16, &[u8])> {
    let half = |at: usize| {
        let bytes: [u8; 2] = packet.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    };
    let &version_and_length = packet.first()?;
    let header_bytes = usize::from(version_and_length & 0x0f) * 4;
    let is_whole = half(6)? & FRAGMENT == 0;
    let is_udp = version_and_length >> 4 == 4 && header_bytes >= IP_BYTES && packet.get(9)? == &UDP;
    if !is_udp || !is_whole {
        return None;
    }
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let udp = packet.get(header_bytes..usize::from(half(2)?))?;
    let datagram = udp.get(UDP_BYTES..usize::from(half(header_bytes + 4)?))?;
    Some((source.into(), half(header_bytes)?, datagram))
}
