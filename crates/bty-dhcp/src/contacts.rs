//! What the registry is told: the first packet of each stage of a machine's boot, and boots that fail here.

use std::time::{Duration, SystemTime};

use bty_api::{
    convert::timestamp,
    registry::v1::Contact,
    types::v1::{BootPath, Platform, Stage},
};
use bty_types::MacAddr;

use crate::engine::{Architecture, Client, Exchange, Message, Recent, Sender, Silence, Verdict};

/// Machines whose latest contact is remembered.
const REMEMBERED: usize = 4096;
/// The same transaction again within this time is a repeat (EDK2 waits up to 32 s between two). Later it is another power-on:
/// iPXE for UEFI makes the same transaction id each time.
const LASTS: Duration = Duration::from_secs(40);
/// A boot that fails is told once in this time: firmware tries for minutes.
const FAILURES_APART: Duration = Duration::from_mins(1);
/// Machines that the registry doesn't know and that may be told of in a minute: a MAC address costs a forger nothing.
const NEWCOMERS_A_MINUTE: u32 = 300;

/// Chooses what the registry is told.
#[derive(Debug)]
pub(crate) struct Contacts {
    latest: Recent<MacAddr, Told>,
    failures: Recent<MacAddr, ()>,
    minute_began: SystemTime,
    newcomers: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    stage: Stage,
    xid: u32,
}

impl Default for Contacts {
    fn default() -> Self {
        Self {
            latest: Recent::new(REMEMBERED, LASTS),
            failures: Recent::new(REMEMBERED, FAILURES_APART),
            minute_began: SystemTime::UNIX_EPOCH,
            newcomers: 0,
        }
    }
}

impl Contacts {
    /// What the registry is told about an exchange; `is_known` says whether it knows the machine.
    pub(crate) fn of(
        &mut self,
        now: SystemTime,
        exchange: &Exchange,
        is_known: impl FnOnce(MacAddr) -> bool,
    ) -> Option<Contact> {
        let sender = exchange.sender.as_ref()?;
        let stage = stage(sender.client)?;
        let (failed, address) = match &exchange.verdict {
            Verdict::Answered(answer) if answer.message == Message::Offer => {
                (answer.no_boot.is_some(), answer.leased)
            }
            Verdict::Silent(silence) if silence.is_failed_boot() => (true, None),
            _ => return None,
        };
        if matches!(&exchange.verdict, Verdict::Answered(answer) if answer.no_boot == Some(Silence::ToldNotTo))
        {
            return None;
        }
        let is_fresh = if failed {
            let is_fresh = self.failures.get(now, &sender.mac).is_none();
            if is_fresh {
                self.failures.put(now, sender.mac, ());
            }
            is_fresh
        } else {
            let told = Told { stage, xid: sender.xid };
            let is_fresh = self.latest.get(now, &sender.mac) != Some(&told);
            self.latest.put(now, sender.mac, told);
            is_fresh
        };
        if !is_fresh || !(is_known(sender.mac) || self.admits_newcomer(now)) {
            return None;
        }
        Some(Contact {
            mac: sender.mac.to_string(),
            at: Some(timestamp(now)),
            stage: stage.into(),
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            path: path(sender).into(),
            detail: exchange.verdict.reason(),
            failed,
            platform: platform(sender).into(),
            ..Contact::default()
        })
    }

    fn admits_newcomer(&mut self, now: SystemTime) -> bool {
        let age = now.duration_since(self.minute_began);
        if age.is_err() || age.is_ok_and(|age| age >= Duration::from_mins(1)) {
            self.minute_began = now;
            self.newcomers = 0;
        }
        self.newcomers = self.newcomers.saturating_add(1);
        if self.newcomers == NEWCOMERS_A_MINUTE + 1 {
            tracing::warn!(
                "more machines than {NEWCOMERS_A_MINUTE} a minute are new; the rest are answered but not recorded"
            );
        }
        self.newcomers <= NEWCOMERS_A_MINUTE
    }
}

const fn stage(client: Client) -> Option<Stage> {
    match client {
        Client::FirmwarePxe | Client::FirmwareHttp | Client::RaspberryPi => Some(Stage::Firmware),
        Client::Ipxe | Client::OwnClass => Some(Stage::Ipxe),
        Client::Plain => None,
    }
}

fn platform(sender: &Sender) -> Platform {
    match sender.architecture.map(|Architecture(number)| number) {
        Some(0) => Platform::Bios,
        Some(7 | 9 | 16 | 17) => Platform::UefiX64,
        Some(11 | 19) => Platform::UefiArm64,
        _ => Platform::Unspecified,
    }
}

