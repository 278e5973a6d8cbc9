//! A message from a client, read from the bytes of a datagram.

use std::{fmt, net::Ipv4Addr};

use bty_types::MacAddr;
use dhcproto::v4::{MAGIC, borrowed};

use super::options::{Options, code};

/// The fixed part of a message with the magic cookie (RFC 2131 §2).
const FIXED_BYTES: usize = 240;
/// No client has reason to send more; the largest seen are below 600 bytes.
const MOST_BYTES: usize = 4096;
/// Of a text from the LAN that is shown to people, so many characters are kept.
const SHOWN_CHARACTERS: usize = 64;

/// Why a datagram is not a DHCP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than the fixed part.
    #[error("it is shorter than a DHCP message")]
    TooShort,
    /// Longer than any client's.
    #[error("it is longer than any client's DHCP message")]
    TooLong,
    /// Without the magic cookie.
    #[error("it lacks the magic cookie of DHCP")]
    Cookie,
    /// Neither a request nor a reply.
    #[error("its op field is neither request nor reply")]
    Op,
    /// Not one Ethernet card's address.
    #[error("its hardware address is not one Ethernet card's")]
    HardwareAddress,
    /// An option that says it is longer than what is left.
    #[error("its option {code} runs past the end")]
    OptionBeyondEnd {
        /// The option.
        code: u8,
    },
    /// An option of the wrong length.
    #[error("its option {code} has the wrong length")]
    OptionLength {
        /// The option.
        code: u8,
    },
}

/// A DHCP message type (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPOFFER.
    Offer,
    /// DHCPREQUEST.
    Request,
    /// DHCPDECLINE.
    Decline,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
    /// DHCPRELEASE.
    Release,
    /// DHCPINFORM.
    Inform,
    /// Another, by its number.
    Other(u8),
}

impl Message {
    const fn of_code(code: u8) -> Self {
        match code {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            other => Self::Other(other),
        }
    }

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Decline => 4,
            Self::Ack => 5,
            Self::Nak => 6,
            Self::Release => 7,
            Self::Inform => 8,
            Self::Other(code) => code,
        }
    }

    /// Its name without "DHCP", as the log shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discover => "DISCOVER",
            Self::Offer => "OFFER",
            Self::Request => "REQUEST",
            Self::Decline => "DECLINE",
            Self::Ack => "ACK",
            Self::Nak => "NAK",
            Self::Release => "RELEASE",
            Self::Inform => "INFORM",
            Self::Other(_) => "OTHER",
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who sent it: the op field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Request,
    Reply,
}

/// A message from a client (or, with [`Op::Reply`], from another server), with everything that an answer copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) op: Op,
    pub(super) hardware_type: u8,
    pub(super) hops: u8,
    pub(super) xid: u32,
    pub(super) secs: u16,
    pub(super) flags: u16,
    pub(super) ciaddr: Ipv4Addr,
    /// Of a reply alone: what its server gives.
    pub(super) yiaddr: Ipv4Addr,
    pub(super) giaddr: Ipv4Addr,
    pub(super) mac: MacAddr,
    pub(super) file: Vec<u8>,
    /// `None` for plain BOOTP.
    pub(super) message: Option<Message>,
    pub(super) requested: Option<Ipv4Addr>,
    pub(super) server_id: Option<Ipv4Addr>,
    pub(super) options: Options,
}

impl Request {
    /// Reads a datagram.
    pub(super) fn parse(datagram: &[u8]) -> Result<Self, Malformed> {
        if datagram.len() < FIXED_BYTES {
            return Err(Malformed::TooShort);
        }
        if datagram.len() > MOST_BYTES {
            return Err(Malformed::TooLong);
        }
        if datagram.get(236..FIXED_BYTES) != Some(MAGIC.as_slice()) {
            return Err(Malformed::Cookie);
        }
        let header = borrowed::Message::new(datagram).map_err(|_| Malformed::TooShort)?;
        let op = match u8::from(header.opcode()) {
            1 => Op::Request,
            2 => Op::Reply,
            _ => return Err(Malformed::Op),
        };
        // Not `header.chaddr()`: it trusts a length of up to 255.
        let mac: Option<[u8; 6]> = datagram
            .get(28..34)
            .and_then(|bytes| bytes.try_into().ok())
            .filter(|_| header.hlen() == 6);
        let mac =
            mac.and_then(|bytes| MacAddr::new(bytes).ok()).ok_or(Malformed::HardwareAddress)?;
        let options = Options::of_message(datagram)?;
        let message = match options.get(code::MESSAGE_TYPE) {
            None => None,
            Some(&[number]) => Some(Message::of_code(number)),
            Some(_) => return Err(Malformed::OptionLength { code: code::MESSAGE_TYPE }),
        };
        Ok(Self {
            op,
            hardware_type: header.htype().into(),
            hops: header.hops(),
            xid: header.xid(),
            secs: header.secs(),
            flags: header.flags().into(),
            ciaddr: header.ciaddr(),
            yiaddr: header.yiaddr(),
            giaddr: header.giaddr(),
            mac,
            file: if options.are_in_file() { Vec::new() } else { header.fname().to_vec() },
            message,
            requested: options.address(code::REQUESTED_ADDRESS)?,
            server_id: options.address(code::SERVER_ID)?,
            options,
        })
    }

    /// Whether a relay passed it on (RFC 1542 §4.1).
    pub(super) const fn is_relayed(&self) -> bool {
        !self.giaddr.is_unspecified()
    }

    pub(super) fn vendor_class(&self) -> &[u8] {
        self.options.get(code::VENDOR_CLASS).unwrap_or_default()
    }

    /// The client's UUID (option 97, RFC 4578 §2.3); `None` where it is absent, of another type or length, or all zeros, which
    /// is what firmware without one sends.
    pub(super) fn uuid(&self) -> Option<[u8; 16]> {
        let (kind, uuid) = self.options.get(code::MACHINE_ID)?.split_first()?;
        let uuid: [u8; 16] = uuid.try_into().ok()?;
        (*kind == 0 && uuid != [0; 16]).then_some(uuid)
    }
}

/// The printable part of a text from the LAN, cut to what a person can read.
pub(super) fn printable(text: &[u8]) -> String {
    let graphic = |byte: &&u8| byte.is_ascii_graphic() || **byte == b' ';
    text.iter().filter(graphic).take(SHOWN_CHARACTERS).map(|&byte| char::from(byte)).collect()
}
