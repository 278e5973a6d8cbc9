//! What other DHCP servers say to their clients, heard by a packet socket.
//!
//! Their answers go to port 68, where we have no business: this machine's own DHCP client may listen there. A packet socket
//! disturbs nobody. The kernel's filter lets nothing in but what servers send, and nothing of ours, so that it costs nothing
//! while nobody else speaks.

use std::{io, os::fd::AsRawFd};

use bty_types::MacAddr;
use nix::{
    libc,
    sys::socket::{LinkAddr, recvfrom},
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

/// Longer answers than fit an Ethernet frame are nobody's.
const SNAPPED_BYTES: u32 = 2048;
/// Room for answers that wait. What comes in a flood is lost, which harms nobody.
const ROOM_BYTES: usize = 256 << 10;

/// The socket. Tokio has no name for one of this family; what it does with one of UDP, waiting until something is there, it does
/// with any.
#[derive(Debug)]
pub(crate) struct Tap(UdpSocket);

/// An IPv4 packet that came.
#[derive(Debug)]
pub(crate) struct Tapped {
    /// The index of the interface it came in by.
    pub(crate) interface: u32,
    /// The card that sent it; `None` where that is no card of one machine.
    pub(crate) mac: Option<MacAddr>,
    pub(crate) length: usize,
}

impl Tap {
    /// Opens it, for which `CAP_NET_RAW` is needed.
    pub(crate) fn open() -> io::Result<Self> {
        let ethertype = u16::try_from(libc::ETH_P_IP).map_err(io::Error::other)?;
        // "Cooked": packets begin with the IP header, whatever the link is. What comes before the filter is there is judged by
        // the engine like the rest.
        let protocol = Protocol::from(i32::from(ethertype.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(ROOM_BYTES)?;
        socket.attach_filter(&filter())?;
        Ok(Self(UdpSocket::from_std(socket.into())?))
    }

    /// Waits for a packet and puts it into `buffer`.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Tapped> {
        self.0.async_io(Interest::READABLE, || self.try_receive(buffer)).await
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Tapped> {
        let (length, from) = recvfrom::<LinkAddr>(self.0.as_raw_fd(), buffer)?;
        let from = from.ok_or_else(|| io::Error::other("the kernel says no sender"))?;
        Ok(Tapped {
            interface: u32::try_from(from.ifindex()).map_err(io::Error::other)?,
            mac: from.addr().and_then(|bytes| MacAddr::new(bytes).ok()),
            length,
        })
    }
}

/// Whole UDP datagrams from port 67 or 4011 that others sent (classic BPF; packets begin with the IP header).
fn filter() -> [SockFilter; 12] {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const LOAD_HALF_BEHIND_HEADER: u16 = 0x48;
    const IF_EQUAL: u16 = 0x15;
    const IF_AT_LEAST: u16 = 0x35;
    const IF_BITS: u16 = 0x45;
    const END: u16 = 0x06;
    /// `SKF_AD_OFF + SKF_AD_PKTTYPE`.
    const PACKET_TYPE: u32 = 0xffff_f004;
    /// From this on: `PACKET_OUTGOING`, and what is looped back to us.
    const OURS: u32 = 4;
    let on = |code, yes, no, value| SockFilter::new(code, yes, no, value);
    [
        on(LOAD_BYTE, 0, 0, PACKET_TYPE),
        on(IF_AT_LEAST, 9, 0, OURS),
        on(LOAD_BYTE, 0, 0, 9),
        on(IF_EQUAL, 0, 7, 17),
        on(LOAD_HALF, 0, 0, 6),
        on(IF_BITS, 5, 0, 0x3fff),
        on(LOAD_HEADER_LENGTH, 0, 0, 0),
        on(LOAD_HALF_BEHIND_HEADER, 0, 0, 0),
        on(IF_EQUAL, 1, 0, 67),
        on(IF_EQUAL, 0, 1, 4011),
        on(END, 0, 0, SNAPPED_BYTES),
        on(END, 0, 0, 0),
    ]
}
