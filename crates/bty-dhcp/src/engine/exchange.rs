//! What became of a packet: the record that people read when a machine doesn't boot.

use std::{net::Ipv4Addr, sync::Arc};

use bty_types::MacAddr;

use super::{
    client::{Architecture, Client},
    ingress::ServerPort,
    overheard::Overheard,
    pace::{MOST_PACKETS, WINDOW},
    request::{Malformed, Message},
};

/// One packet and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The interface it came in by.
    pub interface: Arc<str>,
    /// The port it came to.
    pub port: ServerPort,
    /// Who sent it; `None` where it isn't a DHCP message.
    pub sender: Option<Sender>,
    /// What was done.
    pub verdict: Verdict,
}

/// Who sent a packet, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// Its card.
    pub mac: MacAddr,
    /// The transaction.
    pub xid: u32,
    /// The message; `None` for plain BOOTP.
    pub message: Option<Message>,
    /// Option 93.
    pub architecture: Option<Architecture>,
    /// Option 60, printable part.
    pub vendor_class: String,
    /// Option 77, printable part.
    pub user_class: String,
    /// Option 97.
    pub uuid: Option<[u8; 16]>,
    /// What kind of client it is.
    pub client: Client,
    /// The relay it came through.
    pub relay: Option<Ipv4Addr>,
    /// Whether the machine's firmware came by UEFI HTTP Boot, this time or just before (for iPXE).
    pub by_http: bool,
}

/// What was done with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was answered.
    Answered(Answer),
    /// It was not.
    Silent(Silence),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// OFFER, ACK or NAK.
    pub message: Message,
    /// The address that was given or confirmed.
    pub leased: Option<Ipv4Addr>,
    /// The boot file that was named; empty where none was.
    pub boot_file: String,
    /// Why this answer: one sentence.
    pub reason: String,
    /// Why a client that netboots got an address but nothing to boot.
    pub no_boot: Option<Silence>,
}

impl Verdict {
    /// Why it was answered so, or not at all: one sentence.
    pub fn reason(&self) -> String {
        match self {
            Self::Answered(answer) => answer.reason.clone(),
            Self::Silent(silence) => silence.to_string(),
        }
    }
}

/// Why a packet got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// It is not a DHCP message.
    #[error("not a DHCP message from a client: {0}")]
    Malformed(Malformed),
    /// `mode = "off"`.
    #[error("bty-dhcp is off")]
    Off,
    /// It comes from another server.
    #[error("another DHCP server, {}, was heard{}", .0.server, boot_file_clause(&.0.boot_file))]
    ServerReply(Overheard),
    /// It asks faster than any client does that means it.
    #[error("it asks too often: {} packets in {} s", MOST_PACKETS, WINDOW.as_secs())]
    TooOften,
    /// BOOTP without DHCP.
    #[error("it is plain BOOTP, without a DHCP message type")]
    Bootp,
    /// A message that no client sends to a server.
    #[error("a server has no answer to DHCP message {}", .0.code())]
    OtherMessage(Message),
    /// A proxy's place is beside the LAN's own server.
    #[error("it doesn't netboot; the LAN's own DHCP server answers it")]
    PlainClient,
    /// On port 67, a proxy answers discovers alone.
    #[error("a proxy gives no addresses: it answers a {0} only on port 4011")]
    ProxyOnPort67(Message),
    /// The client took another server's offer.
    #[error("the client took the offer of another server, {0}")]
    OtherServer(Ipv4Addr),
    /// There is no program for this architecture.
    #[error("there is no boot program for {} of architecture {}", client.noun(), architecture.0)]
    Architecture {
        /// What asked.
        client: Client,
        /// Its option 93.
        architecture: Architecture,
    },
    /// The configuration says so.
    #[error("the configuration says not to netboot this machine")]
    ToldNotTo,
    /// Port 4011 is for PXE clients that have an address.
    #[error("port 4011 answers a REQUEST or INFORM of a PXE client, and no other")]
    NotForPort4011,
    /// Option 43.71 asks for a signed boot program.
    #[error("it asks for a boot program with PXE's own signatures (BIS), which there is not")]
    SignedBoot,
    /// No subnet is configured where it came from.
    #[error("no [[dhcp.subnet]] is for where it came from")]
    NoSubnet,
    /// Every address is taken.
    #[error("every address of the subnet {0} is taken")]
    Exhausted(String),
    /// Nothing is known of the address that it holds, so another server may have given it (RFC 2131 §4.3.2).
    #[error("nothing is known of its address {0}, so it may be another server's")]
    UnknownLease(Ipv4Addr),
    /// A REQUEST that asks for no address.
    #[error("its REQUEST names no address")]
    NoAddressAsked,
    /// DECLINE takes no answer.
    #[error("it found {0} in use by somebody else; the address rests for a while")]
    Declined(Ipv4Addr),
    /// RELEASE takes no answer.
    #[error("it gave {0} back")]
    Released(Ipv4Addr),
    /// Of an address that isn't its own.
    #[error("{0} is not its address")]
    NotItsAddress(Ipv4Addr),
    /// The answer doesn't fit.
    #[error("the answer doesn't fit the {0} bytes that the client takes")]
    TooLong(usize),
}

impl Silence {
    /// A word for metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Off => "off",
            Self::ServerReply(_) => "server_reply",
            Self::TooOften => "too_often",
            Self::Bootp => "bootp",
            Self::OtherMessage(_) => "other_message",
            Self::PlainClient => "plain_client",
            Self::ProxyOnPort67(_) => "proxy_on_port_67",
            Self::OtherServer(_) => "other_server",
            Self::Architecture { .. } => "architecture",
            Self::ToldNotTo => "told_not_to",
            Self::NotForPort4011 => "not_for_port_4011",
            Self::SignedBoot => "signed_boot",
            Self::NoSubnet => "no_subnet",
            Self::Exhausted(_) => "exhausted",
            Self::UnknownLease(_) => "unknown_lease",
            Self::NoAddressAsked => "no_address_asked",
            Self::Declined(_) => "declined",
            Self::Released(_) => "released",
            Self::NotItsAddress(_) => "not_its_address",
            Self::TooLong(_) => "too_long",
        }
    }

    /// Whether a machine that wants to netboot fails here, so that somebody should be told.
    pub const fn is_failed_boot(&self) -> bool {
        matches!(
            self,
            Self::Architecture { .. } | Self::SignedBoot | Self::Exhausted(_) | Self::TooLong(_)
        )
    }
}

fn boot_file_clause(boot_file: &str) -> String {
    if boot_file.is_empty() {
        String::new()
    } else {
        format!("; it names the boot file {boot_file}")
    }
}
