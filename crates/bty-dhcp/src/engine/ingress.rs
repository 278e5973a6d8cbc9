//! Where a packet came in, and where its answer goes out.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

/// A port that the server listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerPort {
    /// 67: DHCP.
    Dhcp,
    /// 4011: PXE's boot service, where UEFI asks a proxy once it has an address.
    Pxe,
}

impl ServerPort {
    /// Its number.
    pub const fn number(self) -> u16 {
        match self {
            Self::Dhcp => 67,
            Self::Pxe => 4011,
        }
    }
}

/// Where a packet came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// The port it came to.
    pub port: ServerPort,
    /// The interface's index.
    pub index: u32,
    /// The interface's name.
    pub interface: Arc<str>,
    /// Our address there: the one it was sent to, where it was sent to one.
    pub address: Ipv4Addr,
    /// The length of that address's network prefix.
    pub prefix: u8,
    /// Where it came from.
    pub source: SocketAddrV4,
}

impl Ingress {
    /// Whether an address is on the network of the interface itself.
    pub(super) fn is_on_link(&self, address: Ipv4Addr) -> bool {
        let mask = super::subnet::mask(self.prefix);
        u32::from(address) & mask == u32::from(self.address) & mask
    }
}

/// An answer to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The DHCP message.
    pub bytes: Vec<u8>,
    /// To whom.
    pub destination: SocketAddrV4,
    /// From which port.
    pub source_port: ServerPort,
    /// From which of our addresses.
    pub source: Ipv4Addr,
    /// Out of which interface; `None` where routing decides, because a router is on the way.
    pub interface: Option<u32>,
}