const fn path(sender: &Sender) -> BootPath {
    if sender.by_http { BootPath::Http } else { BootPath::Pxe }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Answer, ServerPort};

    fn exchange(last: u8, client: Client, xid: u32, verdict: Verdict) -> Exchange {
        let sender = Sender {
            mac: MacAddr::new([0x52, 0x54, 0, 0x77, 0, last]).unwrap(),
            xid,
            message: Some(Message::Discover),
            architecture: Some(Architecture(7)),
            vendor_class: String::new(),
            user_class: String::new(),
            uuid: None,
            client,
            relay: None,
            by_http: client == Client::FirmwareHttp,
        };
        let port = ServerPort::Dhcp;
        Exchange { interface: "eth0".into(), port, sender: Some(sender), verdict }
    }

    fn offered(no_boot: Option<Silence>) -> Verdict {
        Verdict::Answered(Answer {
            message: Message::Offer,
            leased: None,
            boot_file: "x".into(),
            reason: "gets x".into(),
            no_boot,
        })
    }

    fn unserved() -> Silence {
        Silence::Architecture { client: Client::FirmwarePxe, architecture: Architecture(6) }
    }

    #[test]
    fn the_first_packet_of_each_stage_is_told_once() {
        let mut contacts = Contacts::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        let mut told = |client, xid| {
            let contact = contacts.of(now, &exchange(1, client, xid, offered(None)), |_| true)?;
            assert!(!contact.failed);
            Some((contact.stage(), contact.path()))
        };
        let pxe = Some((Stage::Firmware, BootPath::Pxe));
        assert_eq!(told(Client::FirmwarePxe, 1), pxe);
        assert_eq!(told(Client::FirmwarePxe, 1), None);
        assert_eq!(told(Client::Ipxe, 2), Some((Stage::Ipxe, BootPath::Pxe)));
        assert_eq!(told(Client::Plain, 3), None);
        assert_eq!(told(Client::Ipxe, 2), None);
        assert_eq!(told(Client::FirmwareHttp, 4), Some((Stage::Firmware, BootPath::Http)));
    }

    #[test]
    fn the_same_transaction_after_a_while_is_another_power_on() {
        let mut contacts = Contacts::default();
        let mut told = |seconds| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            contacts.of(now, &exchange(1, Client::Ipxe, 1, offered(None)), |_| true).is_some()
        };
        assert_eq!([4000, 4032, 4064, 4104].map(&mut told), [true, false, false, true]);
    }

    #[test]
    fn a_boot_that_fails_is_told_once_a_minute_whatever_the_transaction() {
        let mut contacts = Contacts::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        let mut told = |seconds, verdict| {
            let now = now + Duration::from_secs(seconds);
            let xid = u32::try_from(seconds).unwrap();
            let exchange = exchange(1, Client::FirmwarePxe, xid, verdict);
            contacts.of(now, &exchange, |_| true).map(|contact| (contact.failed, contact.detail))
        };
        let failed = Some((true, unserved().to_string()));
        assert_eq!(told(0, Verdict::Silent(unserved())), failed);
        assert_eq!(told(30, Verdict::Silent(unserved())), None);
        assert_eq!(told(60, Verdict::Silent(unserved())), failed);
        assert_eq!(told(200, offered(Some(unserved()))).map(|(failed, _)| failed), Some(true));
        assert_eq!(told(300, offered(Some(Silence::ToldNotTo))), None, "that is as it was meant");
        assert_eq!(told(400, Verdict::Silent(Silence::PlainClient)), None);
    }

    #[test]
    fn strangers_are_told_of_at_a_bounded_rate() {
        let mut contacts = Contacts::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        let mut told = |now, number: u32, known: bool| {
            let mut exchange = exchange(1, Client::FirmwarePxe, 1, offered(None));
            let [_, high, middle, low] = number.to_be_bytes();
            let mac = MacAddr::new([2, 0, 0, high, middle, low]).unwrap();
            exchange.sender.as_mut().unwrap().mac = mac;
            contacts.of(now, &exchange, |_| known).is_some()
        };
        let count = (0..1000).filter(|&number| told(now, number, false)).count();
        assert_eq!(count, usize::try_from(NEWCOMERS_A_MINUTE).unwrap());
        assert!(told(now, 5000, true), "a machine that is known is always told of");
        assert!(told(now + Duration::from_mins(1), 6000, false));
    }
}
