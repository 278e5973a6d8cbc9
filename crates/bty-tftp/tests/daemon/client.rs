//! A client that can do what no proper client does: lose what it was sent, lie, and stop.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use crate::server::DEADLINE;

pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    server: SocketAddrV4,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    Data(u16, Vec<u8>),
    Error(u16, String),
    Oack(String),
}

impl Client {
    pub(crate) fn new(server: SocketAddrV4) -> Self {
        Self::at(server, Ipv4Addr::LOCALHOST)
    }

    /// A client at an address of its own.
    pub(crate) fn at(server: SocketAddrV4, address: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        Self { socket, server }
    }

    pub(crate) fn request(&self, file: &str, options: &[(&str, &str)]) {
        self.socket.send_to(&rrq(file, options), self.server).unwrap();
    }

    pub(crate) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        self.socket.send_to(datagram, to).unwrap();
    }

    pub(crate) fn ack(&self, to: SocketAddr, block: u16) {
        let [high, low] = block.to_be_bytes();
        self.send(to, &[0, 4, high, low]);
    }

    /// The next packet; `None` where none comes in this time.
    pub(crate) fn receive_within(&self, time: Duration) -> Option<(Packet, SocketAddr)> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut buffer = vec![0; 65536];
        match self.socket.recv_from(&mut buffer) {
            Ok((length, from)) => Some((Packet::read(&buffer[..length]), from)),
            Err(problem)
                if matches!(problem.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                None
            }
            Err(problem) => panic!("{problem}"),
        }
    }

    pub(crate) fn receive(&self) -> (Packet, SocketAddr) {
        self.receive_within(DEADLINE).expect("the server does not answer")
    }

    /// What the server says to a request.
    pub(crate) fn ask(&self, file: &str, options: &[(&str, &str)]) -> Packet {
        self.request(file, options);
        self.receive().0
    }

    /// Fetches a file. `loses` is asked for each DATA whether it is lost on its way.
    pub(crate) fn fetch(
        &self,
        file: &str,
        options: &[(&str, &str)],
        mut loses: impl FnMut() -> bool,
    ) -> Result<Vec<u8>, (u16, String)> {
        let begin = Instant::now();
        self.request(file, options);
        let (mut block_bytes, mut window) = (512, 1);
        let (mut content, mut has, mut in_window) = (Vec::new(), 0_u16, 0);
        let mut server = None;
        loop {
            assert!(begin.elapsed() < DEADLINE * 3, "fetching {file} takes too long");
            let Some((packet, from)) = self.receive_within(Duration::from_millis(500)) else {
                match server {
                    Some(server) => self.ack(server, has),
                    None => self.request(file, options),
                }
                continue;
            };
            server = Some(from);
            match packet {
                Packet::Error(code, text) => return Err((code, text)),
                Packet::Oack(options) => {
                    let value = |name: &str| {
                        let mut words = options.split('\0');
                        words.find(|word| *word == name)?;
                        words.next()?.parse().ok()
                    };
                    block_bytes = value("blksize").unwrap_or(512);
                    window = value("windowsize").unwrap_or(1);
                    self.ack(from, 0);
                }
                Packet::Data(..) if loses() => {}
                Packet::Data(number, payload) if number == has.wrapping_add(1) => {
                    has = number;
                    in_window += 1;
                    content.extend(&payload);
                    let is_last = payload.len() < block_bytes;
                    if is_last || in_window == window {
                        in_window = 0;
                        self.ack(from, has);
                    }
                    if is_last {
                        return Ok(content);
                    }
                }
                Packet::Data(..) if in_window > 0 || window == 1 => {
                    in_window = 0;
                    self.ack(from, has);
                }
                Packet::Data(..) => {}
            }
        }
    }
}

impl Packet {
    fn read(datagram: &[u8]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match datagram {
            [0, 3, high, low, payload @ ..] => {
                Self::Data(u16::from_be_bytes([*high, *low]), payload.to_vec())
            }
            [0, 5, high, low, message @ .., 0] => {
                Self::Error(u16::from_be_bytes([*high, *low]), text(message))
            }
            [0, 6, options @ ..] => Self::Oack(text(options)),
            other => panic!("a server never sends {other:?}"),
        }
    }
}

/// A read request as it stands on the wire.
pub(crate) fn rrq(file: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut datagram = vec![0, 1];
    let words = [file, "octet"].into_iter();
    for word in words.chain(options.iter().flat_map(|(name, value)| [*name, *value])) {
        datagram.extend(word.bytes());
        datagram.push(0);
    }
    datagram
}
