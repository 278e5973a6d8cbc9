//! The UDP sockets of the server: who sent a datagram, by which interface and to which of our addresses; and answers that go out by
//! a chosen interface and address.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
        sockopt,
    },
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use crate::engine::{Reply, ServerPort};

/// Room for packets that arrive while we are busy: a whole rack may be switched on at once.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// A socket of the server.
#[derive(Debug)]
pub(crate) struct ServerSocket(UdpSocket);

/// A datagram that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Who sent it.
    pub(crate) from: SocketAddrV4,
    /// The address that it was sent to, one of ours or a broadcast address.
    pub(crate) to: Ipv4Addr,
    /// The index of the interface that it came in by.
    pub(crate) interface: u32,
    /// Its length; more than the buffer's where it was cut off.
    pub(crate) length: usize,
}

impl ServerSocket {
    /// Binds a socket of its own. Another DHCP server on this host may have the port too, if it shares it.
    pub(crate) fn bind(port: ServerPort) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port.number());
        socket.bind(&SocketAddr::from(address).into())?;
        Self::prepare(socket)
    }

    /// Takes a socket that systemd has bound.
    pub(crate) fn adopt(socket: OwnedFd) -> io::Result<Self> {
        Self::prepare(socket.into())
    }

    fn prepare(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_broadcast(true)?;
        // More than the system allows is cut to what it allows.
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        Ok(Self(UdpSocket::from_std(socket.into())?))
    }

    /// Waits for a datagram and puts it into `buffer`.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        self.0.async_io(Interest::READABLE, || self.try_receive(buffer)).await
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        let mut control = nix::cmsg_space!(libc::in_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let socket = self.0.as_raw_fd();
        let flags = MsgFlags::MSG_TRUNC;
        let message = recvmsg::<SockaddrIn>(socket, &mut parts, Some(&mut control), flags)?;
        let from = message.address.map(SocketAddrV4::from);
        let info = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
            _ => None,
        });
        let (Some(from), Some(info)) = (from, info) else {
            return Err(io::Error::other("the kernel does not say where a datagram comes from"));
        };
        let to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
        let interface = u32::try_from(info.ipi_ifindex).map_err(io::Error::other)?;
        Ok(Arrival { from, to, interface, length: message.bytes })
    }

    /// Sends an answer.
    pub(crate) async fn send(&self, reply: &Reply) -> io::Result<()> {
        let address = |address: Ipv4Addr| libc::in_addr { s_addr: u32::from(address).to_be() };
        let info = libc::in_pktinfo {
            // 0: routing decides (ip(7)).
            ipi_ifindex: i32::try_from(reply.interface.unwrap_or(0)).map_err(io::Error::other)?,
            ipi_spec_dst: address(reply.source),
            ipi_addr: address(Ipv4Addr::UNSPECIFIED),
        };
        let to = SockaddrIn::from(reply.destination);
        let parts = [IoSlice::new(&reply.bytes)];
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        let send = || {
            let socket = self.0.as_raw_fd();
            sendmsg(socket, &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }
}
