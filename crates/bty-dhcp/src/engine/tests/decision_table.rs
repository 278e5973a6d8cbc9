//! Who gets what: every kind of client at every stage, in each mode.

use super::packets::*;
use bty_types::MacAddr;

use crate::engine::*;

const SCRIPT: &str = "http://10.77.0.1/boot.ipxe?via=pxe";

fn stages() -> [(&'static str, Option<&'static [u8]>); 4] {
    [
        ("firmware", None),
        ("iPXE, user class raw", Some(b"iPXE")),
        ("iPXE, user class as a list", Some(b"\x04iPXE")),
        ("our own class", Some(b"bty")),
    ]
}

/// Architecture, class, and the boot file of the firmware; `None` where we have no program.
const FIRMWARE: [(u16, &str, Option<&str>); 9] = [
    (0, "PXEClient", Some("undionly.kpxe")),
    (6, "PXEClient", None),
    (7, "PXEClient", Some("x64/snponly.efi")),
    (9, "PXEClient", Some("x64/snponly.efi")),
    (10, "PXEClient", None),
    (11, "PXEClient", Some("arm64/snponly.efi")),
    (16, "HTTPClient", Some("http://10.77.0.1/boot/x64/snponly.efi")),
    (17, "HTTPClient", Some("http://10.77.0.1/boot/x64/snponly.efi")),
    (19, "HTTPClient", Some("http://10.77.0.1/boot/arm64/snponly.efi")),
];

fn discover(architecture: u16, class: &str, user_class: Option<&[u8]>) -> Packet {
    let packet = Packet::discover().firmware(class, architecture);
    match user_class {
        // iPXE says PXEClient whatever started it.
        Some(user_class) => {
            Packet::discover().pxe(architecture).with(77, user_class).with(175, IPXE_FEATURES)
        }
        None => packet,
    }
}

#[test]
fn a_proxy_names_the_boot_file_of_each_stage_and_architecture() {
    for relayed in [false, true] {
        for (architecture, class, program) in FIRMWARE {
            for (stage, user_class) in stages() {
                let mut packet = discover(architecture, class, user_class);
                if relayed {
                    packet = packet.relayed();
                }
                let what = format!("arch {architecture}, {stage}, relayed: {relayed}");
                let want = if user_class.is_some() { Some(SCRIPT) } else { program };
                let outcome = Server::new(Mode::Proxy).send(&packet);
                let Some(want) = want else {
                    assert!(matches!(silence(outcome), Silence::Architecture { .. }), "{what}");
                    continue;
                };
                let reply = outcome.reply.expect(&what);
                let read = Read::new(&reply.bytes);
                assert_eq!((read.message(), read.file.as_str()), (2, want), "{what}");
                assert_eq!(read.text(67).as_deref(), Some(want), "{what}");
                assert_eq!(read.siaddr, SERVER, "{what}");
                assert_eq!(read.options[&54], SERVER.octets(), "{what}");
                assert_eq!(
                    read.options[&60],
                    if want.contains("/boot/") { "HTTPClient" } else { "PXEClient" }.as_bytes(),
                    "{what}"
                );
                assert_eq!(read.options[&97].len(), 17, "{what}");
                let destination = if relayed { "10.88.0.254:67" } else { "255.255.255.255:68" };
                assert_eq!(reply.destination.to_string(), destination, "{what}");
                assert_eq!(reply.interface, (!relayed).then_some(INTERFACE_INDEX), "{what}");
            }
        }
    }
}

