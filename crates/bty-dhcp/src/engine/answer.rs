//! The bytes of an answer.
//!
//! dhcproto writes the fixed part and the options; their order is ours: 53, 54 and 60 first, 82 last (RFC 3046 §2.1).

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use dhcproto::{
    Encodable, Encoder,
    v4::{self, Flags, HType, Opcode, OptionCode, encode_long_opt_bytes},
};

use super::{
    boot::Boot,
    exchange::Silence,
    ingress::{Ingress, Reply, ServerPort},
    options::code,
    request::{Message, Request},
    subnet::Subnet,
};

/// RFC 1542 §2.1: shorter messages are dropped by some clients and relays.
const SHORTEST: usize = 300;
/// What a client takes that doesn't say (RFC 2131 §2): 576 with the headers of IP and UDP.
const ASSUMED_SIZE: u16 = 576;
const HEADERS: usize = 28;
/// Never more than an Ethernet frame holds, whatever a client says (OVMF says 65280).
const LARGEST: usize = 1472;
/// What fits into `file` with its NUL.
const FILE_CHARACTERS: usize = 127;
const BROADCAST_FLAG: u16 = 0x8000;

/// What is answered.
#[derive(Debug)]
pub(super) struct Answering<'a> {
    pub(super) request: &'a Request,
    pub(super) ingress: &'a Ingress,
    pub(super) message: Message,
    /// The address that is given; `None` from a proxy and in a NAK.
    pub(super) leased: Option<Ipv4Addr>,
    /// What the network is like; from a full server alone.
    pub(super) subnet: Option<&'a Subnet>,
    pub(super) boot: Option<&'a Boot>,
    /// What a NAK says.
    pub(super) refusal: &'a str,
}

/// Options in the order in which they are written.
#[derive(Debug, Default)]
struct Chosen(Vec<(u8, Vec<u8>)>);

impl Chosen {
    fn add(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        self.0.push((code, value.into()));
    }

    fn echo(&mut self, request: &Request, code: u8) {
        if let Some(value) = request.options.get(code) {
            self.add(code, value);
        }
    }
}

