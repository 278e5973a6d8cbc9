//! DHCP for netboot as a function of packets and time: who gets what, and why.
//!
//! A datagram goes in with where it came from; an answer, a record of what was decided and the changes of leases come out.
//! There is no socket, clock, task or log here. The decision table is that of PXE 2.1, UEFI 2.10 §24 and what firmware does
//! in the field; each deviation is explained where it is made.

mod answer;
mod boot;
mod client;
mod exchange;
mod full;
mod ingress;
mod leases;
mod options;
mod overheard;
mod pace;
mod probe;
mod recent;
mod request;
mod rules;
mod servers;
mod subnet;

use std::{net::Ipv4Addr, time::SystemTime};

pub use boot::{BootFiles, Pair};
pub use client::{Architecture, Client};
pub use exchange::{Answer, Exchange, Sender, Silence, Verdict};
pub use ingress::{Ingress, Reply, ServerPort};
pub use leases::{Lease, LeaseChange};
pub use overheard::Overheard;
pub use probe::Probe;
pub use recent::Recent;
pub use request::{Malformed, Message};
pub use rules::{Directory, Knows, MachineFacts, Mode, Rules};
pub use servers::{News, OtherServer, Servers};
pub use subnet::{Reservation, Subnet, SubnetError, SubnetText};

use answer::Answering;
use boot::{Asked, Boot, Booter, Way};
use full::{Decision, Desk};
use leases::Leases;
use options::code;
use pace::Pace;
use request::{Op, Request, printable};

/// What is to be done about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The answer. It may go out only after `changes` are on disk.
    pub reply: Option<Reply>,
    /// What was decided.
    pub record: Exchange,
    /// Changes of leases.
    pub changes: Vec<LeaseChange>,
}

/// The server without its sockets.
#[derive(Debug)]
pub struct Engine {
    mode: Mode,
    subnets: Vec<Subnet>,
    booter: Booter,
    leases: Leases,
    pace: Pace,
}

/// A decision about a packet: its verdict, the answer's bytes where there is one, and the changes of leases.
type Decided = (Verdict, Option<Reply>, Vec<LeaseChange>);

impl Engine {
    /// A server with this task, and with the leases that an earlier run left.
    pub fn new(
        now: SystemTime,
        rules: Rules,
        earlier: impl IntoIterator<Item = LeaseChange>,
    ) -> Self {
        let mut leases = Leases::default();
        for change in earlier {
            leases.restore(now, change, &rules.subnets);
        }
        Self {
            mode: rules.mode,
            subnets: rules.subnets,
            booter: Booter::new(rules.files),
            leases,
            pace: Pace::default(),
        }
    }

    /// The leases that run, by address, and whether each address is reserved.
    pub fn leases(&self, now: SystemTime) -> Vec<(Lease, bool)> {
        let is_reserved =
            |address| self.subnets.iter().any(|subnet: &Subnet| subnet.is_reserved(address));
        self.leases.running(now).map(|lease| (lease.clone(), is_reserved(lease.address))).collect()
    }

    /// How many leases run.
    pub fn count_leases(&self, now: SystemTime) -> usize {
        self.leases.count(now)
    }

    /// The changes that rebuild the state of the leases.
    pub fn lease_changes(&self, now: SystemTime) -> Vec<LeaseChange> {
        self.leases.changes(now)
    }

