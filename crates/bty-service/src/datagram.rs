//! A UDP socket that knows more of each datagram than its sender: by which interface it came, and to which of our addresses. So an
//! answer can leave by the same, which clients with several servers or servers with several networks need (ip(7), `IP_PKTINFO`).

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    time::Duration,
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

/// The socket.
#[derive(Debug)]
pub struct DatagramSocket(UdpSocket);

/// A datagram that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// The address in its header: one of ours, a broadcast or a multicast address.
    pub to: Ipv4Addr,
    /// The address of ours that it is for, and that an answer comes from.
    pub local: Ipv4Addr,
    /// The index of the interface that it came in by.
    pub interface: u32,
    /// Its length; more than the buffer's where it was cut off.
    pub length: usize,
}

/// Where an answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// Who gets it.
    pub to: SocketAddrV4,
    /// The address of ours that it comes from.
    pub local: Ipv4Addr,
    /// The index of the interface that it leaves by; routing decides where there is none.
    pub interface: Option<u32>,
}

impl DatagramSocket {
    /// Binds a socket of its own. With `shared` another process that wants it so too may have the port as well.
    pub fn bind(address: SocketAddrV4, shared: bool, room_bytes: usize) -> io::Result<Self> {
        Self::adopt(bound(address, shared)?.into(), room_bytes)
    }

    /// Takes a socket that systemd has bound.
    pub fn adopt(socket: OwnedFd, room_bytes: usize) -> io::Result<Self> {
        let socket = Socket::from(socket);
        prepare(&socket, room_bytes)?;
        socket.set_nonblocking(true)?;
        Ok(Self(UdpSocket::from_std(socket.into())?))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Waits for a datagram and puts it into `buffer`.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        self.0.async_io(Interest::READABLE, || receive(self.0.as_raw_fd(), buffer)).await
    }

    /// Sends a datagram, waiting for room.
    pub async fn send(&self, departure: &Departure, datagram: &[u8]) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, || self.try_send(departure, datagram)).await
    }

    /// Sends a datagram now or not at all.
    pub fn try_send(&self, departure: &Departure, datagram: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), departure, datagram, MsgFlags::MSG_DONTWAIT)
    }
}

/// The same for a thread that does nothing but wait for datagrams and answer them: it asks the kernel once for each, where a task
/// asks three times.
#[derive(Debug)]
pub struct ThreadSocket(Socket);

impl ThreadSocket {
    /// As [`DatagramSocket::bind`]; a wait for a datagram ends after `patience`.
    pub fn bind(
        address: SocketAddrV4,
        shared: bool,
        room_bytes: usize,
        patience: Duration,
    ) -> io::Result<Self> {
        Self::adopt(bound(address, shared)?.into(), room_bytes, patience)
    }

    /// Takes a socket that systemd has bound.
    pub fn adopt(socket: OwnedFd, room_bytes: usize, patience: Duration) -> io::Result<Self> {
        let socket = Socket::from(socket);
        prepare(&socket, room_bytes)?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(patience))?;
        Ok(Self(socket))
    }

    /// Waits for a datagram and puts it into `buffer`; `None` where none came.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Arrival>> {
        match receive(self.0.as_raw_fd(), buffer) {
            Ok(arrival) => Ok(Some(arrival)),
            Err(problem) if is_nothing(&problem) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Sends a datagram, waiting for room.
    pub fn send(&self, departure: &Departure, datagram: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), departure, datagram, MsgFlags::empty())
    }

    /// Sends a datagram now or not at all.
    pub fn try_send(&self, departure: &Departure, datagram: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), departure, datagram, MsgFlags::MSG_DONTWAIT)
    }
}

fn is_nothing(problem: &io::Error) -> bool {
    matches!(
        problem.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn bound(address: SocketAddrV4, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(shared)?;
    socket.bind(&SocketAddr::from(address).into())?;
    Ok(socket)
}

fn prepare(socket: &Socket, room_bytes: usize) -> io::Result<()> {
    socket.set_broadcast(true)?;
    // More than the system allows takes a right that only tests and systemd have (CAP_NET_ADMIN); without it, it is cut to what
    // the system allows, and what systemd has made larger would be made smaller.
    if setsockopt(socket, sockopt::RcvBufForce, &room_bytes).is_err()
        && socket.recv_buffer_size()? < room_bytes
    {
        socket.set_recv_buffer_size(room_bytes)?;
    }
    Ok(setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?)
}

fn receive(socket: RawFd, buffer: &mut [u8]) -> io::Result<Arrival> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
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
    Ok(Arrival {
        from,
        to: Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)),
        local: Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)),
        interface: u32::try_from(info.ipi_ifindex).map_err(io::Error::other)?,
        length: message.bytes,
    })
}

fn send(socket: RawFd, departure: &Departure, datagram: &[u8], flags: MsgFlags) -> io::Result<()> {
    let address = |address: Ipv4Addr| libc::in_addr { s_addr: u32::from(address).to_be() };
    let info = libc::in_pktinfo {
        // 0: routing decides.
        ipi_ifindex: i32::try_from(departure.interface.unwrap_or(0)).map_err(io::Error::other)?,
        ipi_spec_dst: address(departure.local),
        ipi_addr: address(Ipv4Addr::UNSPECIFIED),
    };
    sendmsg(
        socket,
        &[IoSlice::new(datagram)],
        &[ControlMessage::Ipv4PacketInfo(&info)],
        flags,
        Some(&SockaddrIn::from(departure.to)),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_comes_from_the_address_that_was_asked() {
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let server = DatagramSocket::bind(any, false, 1 << 16).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let asked = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 7), port);
        client.send_to(b"question", asked).await.unwrap();
        let mut buffer = [0; 4];
        let arrival = server.receive(&mut buffer).await.unwrap();
        assert_eq!((&buffer, arrival.length), (b"ques", 8));
        assert_eq!((arrival.to, arrival.local), (*asked.ip(), *asked.ip()));
        let departure = Departure { to: arrival.from, local: arrival.local, interface: None };
        server.send(&departure, b"answer").await.unwrap();
        let (length, from) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!((length, from), (4, asked.into()));
    }

    #[test]
    fn a_thread_waits_no_longer_than_its_patience() {
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let socket = ThreadSocket::bind(any, false, 1 << 16, Duration::from_millis(1)).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(socket.receive(&mut buffer).unwrap(), None);
        let address = socket.0.local_addr().unwrap().as_socket().unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"question", address).unwrap();
        let arrival = loop {
            if let Some(arrival) = socket.receive(&mut buffer).unwrap() {
                break arrival;
            }
        };
        let departure = Departure { to: arrival.from, local: arrival.local, interface: None };
        socket.send(&departure, b"answer").unwrap();
        assert_eq!((client.recv(&mut buffer).unwrap(), &buffer[..6]), (6, &b"answer"[..]));
    }
}
