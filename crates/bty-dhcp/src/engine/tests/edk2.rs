//! UEFI's own choice among offers, modelled after EDK2's `PxeBcDhcp4.c`, before and after April 2017.
//!
//! The old one never keeps a proxy's offer that has option 43 (tianocore/edk2#6944), and lives on in vendors' firmware. Both
//! must end up with our boot file, beside the LAN's server and alone with us.

use std::net::Ipv4Addr;

use super::packets::*;
use crate::engine::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Old,
    New,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DhcpOnly,
    DhcpPxe10,
    DhcpBinl,
    ProxyPxe10,
    ProxyBinl,
}

fn kind(offer: &Read) -> Kind {
    let is_proxy = offer.yiaddr.octets()[0] == 0;
    let is_pxe = offer.options.get(&60).is_some_and(|class| class.starts_with(b"PXEClient"));
    // A valid discovery control: the bit for "just use the file", or servers and a menu.
    let is_pxe10 = offer
        .options
        .get(&43)
        .is_some_and(|vendor| matches!(vendor.as_slice(), [6, 1, control, ..] if control & 8 != 0));
    match (is_proxy, is_pxe, is_pxe10) {
        (true, true, true) => Kind::ProxyPxe10,
        (true, _, _) => Kind::ProxyBinl,
        (false, true, true) => Kind::DhcpPxe10,
        (false, true, false) => Kind::DhcpBinl,
        (false, false, _) => Kind::DhcpOnly,
    }
}

/// The boot file that firmware ends up with; `ask_4011` is its REQUEST to port 4011 of the server that an offer names.
fn boots(age: Age, offers: &[Read], ask_4011: impl Fn(&Read) -> Option<Read>) -> Option<String> {
    let kept: Vec<&Read> =
        offers.iter().filter(|offer| age == Age::New || kind(offer) != Kind::ProxyPxe10).collect();
    let first = |wanted: Kind| kept.iter().copied().find(|offer| kind(offer) == wanted);
    let file = |offer: &Read| {
        offer.text(67).or_else(|| Some(offer.file.clone()).filter(|file| !file.is_empty()))
    };
    if let Some(offer) = first(Kind::DhcpPxe10) {
        return file(offer);
    }
    let lease = first(Kind::DhcpOnly);
    if let (Some(_), Some(proxy)) = (lease, first(Kind::ProxyPxe10)) {
        return file(proxy);
    }
    if let Some(offer) = first(Kind::DhcpBinl) {
        return file(&ask_4011(offer)?);
    }
    if let (Some(_), Some(proxy)) = (lease, first(Kind::ProxyBinl)) {
        return file(&ask_4011(proxy)?);
    }
    file(lease?)
}

/// The LAN's own server, which knows nothing of netboot.
fn lans_offer() -> Read {
    let mut bytes = Packet::new(2).with(54, [10, 77, 0, 2]).with(51, 600_u32.to_be_bytes()).bytes();
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&[10, 77, 0, 140]);
    Read::new(&bytes)
}

fn ask_4011(mode: Mode, architecture: u16) -> impl Fn(&Read) -> Option<Read> {
    move |offer| {
        // To siaddr, else to option 54; an answer counts only from port 4011 of that address.
        let server = Some(offer.siaddr).filter(|address| !address.is_unspecified());
        let named: Option<[u8; 4]> = offer.options.get(&54)?.as_slice().try_into().ok();
        if server.or_else(|| named.map(Ipv4Addr::from)) != Some(SERVER) {
            return None;
        }
        let packet = Packet::request().pxe(architecture).holding("10.77.0.140".parse().unwrap());
        let reply = Server::new(mode).send_4011(&packet).reply?;
        (reply.source_port == ServerPort::Pxe && reply.source == SERVER)
            .then(|| Read::new(&reply.bytes))
    }
}

#[test]
fn beside_the_lans_server_old_and_new_uefi_end_up_with_our_boot_file() {
    for age in [Age::Old, Age::New] {
        for (architecture, want) in [(7, "x64/snponly.efi"), (11, "arm64/snponly.efi")] {
            let ours = Server::new(Mode::Proxy).ask(&Packet::discover().pxe(architecture));
            for offers in [[lans_offer(), ours.clone()], [ours, lans_offer()]] {
                let file = boots(age, &offers, ask_4011(Mode::Proxy, architecture));
                assert_eq!(file.as_deref(), Some(want), "{age:?}, architecture {architecture}");
            }
        }
    }
}

#[test]
fn with_our_full_server_uefi_needs_no_port_4011() {
    for age in [Age::Old, Age::New] {
        let ours = Server::new(Mode::Full).ask(&Packet::discover().pxe(7));
        let file = boots(age, &[ours], |_| panic!("the offer sends {age:?} EDK2 to port 4011"));
        assert_eq!(file.as_deref(), Some("x64/snponly.efi"), "{age:?}");
    }
}

#[test]
fn the_model_knows_the_fault_that_the_rule_is_for() {
    let mut with_43 = Server::new(Mode::Proxy).ask(&Packet::discover().pxe(7));
    with_43.options.insert(43, vec![6, 1, 8, 255]);
    let never = |_: &Read| panic!("no offer to ask about");
    let offers = [lans_offer(), with_43];
    assert_eq!(boots(Age::Old, &offers, never), None);
    assert_eq!(boots(Age::New, &offers, never).as_deref(), Some("x64/snponly.efi"));
}
