//! Answers byte for byte, for every row of the table: each architecture, as firmware, as iPXE and as our own iPXE, at a proxy and
//! at a full server, on the LAN and through a relay. Silence and its reason are an answer too. What a change alters on the wire is
//! seen in its diff.
//!
//! To take up an intended change: `BTY_UPDATE_GOLDEN=1 cargo test -p bty-dhcp golden`.

use std::{fmt::Write as _, fs, net::Ipv4Addr, path::Path};

use super::packets::*;
use crate::engine::*;

/// What the architectures of the table are, for whoever reads the files.
const ARCHITECTURES: [(u16, &str); 8] = [
    (0, "x86 BIOS"),
    (6, "32-bit x86 UEFI, for which there is no program"),
    (7, "64-bit x86 UEFI"),
    (9, "EBC by name, 64-bit x86 UEFI in the field"),
    (11, "64-bit ARM UEFI"),
    (16, "64-bit x86 UEFI HTTP Boot"),
    (19, "64-bit ARM UEFI HTTP Boot"),
    (41, "a Raspberry Pi that says so"),
];
const CLIENTS: [&str; 4] = ["firmware", "iPXE, raw 77", "iPXE, encoded 77", "our own iPXE"];
/// Options that are shown as text, with what is not printable escaped.
const TEXTS: [u8; 4] = [56, 60, 66, 67];
const HELD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 140);

/// The whole answer, each byte of it: the fixed part in hexadecimal, `sname` and `file` as text, an option a word.
fn shown(outcome: &Outcome) -> String {
    let reason = outcome.record.verdict.reason();
    let Some(reply) = &outcome.reply else {
        return format!("silence: {reason}\n");
    };
    let bytes = &reply.bytes;
    let read = Read::new(bytes);
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let port = reply.source_port.number();
    let length = bytes.len();
    let mut text = format!("{length} bytes from {}:{port} to {}", reply.source, reply.destination);
    let _ = match reply.interface {
        Some(index) => writeln!(text, " by interface {index}: {reason}"),
        None => writeln!(text, " by routing: {reason}"),
    };
    let fixed: Vec<String> = bytes[..44].chunks(4).map(hex).collect();
    let _ = writeln!(text, "  {}", fixed.join(" "));
    assert!(bytes[44 + read.sname.len()..108].iter().all(|byte| *byte == 0));
    assert!(bytes[108 + read.file.len()..236].iter().all(|byte| *byte == 0));
    let _ = writeln!(text, "  sname {:?} file {:?}", read.sname, read.file);
    let mut at = 240;
    for code in &read.order {
        let value = &bytes[at + 2..at + 2 + usize::from(bytes[at + 1])];
        let _ = match code {
            code if TEXTS.contains(code) => write!(text, "  {code}=\"{}\"", value.escape_ascii()),
            code => write!(text, "  {code}={}", hex(value)),
        };
        at += 2 + value.len();
    }
    assert_eq!(bytes[at], 255);
    assert!(bytes[at + 1..].iter().all(|byte| *byte == 0), "only padding follows the end");
    text + "\n"
}

/// What a client of this sort adds to a message. iPXE says what it is by its features (option 175) too; an encoded user class must
/// do alone.
fn as_client(packet: Packet, client: &str, architecture: u16) -> Packet {
    let is_http = matches!(architecture, 16 | 19);
    let class = if client == "firmware" && is_http { "HTTPClient" } else { "PXEClient" };
    let packet = packet.firmware(class, architecture);
    match client {
        "firmware" => packet,
        "iPXE, raw 77" => packet.with(77, "iPXE").with(175, IPXE_FEATURES),
        "iPXE, encoded 77" => packet.with(77, "\x04iPXE"),
        "our own iPXE" => packet.with(77, "bty").with(175, IPXE_FEATURES),
        _ => unreachable!("{client}"),
    }
}

/// Every row of an architecture.
fn rows(architecture: u16, what: &str) -> String {
    let mut text = format!("# Architecture {architecture}: {what}\n");
    for client in CLIENTS {
        let discover = || as_client(Packet::discover(), client, architecture);
        let request = as_client(Packet::request(), client, architecture).holding(HELD);
        let rows = [
            ("proxy", Server::new(Mode::Proxy).send(&discover())),
            ("proxy, port 4011", Server::new(Mode::Proxy).send_4011(&request)),
            ("proxy, relayed", Server::new(Mode::Proxy).send(&discover().relayed())),
            ("full", Server::new(Mode::Full).send(&discover())),
            ("full, relayed", Server::new(Mode::Full).send(&discover().relayed())),
        ];
        for (place, outcome) in rows {
            let _ = write!(text, "\n{client}; {place}\n{}", shown(&outcome));
        }
    }
    text
}

/// What has no architecture, or more to it than one message.
fn others() -> String {
    let pi = bty_types::MacAddr::new([0xdc, 0xa6, 0x32, 1, 2, 3]).unwrap();
    let plain = || Packet::discover().with(60, "udhcp 1.35.0");
    let mut by_http = Server::new(Mode::Proxy);
    by_http.send(&as_client(Packet::discover(), "firmware", 16));
    let mut bound = Server::new(Mode::Full);
    let offered = bound.ask(&plain()).yiaddr;
    let selecting = Packet::request().with(50, offered.octets()).with(54, SERVER.octets());
    let acknowledged = bound.send(&selecting);
    let renewed = bound.send(&Packet::request().holding(offered));
    let rows = [
        ("a Raspberry Pi that says it is a PC; proxy", {
            Server::new(Mode::Proxy).send(&Packet::discover().pxe(0).of(pi))
        }),
        ("iPXE after HTTP Boot; proxy", {
            by_http.send(&as_client(Packet::discover(), "iPXE, raw 77", 7))
        }),
        ("an operating system; proxy", Server::new(Mode::Proxy).send(&plain())),
        ("an operating system; full", Server::new(Mode::Full).send(&plain())),
        ("an operating system selects; full", acknowledged),
        ("an operating system renews; full", renewed),
        ("an operating system informs; full", {
            Server::new(Mode::Full).send(&Packet::new(8).holding(HELD))
        }),
        ("an address of elsewhere; full, relayed", {
            Server::new(Mode::Full).send(&Packet::request().with(50, [10, 9, 9, 9]).relayed())
        }),
    ];
    let mut text = "# Others\n".to_owned();
    for (what, outcome) in rows {
        let _ = write!(text, "\n{what}\n{}", shown(&outcome));
    }
    text
}

#[test]
fn golden_answers_have_not_changed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/tests/golden");
    let tables = ARCHITECTURES.map(|(number, what)| (format!("{number:02}"), rows(number, what)));
    for (name, got) in tables.into_iter().chain([("others".to_owned(), others())]) {
        let path = folder.join(format!("{name}.txt"));
        if std::env::var_os("BTY_UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &got).unwrap();
        }
        let want = fs::read_to_string(&path).unwrap_or_default();
        for (got, want) in got.split("\n\n").zip(want.split("\n\n")) {
            assert_eq!(got, want, "an answer of {} has changed", path.display());
        }
        assert_eq!(got.len(), want.len(), "{} has rows more or less", path.display());
    }
}
