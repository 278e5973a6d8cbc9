//! Answers byte for byte, for a telling subset: what a change alters on the wire is seen in its diff.
//!
//! To take up an intended change: `BTY_UPDATE_GOLDEN=1 cargo test -p bty-dhcp golden`.

use std::{fmt::Write as _, fs, path::Path};

use super::packets::*;
use crate::engine::*;

/// The fixed part field by field, then an option a line; `file` and `sname` as text.
fn shown(reply: &Reply) -> String {
    let bytes = &reply.bytes;
    let read = Read::new(bytes);
    let mut text = format!(
        "from {}:{} to {} interface {:?}, {} bytes\n",
        reply.source,
        reply.source_port.number(),
        reply.destination,
        reply.interface,
        bytes.len()
    );
    let mut line = |name: &str, part: &[u8]| {
        let hex: Vec<String> = part.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(text, "{name}: {}", hex.join(" "));
    };
    line("op htype hlen hops", &bytes[..4]);
    line("xid secs flags", &bytes[4..12]);
    line("ciaddr yiaddr siaddr giaddr", &bytes[12..28]);
    line("chaddr", &bytes[28..44]);
    line("sname", bytes[44..108].split(|byte| *byte == 0).next().unwrap());
    line("file", bytes[108..236].split(|byte| *byte == 0).next().unwrap());
    line("cookie", &bytes[236..240]);
    let mut at = 240;
    for code in &read.order {
        let length = usize::from(bytes[at + 1]);
        line(&format!("option {code}"), &bytes[at..at + 2 + length]);
        at += 2 + length;
    }
    assert_eq!(bytes[at], 255);
    assert!(bytes[at + 1..].iter().all(|byte| *byte == 0), "only padding follows the end");
    text
}

#[test]
fn golden_answers_have_not_changed() {
    let held = "10.77.0.140".parse().unwrap();
    let ipxe = |architecture| {
        Packet::discover().pxe(architecture).with(77, "iPXE").with(175, IPXE_FEATURES)
    };
    let pi = bty_types::MacAddr::new([0xdc, 0xa6, 0x32, 1, 2, 3]).unwrap();
    let discovers = [
        ("proxy-bios", Mode::Proxy, Packet::discover().pxe(0)),
        ("proxy-uefi-x64", Mode::Proxy, Packet::discover().pxe(7)),
        ("proxy-uefi-arm64-relayed", Mode::Proxy, Packet::discover().pxe(11).relayed()),
        ("proxy-http-x64", Mode::Proxy, Packet::discover().firmware("HTTPClient", 16)),
        ("proxy-ipxe-bios", Mode::Proxy, ipxe(0)),
        ("proxy-ipxe-uefi", Mode::Proxy, ipxe(7)),
        ("proxy-raspberry-pi", Mode::Proxy, Packet::discover().pxe(0).of(pi)),
        ("full-bios", Mode::Full, Packet::discover().pxe(0)),
        ("full-uefi-x64", Mode::Full, Packet::discover().pxe(7)),
        ("full-http-x64", Mode::Full, Packet::discover().firmware("HTTPClient", 16)),
        ("full-ipxe-uefi", Mode::Full, ipxe(7)),
        ("full-plain", Mode::Full, Packet::discover().with(60, "udhcp 1.35.0")),
        ("full-nak", Mode::Full, Packet::request().with(50, [10, 9, 9, 9]).relayed()),
    ];
    let mut all: Vec<(&str, Outcome)> = discovers
        .iter()
        .map(|(name, mode, packet)| (*name, Server::new(*mode).send(packet)))
        .collect();
    let at_4011 = Server::new(Mode::Proxy).send_4011(&Packet::request().pxe(7).holding(held));
    all.push(("proxy-4011-uefi-x64", at_4011));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/tests/golden");
    for (name, outcome) in all {
        let got = shown(&outcome.reply.expect(name));
        let path = folder.join(format!("{name}.txt"));
        if std::env::var_os("BTY_UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &got).unwrap();
        }
        let want = fs::read_to_string(&path).expect(name);
        assert_eq!(got, want, "the answer {name} has changed");
    }
}
