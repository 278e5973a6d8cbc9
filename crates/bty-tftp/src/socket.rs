//! The UDP sockets: the one that takes requests, and one for each transfer.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, getsockopt, recvmsg, sendmsg,
        setsockopt, sockopt,
    },
};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

/// Room for requests that arrive while we are busy: hundreds of machines may be switched on at once.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// The most datagrams that the kernel takes in one call (`UDP_MAX_SEGMENTS`).
const MAX_SEGMENTS: usize = 64;
/// The most bytes that the kernel takes in one call: the largest UDP payload over IPv4.
const MAX_CALL_BYTES: usize = 65507;

/// The socket that takes requests.
#[derive(Debug)]
pub(crate) struct RequestSocket(UdpSocket);

/// A datagram on the request socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Who sent it.
    pub(crate) from: SocketAddrV4,
    /// Our address that it was sent to.
    pub(crate) to: Ipv4Addr,
    /// It was sent to a broadcast or multicast address.
    pub(crate) to_many: bool,
    /// Its length.
    pub(crate) length: usize,
}

impl RequestSocket {
    /// Binds a socket of its own.
    pub(crate) fn bind(address: SocketAddrV4) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&SocketAddr::from(address).into())?;
        Self::prepare(socket)
    }

    /// Takes a socket that systemd has bound.
    pub(crate) fn adopt(socket: OwnedFd) -> io::Result<Self> {
        Self::prepare(socket.into())
    }

    fn prepare(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // More than the system allows is cut to what it allows.
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        Ok(Self(UdpSocket::from_std(socket.into())?))
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Waits for a datagram and puts it into `buffer`; what doesn't fit is cut off.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        self.0.async_io(Interest::READABLE, || self.try_receive(buffer)).await
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        let mut control = nix::cmsg_space!(libc::in_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let socket = self.0.as_raw_fd();
        let message =
            recvmsg::<SockaddrIn>(socket, &mut parts, Some(&mut control), MsgFlags::empty())?;
        let from = message.address.map(SocketAddrV4::from);
        let info = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
            _ => None,
        });
        let (Some(from), Some(info)) = (from, info) else {
            return Err(io::Error::other("the kernel does not say where a datagram comes from"));
        };
        // ip(7): spec_dst is ours, addr is what the header says.
        let to = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
        let to_many = info.ipi_addr.s_addr != info.ipi_spec_dst.s_addr;
        Ok(Arrival { from, to, to_many, length: message.bytes })
    }

    /// Answers from the address that was asked. An answer that can't be sent is lost, as any datagram may be.
    pub(crate) fn reply(&self, arrival: &Arrival, datagram: &[u8]) {
        let address = |address: Ipv4Addr| libc::in_addr { s_addr: u32::from(address).to_be() };
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: address(arrival.to),
            ipi_addr: address(Ipv4Addr::UNSPECIFIED),
        };
        let sent = sendmsg(
            self.0.as_raw_fd(),
            &[IoSlice::new(datagram)],
            &[ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn::from(arrival.from)),
        );
        if let Err(problem) = sent {
            tracing::debug!(peer = %arrival.from, err = %problem, "an answer could not be sent");
        }
    }
}

/// The socket of one transfer: a port of its own (RFC 1350 §4), on the address that was asked.
#[derive(Debug)]
pub(crate) struct TransferSocket {
    socket: UdpSocket,
    peer: SocketAddrV4,
    /// The kernel cuts several datagrams out of one call (UDP GSO), until it says that it doesn't.
    segments: bool,
}

impl TransferSocket {
    /// Opens one.
    pub(crate) fn open(local: Ipv4Addr, peer: SocketAddrV4) -> io::Result<Self> {
        let socket = UdpSocket::from_std(bound(local)?)?;
        // Where a router on the way has a smaller MTU than we know, fragments are better than nothing.
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        Ok(Self { socket, peer, segments: true })
    }

    /// Waits for a datagram, from whomever.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }

    /// Sends one datagram.
    pub(crate) async fn send(&self, to: SocketAddr, datagram: &[u8]) {
        if let Err(problem) = self.socket.send_to(datagram, to).await {
            tracing::debug!(peer = %to, err = %problem, "a datagram could not be sent");
        }
    }

    /// Sends datagrams to the client that stand one after the other, each `segment_bytes` long but the last.
    pub(crate) async fn send_segments(&mut self, datagrams: &[u8], segment_bytes: usize) {
        let at_once =
            if self.segments { (MAX_CALL_BYTES / segment_bytes).clamp(1, MAX_SEGMENTS) } else { 1 };
        for part in datagrams.chunks(segment_bytes * at_once) {
            if part.len() > segment_bytes && self.segments {
                match self.send_batch(part, segment_bytes).await {
                    Ok(()) => continue,
                    Err(problem) => {
                        // Some devices and tunnels can't; then each datagram is a call of its own.
                        tracing::debug!(err = %problem, "the kernel takes no batches on this path");
                        self.segments = false;
                    }
                }
            }
            for datagram in part.chunks(segment_bytes) {
                self.send(self.peer.into(), datagram).await;
            }
        }
    }

    async fn send_batch(&self, part: &[u8], segment_bytes: usize) -> io::Result<()> {
        let segment = u16::try_from(segment_bytes).map_err(io::Error::other)?;
        let peer = SockaddrIn::from(self.peer);
        let parts = [IoSlice::new(part)];
        let control = [ControlMessage::UdpGsoSegments(&segment)];
        let send = || {
            let socket = self.socket.as_raw_fd();
            match sendmsg(socket, &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&peer)) {
                Ok(_) => Ok(()),
                Err(Errno::EINVAL | Errno::EIO | Errno::EOPNOTSUPP | Errno::EMSGSIZE) => {
                    Err(io::ErrorKind::Unsupported.into())
                }
                Err(problem) => Err(io::Error::from(problem)),
            }
        };
        match self.socket.async_io(Interest::WRITABLE, send).await {
            Err(problem) if problem.kind() == io::ErrorKind::Unsupported => Err(problem),
            Err(problem) => {
                tracing::debug!(peer = %self.peer, err = %problem, "datagrams could not be sent");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

fn bound(local: Ipv4Addr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(SocketAddrV4::new(local, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The MTU of the path to a peer, as far as the kernel knows: that of the interface, or less.
pub(crate) fn path_mtu_bytes(local: Ipv4Addr, peer: SocketAddrV4) -> io::Result<u32> {
    // The kernel tells it for connected sockets only, and a connected socket would not hear from strangers.
    let socket = bound(local)?;
    socket.connect(peer)?;
    let mtu = getsockopt(&socket, sockopt::IpMtu)?;
    u32::try_from(mtu).map_err(io::Error::other)
}