impl Answering<'_> {
    /// Writes the answer.
    pub(super) fn reply(&self) -> Result<Reply, Silence> {
        let most = self.most_bytes();
        let mut options = self.options();
        let mut bytes = self.write(&options);
        // `file` and siaddr say the same as 67 and 66; RFC 6842's echo is a courtesy to those who send long ones.
        for spare in [code::CLIENT_ID, code::TFTP_SERVER, code::BOOT_FILE] {
            let file_says_it = self.boot.is_none_or(|boot| boot.file.len() <= FILE_CHARACTERS);
            if bytes.len() > most && (spare != code::BOOT_FILE || file_says_it) {
                options.0.retain(|(code, _)| *code != spare);
                bytes = self.write(&options);
            }
        }
        if bytes.len() > most {
            return Err(Silence::TooLong(most));
        }
        bytes.resize(bytes.len().max(SHORTEST), 0);
        let (destination, interface) = self.destination();
        Ok(Reply {
            bytes,
            destination,
            source_port: self.ingress.port,
            source: self.ingress.address,
            interface,
        })
    }

    fn most_bytes(&self) -> usize {
        let told = self.request.options.u16(code::MAX_SIZE).unwrap_or(ASSUMED_SIZE);
        (usize::from(told.max(ASSUMED_SIZE)) - HEADERS).min(LARGEST)
    }

    fn is_nak(&self) -> bool {
        self.message == Message::Nak
    }

    fn options(&self) -> Chosen {
        let mut chosen = Chosen::default();
        let server = self.ingress.address;
        chosen.add(code::MESSAGE_TYPE, [self.message.code()]);
        chosen.add(code::SERVER_ID, server.octets());
        if let Some(class) = self.boot.and_then(|boot| boot.class) {
            chosen.add(code::VENDOR_CLASS, class);
        }
        if self.is_nak() {
            chosen.add(code::MESSAGE, self.refusal);
        }
        if let Some(subnet) = self.subnet.filter(|_| !self.is_nak()) {
            self.network(&mut chosen, subnet);
        }
        if let Some(boot) = self.boot {
            self.booting(&mut chosen, boot);
        }
        chosen.echo(self.request, code::CLIENT_ID);
        if !self.is_nak() {
            chosen.echo(self.request, code::MACHINE_ID);
        }
        if self.request.is_relayed() {
            chosen.echo(self.request, code::RELAY_AGENT);
        }
        chosen
    }

    fn network(&self, chosen: &mut Chosen, subnet: &Subnet) {
        if self.leased.is_some() {
            let lease = subnet.lease();
            // RFC 2131 §4.4.5.
            chosen.add(code::LEASE_TIME, seconds(lease));
            chosen.add(code::RENEWAL, seconds(lease / 2));
            chosen.add(code::REBINDING, seconds(lease * 7 / 8));
        }
        // The mask before the router (RFC 2132 §3.3).
        chosen.add(code::SUBNET_MASK, subnet.mask().octets());
        if let Some(router) = subnet.router() {
            chosen.add(code::ROUTER, router.octets());
        }
        if !subnet.dns().is_empty() {
            let addresses: Vec<u8> = subnet.dns().iter().flat_map(Ipv4Addr::octets).collect();
            chosen.add(code::DNS, addresses);
        }
        let name = subnet.reservation(self.request.mac).map(|reservation| &reservation.hostname);
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            chosen.add(code::HOSTNAME, name.as_bytes());
        }
    }

    fn booting(&self, chosen: &mut Chosen, boot: &Boot) {
        if let Some(vendor) = &boot.vendor {
            chosen.add(code::VENDOR, vendor.as_slice());
        }
        if boot.by_tftp {
            let mut name = self.ingress.address.to_string().into_bytes();
            name.extend(boot.nul_in_server_name.then_some(0));
            chosen.add(code::TFTP_SERVER, name);
        }
        if !boot.file.is_empty() {
            // EDK2 and other firmware write a NUL behind it without asking whether there is room.
            let mut file = boot.file.clone().into_bytes();
            file.push(0);
            chosen.add(code::BOOT_FILE, file);
        }
        if let Some(ipxe) = &boot.ipxe {
            chosen.add(code::IPXE, ipxe.as_slice());
        }
    }

    fn write(&self, options: &Chosen) -> Vec<u8> {
        let request = self.request;
        let zero = Ipv4Addr::UNSPECIFIED;
        let siaddr = self.boot.map_or(zero, |_| self.ingress.address);
        let ciaddr = if self.message == Message::Ack { request.ciaddr } else { zero };
        let mut message = v4::Message::new_with_id(
            request.xid,
            ciaddr,
            self.leased.unwrap_or(zero),
            siaddr,
            request.giaddr,
            &request.mac.bytes(),
        );
        message
            .set_opcode(Opcode::BootReply)
            .set_htype(HType::from(request.hardware_type))
            .set_hops(request.hops)
            .set_secs(request.secs)
            .set_flags(Flags::from(self.flags()));
        if let Some(boot) = self.boot {
            if boot.by_tftp {
                message.set_sname(self.ingress.address.to_string().as_bytes());
            }
            if (1..=FILE_CHARACTERS).contains(&boot.file.len()) {
                message.set_fname(boot.file.as_bytes());
            }
        }
        let mut bytes = Vec::with_capacity(LARGEST);
        let mut encoder = Encoder::new(&mut bytes);
        // Writing into memory has no way to fail.
        let written = message.encode(&mut encoder).and_then(|()| {
            options.0.iter().try_for_each(|(code, value)| {
                encode_long_opt_bytes(OptionCode::from(*code), value, &mut encoder)
            })?;
            encoder.write_u8(OptionCode::End.into())
        });
        debug_assert!(written.is_ok(), "encoding failed: {written:?}");
        bytes
    }

    /// A relay delivers by broadcast what has no address to go to (RFC 1542 §4.1.2), and so must a NAK (RFC 2131 §4.3.2).
    fn flags(&self) -> u16 {
        let has_address = self.leased.is_some() || !self.request.ciaddr.is_unspecified();
        if has_address && !self.is_nak() {
            self.request.flags
        } else {
            self.request.flags | BROADCAST_FLAG
        }
    }

    /// Where the answer goes, and out of which interface (RFC 2131 §4.1). A client without an address is always answered by
    /// broadcast: unicast to an address that it doesn't have yet would need raw frames, and nobody refuses broadcasts.
    fn destination(&self) -> (SocketAddrV4, Option<u32>) {
        let request = self.request;
        let ingress = self.ingress;
        if request.is_relayed() && ingress.port == ServerPort::Dhcp {
            return (SocketAddrV4::new(request.giaddr, 67), None);
        }
        let unicast =
            |to: SocketAddrV4| (to, ingress.is_on_link(*to.ip()).then_some(ingress.index));
        if ingress.port == ServerPort::Pxe && !ingress.source.ip().is_unspecified() {
            return unicast(ingress.source);
        }
        if !request.ciaddr.is_unspecified() && !self.is_nak() {
            return unicast(SocketAddrV4::new(request.ciaddr, 68));
        }
        (SocketAddrV4::new(Ipv4Addr::BROADCAST, 68), Some(ingress.index))
    }
}

fn seconds(duration: Duration) -> [u8; 4] {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).to_be_bytes()
}