#[test]
fn a_proxy_never_gives_or_refuses_an_address() {
    for (architecture, class, _) in FIRMWARE {
        for (_, user_class) in stages() {
            for message in 1..=9 {
                let mut packet = discover(architecture, class, user_class);
                packet.options[0] = (53, vec![message]);
                packet = packet.with(50, [10, 9, 9, 9]);
                let mut server = Server::new(Mode::Proxy);
                for outcome in [server.send(&packet), server.send_4011(&packet)] {
                    assert!(outcome.changes.is_empty());
                    let Some(reply) = outcome.reply else { continue };
                    let read = Read::new(&reply.bytes);
                    assert!(read.yiaddr.is_unspecified());
                    assert_ne!(read.message(), 6);
                    for lease_option in [1, 3, 6, 51, 58, 59, 175] {
                        assert!(!read.options.contains_key(&lease_option), "option {lease_option}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_full_server_names_the_same_files_with_a_lease() {
    for (architecture, class, program) in FIRMWARE {
        for (stage, user_class) in stages() {
            let what = format!("arch {architecture}, {stage}");
            let want = if user_class.is_some() { Some(SCRIPT) } else { program };
            let mut server = Server::new(Mode::Full);
            let read = server.ask(&discover(architecture, class, user_class));
            assert_eq!(read.message(), 2, "{what}");
            assert_eq!(read.text(67).as_deref(), want, "{what}");
            assert_eq!(read.options[&51], 3600_u32.to_be_bytes(), "{what}");
            assert_eq!(read.options[&1], [255, 255, 255, 0], "{what}");
            let no_proxy: Option<&[u8]> = user_class.map(|_| [176, 1, 1].as_slice());
            assert_eq!(read.options.get(&175).map(Vec::as_slice), no_proxy, "{what}");
        }
    }
}

#[test]
fn a_full_servers_offer_to_uefi_does_not_look_like_a_proxys() {
    // Option 60 without 43 sends EDK2 to port 4011 (tianocore/edk2#8149).
    for architecture in [7, 9, 11] {
        let read = Server::new(Mode::Full).ask(&Packet::discover().pxe(architecture));
        assert!(!read.options.contains_key(&60));
        assert!(!read.options.contains_key(&43));
        assert_eq!(read.siaddr, SERVER);
    }
    let http = Server::new(Mode::Full).ask(&Packet::discover().firmware("HTTPClient", 16));
    assert_eq!(http.options[&60], b"HTTPClient");
}

#[test]
fn a_proxys_offer_to_uefi_has_no_option_43_and_to_bios_says_just_boot() {
    let uefi = Server::new(Mode::Proxy).ask(&Packet::discover().pxe(7));
    assert!(!uefi.options.contains_key(&43));
    let bios = Server::new(Mode::Proxy).ask(&Packet::discover().pxe(0));
    assert_eq!(bios.options[&43], [6, 1, 8, 255]);
}

#[test]
fn port_4011_confirms_the_boot_file_to_the_address_that_asked() {
    let address = "10.77.0.140".parse().unwrap();
    for mode in [Mode::Proxy, Mode::Full] {
        for message in [3, 8] {
            let packet = Packet::new(message).pxe(7).holding(address);
            let reply = Server::new(mode).send_4011(&packet).reply.unwrap();
            assert_eq!(reply.destination.to_string(), "10.77.0.140:68");
            assert_eq!((reply.source_port, reply.source), (ServerPort::Pxe, SERVER));
            let read = Read::new(&reply.bytes);
            assert_eq!((read.message(), read.file.as_str()), (5, "x64/snponly.efi"));
            assert_eq!(read.options[&60], b"PXEClient");
            assert!(!read.options.contains_key(&43) && !read.options.contains_key(&51));
        }
    }
}

#[test]
fn port_4011_repeats_the_boot_item_and_refuses_signed_ones() {
    let ask = |item: &[u8]| {
        let packet =
            Packet::request().pxe(0).holding("10.77.0.140".parse().unwrap()).with(43, item);
        Server::new(Mode::Proxy).send_4011(&packet)
    };
    let read = Read::new(&ask(b"\x47\x04\x00\x11\x00\x00\xff").reply.unwrap().bytes);
    assert_eq!(read.options[&43], b"\x47\x04\x00\x11\x00\x00\xff");
    assert_eq!(silence(ask(b"\x47\x04\x00\x11\x80\x00\xff")), Silence::SignedBoot);
    for odd in [b"".as_slice(), b"\x47", b"\x47\x04\x00", b"\x47\x02\x00\x00", b"\xff"] {
        assert!(ask(odd).reply.is_some(), "option 43 {odd:?} is tolerated");
    }
}

#[test]
fn port_4011_is_for_pxe_clients_that_have_an_address() {
    let held = "10.77.0.140".parse().unwrap();
    for packet in [
        Packet::discover().pxe(7),
        Packet::request().holding(held),
        Packet::request().firmware("HTTPClient", 16).holding(held),
    ] {
        let outcome = Server::new(Mode::Proxy).send_4011(&packet);
        assert_eq!(silence(outcome), Silence::NotForPort4011);
    }
}

#[test]
fn on_port_67_a_proxy_answers_discovers_of_netbooting_clients_alone() {
    let mut server = Server::new(Mode::Proxy);
    let other = "10.77.0.2".parse().unwrap();
    let request = Packet::request().pxe(7);
    assert_eq!(
        server.silence(&request.clone().with(54, [10, 77, 0, 2])),
        Silence::OtherServer(other)
    );
    assert_eq!(server.silence(&request), Silence::ProxyOnPort67(Message::Request));
    assert_eq!(server.silence(&Packet::new(8).pxe(7)), Silence::ProxyOnPort67(Message::Inform));
    assert_eq!(server.silence(&Packet::new(7).pxe(7)), Silence::OtherMessage(Message::Release));
    let busybox = Packet::discover().with(60, "udhcp 1.35.0");
    assert_eq!(server.silence(&busybox), Silence::PlainClient);
    assert_eq!(server.silence(&Packet::discover()), Silence::PlainClient);
}

#[test]
fn a_full_server_gives_plain_clients_a_lease_and_nothing_to_boot() {
    let read = Server::new(Mode::Full).ask(&Packet::discover().with(60, "udhcp 1.35.0"));
    assert!(!read.yiaddr.is_unspecified());
    assert_eq!((read.siaddr.is_unspecified(), read.file.as_str()), (true, ""));
    for boot_option in [43, 60, 66, 67, 175] {
        assert!(!read.options.contains_key(&boot_option));
    }
}

#[test]
fn off_answers_nothing() {
    let mut server = Server::new(Mode::Off);
    assert_eq!(server.silence(&Packet::discover().pxe(7)), Silence::Off);
    assert_eq!(silence(server.send_4011(&Packet::request().pxe(7))), Silence::Off);
}

#[test]
fn a_machine_that_must_not_netboot_gets_silence_from_a_proxy_and_a_lease_from_a_full_server() {
    let told = || {
        [(mac(1), MachineFacts { netboot: false, ..MachineFacts::default() })].into_iter().collect()
    };
    let mut proxy = Server::new(Mode::Proxy);
    proxy.directory = told();
    assert_eq!(proxy.silence(&Packet::discover().pxe(7)), Silence::ToldNotTo);
    let held = "10.77.0.140".parse().unwrap();
    let asked = proxy.send_4011(&Packet::request().pxe(7).holding(held));
    assert_eq!(silence(asked), Silence::ToldNotTo);
    assert!(proxy.send(&Packet::discover().pxe(7).of(mac(2))).reply.is_some());

    let mut full = Server::new(Mode::Full);
    full.directory = told();
    let read = full.ask(&Packet::discover().pxe(7));
    assert_eq!((read.yiaddr.is_unspecified(), read.file.as_str()), (false, ""));
}

#[test]
fn ipxe_is_known_by_option_175_alone_and_by_an_exact_user_class() {
    let mut server = Server::new(Mode::Proxy);
    assert_eq!(server.ask(&Packet::discover().pxe(0).with(175, IPXE_FEATURES)).file, SCRIPT);
    assert_eq!(server.ask(&Packet::discover().pxe(0).with(77, b"\x01x\x04iPXE")).file, SCRIPT);
    for other in [b"iPXE2".as_slice(), b"xiPXE", b"\x05iPXEx", b"\x09iPXE", b""] {
        let read = server.ask(&Packet::discover().pxe(0).with(77, other));
        assert_eq!(read.file, "undionly.kpxe", "user class {other:?}");
    }
}

#[test]
fn an_ipxe_without_http_is_given_ours_by_tftp() {
    let without = b"\x10\x01\x02\x15\x01\x01\xeb\x03\x01\x00\x00";
    let ask = |architecture| {
        let packet = Packet::discover().pxe(architecture).with(77, "iPXE").with(175, without);
        Server::new(Mode::Proxy).ask(&packet).file
    };
    assert_eq!(ask(0), "tftp://10.77.0.1/undionly.kpxe");
    assert_eq!(ask(7), "tftp://10.77.0.1/x64/snponly.efi");
}

#[test]
fn the_script_says_by_which_way_the_firmware_came() {
    let via = |server: &mut Server, packet: Packet| {
        let file = server.ask(&packet).file;
        file.rsplit_once("via=").unwrap().1.to_owned()
    };
    let ipxe = || Packet::discover().pxe(7).with(77, "iPXE");
    let mut server = Server::new(Mode::Proxy);
    assert_eq!(via(&mut server, ipxe()), "pxe");
    server.ask(&Packet::discover().firmware("HTTPClient", 16));
    assert_eq!(via(&mut server, ipxe()), "http");
    assert_eq!(via(&mut server, ipxe().of(mac(2))), "pxe", "another machine's way is its own");
    server.after(119);
    assert_eq!(via(&mut server, ipxe()), "http");
    server.after(2);
    assert_eq!(via(&mut server, ipxe()), "pxe", "the way is forgotten after two minutes");
    server.ask(&Packet::discover().firmware("HTTPClient", 16));
    server.ask(&Packet::discover().pxe(7));
    assert_eq!(via(&mut server, ipxe()), "pxe", "the latest way counts");
}

#[test]
fn the_first_known_architecture_of_a_list_counts_and_the_class_where_there_is_none() {
    let mut server = Server::new(Mode::Proxy);
    let class = "PXEClient:Arch:00011:UNDI:003000";
    let listed = |codes: &[u8]| Packet::discover().with(60, class).with(93, codes);
    assert_eq!(server.ask(&listed(&[0, 8, 0, 7])).file, "x64/snponly.efi");
    assert_eq!(server.ask(&listed(&[0, 0, 0, 7])).file, "undionly.kpxe");
    assert_eq!(server.ask(&Packet::discover().with(60, class)).file, "arm64/snponly.efi");
    // Neither option 94 nor a vendor class is needed.
    assert_eq!(server.ask(&Packet::discover().with(93, [0, 7])).file, "x64/snponly.efi");
    assert_eq!(server.ask(&Packet::discover().with(60, "PXEClient")).file, "undionly.kpxe");
}

#[test]
fn a_raspberry_pi_is_known_by_its_card_and_gets_its_menu() {
    let pi = MacAddr::new([0xdc, 0xa6, 0x32, 1, 2, 3]).unwrap();
    let menu = b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff";
    for packet in [Packet::discover().pxe(0).of(pi), Packet::discover().with(93, [0, 41])] {
        let read = Server::new(Mode::Proxy).ask(&packet);
        assert_eq!(read.options[&43], menu);
        assert_eq!(read.options[&66], b"10.77.0.1", "no NUL for a Raspberry Pi");
        assert_eq!((read.siaddr, read.file.as_str()), (SERVER, ""));
    }
    // Its operating system is a client like any other.
    let mut server = Server::new(Mode::Proxy);
    assert_eq!(server.silence(&Packet::discover().of(pi)), Silence::PlainClient);
    let linux = Packet::discover().of(pi).with(60, "dhcpcd-10.0.2:Linux").with(97, [0; 17]);
    assert_eq!(server.silence(&linux), Silence::PlainClient);
    // Its boot code's REQUEST lacks the vendor class (rpi-eeprom#82).
    let mut full = Server::new(Mode::Full);
    let offered = full.ask(&Packet::discover().pxe(0).of(pi)).yiaddr;
    let request = Packet::request()
        .of(pi)
        .with(54, SERVER.octets())
        .with(50, offered.octets())
        .with(97, [7; 17]);
    assert_eq!(full.ask(&request).options[&43], menu);
}

#[test]
fn answers_have_the_hygiene_that_clients_need() {
    let long_uuid = vec![0; 200];
    let packet = Packet { flags: 0x8000, ..Packet::discover().pxe(7) }
        .with(61, b"\x01\x52\x54\x00\x77\x00\x01")
        .relayed();
    let bytes = Server::new(Mode::Proxy).send(&packet).reply.unwrap().bytes;
    let read = Read::new(&bytes);
    assert!(bytes.len() >= 300);
    assert_eq!(read.order[..3], [53, 54, 60]);
    assert_eq!(read.order.last(), Some(&82), "option 82 comes last");
    assert_eq!(read.options[&82], b"\x01\x04eth0");
    assert_eq!(read.options[&61], b"\x01\x52\x54\x00\x77\x00\x01");
    assert_eq!((read.giaddr, read.flags), (RELAY, 0x8000));
    assert_eq!((read.sname.as_str(), read.text(66).as_deref()), ("10.77.0.1", Some("10.77.0.1")));
    assert!(!read.options.contains_key(&52), "overload confuses old clients");

    // Without a relay, option 82 is not repeated; a UUID of an odd length is, as it is.
    let stray = Packet::discover().pxe(7).with(82, b"\x01\x01x");
    let mut stray = Server::new(Mode::Proxy).ask(&stray);
    assert!(!stray.options.contains_key(&82));
    assert_eq!(stray.options.remove(&97).unwrap().len(), 17);
    let odd = Packet::discover().with(93, [0, 7]).with(97, &long_uuid);
    assert_eq!(Server::new(Mode::Proxy).ask(&odd).options[&97], long_uuid);
}

#[test]
fn an_answer_stays_within_what_the_client_takes() {
    for (told, most) in [(None, 548), (Some(100_u16), 548), (Some(1000), 972), (Some(65280), 1472)]
    {
        for length in [10, 200, 255, 600, 2000] {
            let mut packet = Packet::discover().with(93, [0, 7]).with(61, vec![1; length]);
            packet.options.extend(told.map(|told| (57, told.to_be_bytes().to_vec())));
            let reply = Server::new(Mode::Proxy).send(&packet).reply.unwrap();
            assert!(reply.bytes.len() <= most, "{} bytes with {told:?}", reply.bytes.len());
        }
    }
    let packet = Packet::discover().with(93, [0, 7]).with(97, vec![0; 600]);
    assert_eq!(Server::new(Mode::Proxy).silence(&packet), Silence::TooLong(548));
}

#[test]
fn another_servers_reply_is_told_apart() {
    let mut reply = Packet::new(2).with(54, [10, 77, 0, 9]).with(67, "evil.efi\0");
    reply.op = 2;
    assert_eq!(
        Server::new(Mode::Full).silence(&reply),
        Silence::ServerReply(Overheard {
            server: "10.77.0.9".parse().unwrap(),
            leases: false,
            boots: true,
            boot_file: "evil.efi".to_owned()
        })
    );
}

#[test]
fn every_record_says_who_asked_and_why_it_was_answered_so() {
    let packet = Packet::discover().pxe(7).with(77, b"\x04iPXE").relayed();
    let record = Server::new(Mode::Proxy).send(&packet).record;
    let sender = record.sender.unwrap();
    assert_eq!(
        (sender.mac, sender.xid, sender.message, sender.architecture),
        (mac(1), XID, Some(Message::Discover), Some(Architecture(7)))
    );
    assert_eq!(sender.vendor_class, "PXEClient:Arch:00007:UNDI:003000");
    assert_eq!((sender.user_class.as_str(), sender.relay), ("iPXE", Some(RELAY)));
    assert_eq!((sender.client.name(), sender.by_http), ("ipxe", false));
    assert_eq!(sender.uuid, Some([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]));
    assert_eq!(record.verdict.reason(), "iPXE gets the boot script");
    let uefi = Server::new(Mode::Proxy).send(&Packet::discover().pxe(7)).record.verdict.reason();
    assert_eq!(
        uefi,
        "UEFI PXE of architecture 7 gets x64/snponly.efi; it will ask for it on port 4011"
    );
    let ia32 = Server::new(Mode::Proxy).send(&Packet::discover().pxe(6)).record.verdict;
    assert_eq!(ia32.reason(), "there is no boot program for PXE firmware of architecture 6");
}