    /// Of the addresses of an interface, the one to serve by: that in a subnet which is configured for it, else the first.
    pub fn address_to_serve_by<'a>(
        &self,
        interface: &str,
        addresses: &'a [(Ipv4Addr, u8)],
    ) -> Option<&'a (Ipv4Addr, u8)> {
        let in_subnet = |(address, _): &&(Ipv4Addr, u8)| {
            self.subnets
                .iter()
                .any(|subnet| subnet.interface() == interface && subnet.contains(*address))
        };
        addresses.iter().find(in_subnet).or_else(|| addresses.first())
    }

    /// Decides about a datagram.
    pub fn handle(
        &mut self,
        now: SystemTime,
        ingress: &Ingress,
        datagram: &[u8],
        directory: &dyn Knows,
    ) -> Outcome {
        let record = |sender, verdict| Exchange {
            interface: ingress.interface.clone(),
            port: ingress.port,
            sender,
            verdict,
        };
        let request = match Request::parse(datagram) {
            Ok(request) => request,
            Err(malformed) => {
                let verdict = Verdict::Silent(Silence::Malformed(malformed));
                return Outcome { reply: None, record: record(None, verdict), changes: Vec::new() };
            }
        };
        let client = Client::of(&request);
        let way = match request.op {
            Op::Request => self.booter.way(now, request.mac, client),
            Op::Reply => Way::Pxe,
        };
        let asked = Asked {
            architecture: Architecture::of(&request),
            server: ingress.address,
            request: &request,
            client,
            way,
            facts: directory.facts(request.mac),
        };
        let sender = Some(describe(&asked));
        let (verdict, reply, changes) = match self.decide(now, ingress, &asked) {
            Ok(decided) => decided,
            Err(silence) => (Verdict::Silent(silence), None, Vec::new()),
        };
        Outcome { reply, record: record(sender, verdict), changes }
    }

    fn decide(
        &mut self,
        now: SystemTime,
        ingress: &Ingress,
        asked: &Asked<'_>,
    ) -> Result<Decided, Silence> {
        let request = asked.request;
        if request.op == Op::Reply {
            return Err(another_server(ingress, request));
        }
        if self.mode == Mode::Off {
            return Err(Silence::Off);
        }
        if !self.pace.admits(now, request.mac) {
            return Err(Silence::TooOften);
        }
        let message = request.message.ok_or(Silence::Bootp)?;
        let may_boot = asked.facts.netboot;
        match (ingress.port, self.mode) {
            (ServerPort::Pxe, _) => self.boot_service(ingress, asked, message, may_boot),
            (ServerPort::Dhcp, Mode::Full) => {
                let desk = Desk { now, ingress, request, message };
                Ok(self.full(&desk, asked, may_boot))
            }
            (ServerPort::Dhcp, _) => self.proxy(ingress, asked, message, may_boot),
        }
    }

    /// Port 4011 (PXE 2.1 §2.2.5): a client that has an address asks for its boot file.
    fn boot_service(
        &self,
        ingress: &Ingress,
        asked: &Asked<'_>,
        message: Message,
        may_boot: bool,
    ) -> Result<Decided, Silence> {
        if !matches!(message, Message::Request | Message::Inform)
            || matches!(asked.client, Client::Plain | Client::FirmwareHttp)
        {
            return Err(Silence::NotForPort4011);
        }
        self.boot_answer(ingress, asked, Message::Ack, may_boot)
    }

    /// Port 67 beside the LAN's own server: a DISCOVER of a client that netboots gets an offer without an address.
    fn proxy(
        &self,
        ingress: &Ingress,
        asked: &Asked<'_>,
        message: Message,
        may_boot: bool,
    ) -> Result<Decided, Silence> {
        if asked.client == Client::Plain {
            return Err(Silence::PlainClient);
        }
        match (message, asked.request.server_id) {
            (Message::Discover, _) => self.boot_answer(ingress, asked, Message::Offer, may_boot),
            (Message::Request, Some(server)) if server != ingress.address => {
                Err(Silence::OtherServer(server))
            }
            (Message::Request | Message::Inform, _) => Err(Silence::ProxyOnPort67(message)),
            (other, _) => Err(Silence::OtherMessage(other)),
        }
    }

    fn boot_answer(
        &self,
        ingress: &Ingress,
        asked: &Asked<'_>,
        message: Message,
        may_boot: bool,
    ) -> Result<Decided, Silence> {
        if !may_boot {
            return Err(Silence::ToldNotTo);
        }
        let boot = self.booter.decide(asked, self.mode, ingress.port)?;
        let answering = Answering {
            request: asked.request,
            ingress,
            message,
            leased: None,
            subnet: None,
            boot: Some(&boot),
            refusal: "",
        };
        let reply = answering.reply()?;
        let answer = Answer {
            message,
            leased: None,
            boot_file: boot.file,
            reason: boot.reason,
            no_boot: None,
        };
        Ok((Verdict::Answered(answer), Some(reply), Vec::new()))
    }

    /// Port 67 as the LAN's own server: everybody gets an address, and who netboots a boot file with it.
    fn full(&mut self, desk: &Desk<'_>, asked: &Asked<'_>, may_boot: bool) -> Decided {
        let (boot, no_boot) = match self.booter.decide(asked, self.mode, ServerPort::Dhcp) {
            _ if !may_boot => (None, Some(Silence::ToldNotTo)),
            Ok(boot) => (Some(boot), None),
            Err(Silence::PlainClient) => (None, None),
            Err(silence) => (None, Some(silence)),
        };
        let boot_reason = match (&boot, &no_boot) {
            (Some(boot), _) => boot.reason.clone(),
            (None, Some(silence)) => silence.to_string(),
            (None, None) => "a lease without boot options".to_owned(),
        };
        let decided = desk.decide(&mut self.leases, &self.subnets);
        let changes = decided.changes;
        let (message, leased, boot, reason) = match decided.decision {
            Decision::Offer(address) => (Message::Offer, Some(address), boot, boot_reason),
            Decision::Ack(address) => (Message::Ack, Some(address), boot, boot_reason),
            Decision::Inform => (Message::Ack, None, boot, boot_reason),
            Decision::Nak(reason) => (Message::Nak, None, None, reason),
            Decision::Silent(silence) => return (Verdict::Silent(silence), None, changes),
        };
        let reply = Answering {
            request: asked.request,
            ingress: desk.ingress,
            message,
            leased,
            subnet: decided.subnet,
            boot: boot.as_ref(),
            refusal: &reason,
        }
        .reply();
        let verdict = match &reply {
            Ok(_) => {
                let boot_file = boot.map(|boot: Boot| boot.file).unwrap_or_default();
                Verdict::Answered(Answer { message, leased, boot_file, reason, no_boot })
            }
            Err(silence) => Verdict::Silent(silence.clone()),
        };
        (verdict, reply.ok(), changes)
    }
}

/// A reply that came to a server's port: through a relay, or somebody's mistake. Worth knowing where two servers quarrel.
fn another_server(ingress: &Ingress, request: &Request) -> Silence {
    let source = ingress.source;
    Silence::ServerReply(Overheard::in_reply(request, *source.ip(), source.port()))
}

fn describe(asked: &Asked<'_>) -> Sender {
    let request = asked.request;
    Sender {
        mac: request.mac,
        xid: request.xid,
        message: request.message,
        architecture: asked.architecture,
        vendor_class: printable(request.vendor_class()),
        user_class: printable(request.options.get(code::USER_CLASS).unwrap_or_default()),
        uuid: request.uuid(),
        client: asked.client,
        relay: request.is_relayed().then_some(request.giaddr),
        by_http: asked.way == Way::Http,
    }
}

#[cfg(test)]
mod tests;
