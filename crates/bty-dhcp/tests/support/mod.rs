//! A machine on a virtual LAN that speaks DHCP byte by byte.

use std::{
    collections::BTreeMap,
    fs::File,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bty_testkit::Host;
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

/// How long an answer may take on a machine that is busy compiling.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A machine's port 68, on a host of the LAN.
#[derive(Debug)]
pub(crate) struct Client {
    socket: UdpSocket,
    /// The card that it says it has.
    pub(crate) mac: [u8; 6],
    next_xid: u32,
}

/// An answer, and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) from: SocketAddr,
    pub(crate) message: u8,
    pub(crate) yiaddr: Ipv4Addr,
    pub(crate) siaddr: Ipv4Addr,
    pub(crate) options: BTreeMap<u8, Vec<u8>>,
}

impl Answer {
    /// The boot file of option 67, without its NUL.
    pub(crate) fn boot_file(&self) -> String {
        let bytes = self.options.get(&67).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
    }
}

impl Client {
    /// Opens port 68 on `eth0` of a host.
    pub(crate) fn on(host: &Host, mac: [u8; 6]) -> Result<Self> {
        let path = format!("/run/netns/{}", host.namespace.name());
        // A namespace is entered by one thread alone; the socket stays in it wherever it goes.
        let opened = thread::spawn(move || -> Result<UdpSocket> {
            let namespace = File::open(&path).with_context(|| format!("opening {path}"))?;
            setns(namespace, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_broadcast(true)?;
            socket.bind_device(Some(b"eth0"))?;
            let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
            socket.bind(&SocketAddr::from(any).into()).context("binding port 68")?;
            Ok(socket.into())
        });
        let socket = opened.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
        Ok(Self { socket, mac, next_xid: 1 })
    }

    /// Sends a message and waits for its answer.
    pub(crate) fn ask(
        &mut self,
        to: (Ipv4Addr, u16),
        ciaddr: Ipv4Addr,
        options: &[(u8, &[u8])],
    ) -> Result<Answer> {
        let xid = self.send(to, ciaddr, options)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut buffer = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no answer from {to:?} within {ANSWER_TIMEOUT:?}");
            }
            self.socket.set_read_timeout(Some(left))?;
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { continue };
            if buffer[4..8] == xid.to_be_bytes() && buffer[0] == 2 {
                return Ok(read(from, &buffer[..length]));
            }
        }
    }

    /// Sends a message.
    pub(crate) fn send(
        &mut self,
        to: (Ipv4Addr, u16),
        ciaddr: Ipv4Addr,
        options: &[(u8, &[u8])],
    ) -> Result<u32> {
        let xid = self.next_xid;
        self.next_xid += 1;
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(xid.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(ciaddr.octets());
        bytes.extend([0; 12]);
        bytes.extend(self.mac);
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99]);
        for (code, value) in options {
            bytes.extend([*code, u8::try_from(value.len())?]);
            bytes.extend(*value);
        }
        bytes.push(255);
        self.socket.send_to(&bytes, SocketAddrV4::new(to.0, to.1)).context("sending")?;
        Ok(xid)
    }
}

fn read(from: SocketAddr, bytes: &[u8]) -> Answer {
    let address = |at: usize| {
        let octets: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
        Ipv4Addr::from(octets)
    };
    let (mut at, mut options) = (240, BTreeMap::new());
    while bytes[at] != 255 {
        let length = usize::from(bytes[at + 1]);
        options.insert(bytes[at], bytes[at + 2..at + 2 + length].to_vec());
        at += 2 + length;
    }
    let message = options[&53][0];
    Answer { from, message, yiaddr: address(16), siaddr: address(20), options }
}
