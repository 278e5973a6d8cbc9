//! The full server's half of a conversation: which address a client gets, keeps or must give up (RFC 2131 §4.3).

use std::{net::Ipv4Addr, time::SystemTime};

use super::{
    exchange::Silence,
    ingress::Ingress,
    leases::{LeaseChange, Leases},
    options::code,
    request::{Message, Request, printable},
    subnet::Subnet,
};

/// What the full server does about a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Offers an address.
    Offer(Ipv4Addr),
    /// Confirms an address.
    Ack(Ipv4Addr),
    /// Confirms a client that has its address from elsewhere (INFORM): options, but no lease.
    Inform,
    /// Refuses, with what the client is told.
    Nak(String),
    /// Nothing.
    Silent(Silence),
}

/// A decision, whose subnet it is in, and what must be on disk before it is told.
#[derive(Debug)]
pub(super) struct Decided<'a> {
    pub(super) decision: Decision,
    pub(super) subnet: Option<&'a Subnet>,
    pub(super) changes: Vec<LeaseChange>,
}

/// A packet at the full server.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) now: SystemTime,
    pub(super) ingress: &'a Ingress,
    pub(super) request: &'a Request,
    pub(super) message: Message,
}

impl Desk<'_> {
    /// Decides.
    pub(super) fn decide<'s>(&self, leases: &mut Leases, subnets: &'s [Subnet]) -> Decided<'s> {
        let Some((index, subnet)) = self.place(subnets) else {
            return Decided {
                decision: Decision::Silent(Silence::NoSubnet),
                subnet: None,
                changes: Vec::new(),
            };
        };
        let place = (index, subnet);
        let (decision, changes) = match self.message {
            Message::Discover => (self.discover(leases, place), Vec::new()),
            Message::Request => self.request(leases, place),
            Message::Inform => (Decision::Inform, Vec::new()),
            Message::Decline => self.decline(leases),
            Message::Release => self.release(leases),
            other => (Decision::Silent(Silence::OtherMessage(other)), Vec::new()),
        };
        Decided { decision, subnet: Some(subnet), changes }
    }

    /// The subnet that a client is on: the relay's, else that of the address it holds, else the interface's.
    fn place<'s>(&self, subnets: &'s [Subnet]) -> Option<(usize, &'s Subnet)> {
        let of = |address: Ipv4Addr| {
            subnets.iter().enumerate().find(|(_, subnet)| subnet.contains(address))
        };
        if self.request.is_relayed() {
            return of(self.request.giaddr);
        }
        let by_interface = || {
            subnets.iter().enumerate().find(|(_, subnet)| {
                subnet.interface() == &*self.ingress.interface
                    && subnet.contains(self.ingress.address)
            })
        };
        // A client that renews does so by unicast, through routers and past relays (§4.3.2).
        of(self.request.ciaddr).or_else(by_interface)
    }

    fn discover(&self, leases: &mut Leases, place: (usize, &Subnet)) -> Decision {
        let wanted = self.request.requested;
        let own = self.ingress.address;
        match leases.offer(self.now, place, self.request.mac, wanted, own) {
            Some(address) => Decision::Offer(address),
            None => Decision::Silent(Silence::Exhausted(place.1.to_string())),
        }
    }

    /// RFC 2131 §4.3.2, table 4.
    fn request(
        &self,
        leases: &mut Leases,
        place: (usize, &Subnet),
    ) -> (Decision, Vec<LeaseChange>) {
        let (index, subnet) = place;
        let mac = self.request.mac;
        let silent = |silence| (Decision::Silent(silence), Vec::new());
        let held = Some(self.request.ciaddr).filter(|address| !address.is_unspecified());
        match (self.request.server_id, self.request.requested, held) {
            // SELECTING, of somebody else's offer.
            (Some(server), _, _) if server != self.ingress.address => {
                leases.withdraw(mac, index);
                silent(Silence::OtherServer(server))
            }
            // SELECTING: what we offered, or, after a restart, what is free.
            (Some(_), requested, held) => match requested.or(held) {
                Some(address) => self.grant(leases, place, address),
                None => silent(Silence::NoAddressAsked),
            },
            // INIT-REBOOT.
            (None, Some(address), None) => {
                if !subnet.contains(address) {
                    refuse(format!("{address} is not an address of this network, {subnet}"))
                } else if leases.last(mac, index).is_none() && subnet.reservation(mac).is_none() {
                    silent(Silence::UnknownLease(address))
                } else if let Some(its) = leases.last(mac, index).filter(|&its| its != address) {
                    refuse(format!("the address of {mac} is {its}, not {address}"))
                } else {
                    self.grant(leases, place, address)
                }
            }
            // RENEWING, REBINDING. An address of ours that is free is confirmed even if the record of it was lost.
            (None, _, Some(address)) => {
                if subnet.contains(address) {
                    self.grant(leases, place, address)
                } else if self.request.is_relayed() {
                    refuse(format!("{address} is not an address of this network, {subnet}"))
                } else {
                    silent(Silence::UnknownLease(address))
                }
            }
            (None, None, None) => silent(Silence::NoAddressAsked),
        }
    }

    fn grant(
        &self,
        leases: &mut Leases,
        place: (usize, &Subnet),
        address: Ipv4Addr,
    ) -> (Decision, Vec<LeaseChange>) {
        let (_, subnet) = place;
        let mac = self.request.mac;
        let reserved = subnet.reservation(mac).map(|reservation| reservation.address);
        if let Some(reserved) = reserved
            && reserved != address
            && reserved != self.ingress.address
            && leases.is_free(self.now, reserved, mac)
        {
            return refuse(format!("{reserved} is reserved for {mac}, not {address}"));
        }
        if address == self.ingress.address || !subnet.is_for(address, mac) {
            return refuse(format!("{address} is not an address that {mac} may have"));
        }
        if !leases.is_free(self.now, address, mac) {
            return refuse(format!("{address} is taken"));
        }
        let hostname = printable(self.request.options.get(code::HOSTNAME).unwrap_or_default());
        let changes = leases.bind(self.now, place, mac, address, hostname);
        (Decision::Ack(address), changes)
    }

    fn decline(&self, leases: &mut Leases) -> (Decision, Vec<LeaseChange>) {
        let address = self.request.requested.unwrap_or(self.request.ciaddr);
        if !leases.has(self.now, self.request.mac, address) {
            return (Decision::Silent(Silence::NotItsAddress(address)), Vec::new());
        }
        (Decision::Silent(Silence::Declined(address)), leases.decline(self.now, address))
    }

    fn release(&self, leases: &mut Leases) -> (Decision, Vec<LeaseChange>) {
        let address = self.request.ciaddr;
        if !leases.has(self.now, self.request.mac, address) {
            return (Decision::Silent(Silence::NotItsAddress(address)), Vec::new());
        }
        (Decision::Silent(Silence::Released(address)), leases.release(address))
    }
}

fn refuse(reason: String) -> (Decision, Vec<LeaseChange>) {
    (Decision::Nak(reason), Vec::new())
}
