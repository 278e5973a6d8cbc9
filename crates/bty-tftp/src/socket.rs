//! The UDP socket of a transfer.

use std::{
    io::{self, IoSlice},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::AsRawFd,
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, SockaddrIn, getsockopt, recvfrom, sendmsg, sockopt},
};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use tokio::{io::Interest, net::UdpSocket};

/// The most datagrams that the kernel takes in one call (`UDP_MAX_SEGMENTS`).
const MAX_SEGMENTS: usize = 64;
/// The most bytes that the kernel takes in one call: the largest UDP payload over IPv4.
const MAX_CALL_BYTES: usize = 65507;

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

    /// Waits for a datagram, from whomever. `is_last` looks at it and says whether none is expected behind it: then the kernel is
    /// not asked for one before another has come, which in lockstep is one call of four. One that came all the same is there when
    /// the next has come, or for [`Self::try_receive`].
    pub(crate) async fn receive(
        &self,
        buffer: &mut [u8],
        is_last: impl FnOnce(SocketAddr, &[u8]) -> bool,
    ) -> io::Result<()> {
        let mut is_last = Some(is_last);
        loop {
            self.socket.readable().await?;
            let outcome = self.socket.try_io(Interest::READABLE, || {
                let (length, from) = self.try_receive(buffer)?;
                let datagram = buffer.get(..length).unwrap_or(buffer);
                if is_last.take().is_some_and(|is_last| is_last(from, datagram)) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match outcome {
                Err(problem) if problem.kind() != io::ErrorKind::WouldBlock => return Err(problem),
                _ if is_last.is_none() => return Ok(()),
                _ => {}
            }
        }
    }

    /// A datagram that has come already.
    pub(crate) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (length, from) = recvfrom::<SockaddrIn>(self.socket.as_raw_fd(), buffer)?;
        let from = from.ok_or_else(|| io::Error::other("the kernel names no sender"))?;
        Ok((length, SocketAddrV4::from(from).into()))
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
