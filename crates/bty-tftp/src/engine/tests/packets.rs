//! Requests as clients write them, and what is answered.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::network::{CLIENT, terms};
use crate::engine::{
    negotiate::{Limits, Rollover, Terms, negotiate},
    packet::{
        self, Answer, ErrorCode, Incoming, MAX_REQUEST_BYTES, Mode, ReadRequest, RequestOption,
        Unreadable,
    },
    transfer::{Transfer, Transmit},
};

const LIMITS: Limits =
    Limits { max_block_bytes: 65464, max_window_blocks: 16, rollover: Rollover::Zero };

fn read(datagram: &[u8]) -> ReadRequest {
    match Incoming::read(datagram) {
        Ok(Incoming::Read(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn agreed(options: &str, mtu_bytes: u32) -> Terms {
    let datagram = [b"\0\x01x\0octet\0".as_slice(), options.as_bytes()].concat();
    negotiate(&read(&datagram), 4321, mtu_bytes, LIMITS)
}

fn oack(options: &str, mtu_bytes: u32) -> Option<String> {
    let oack = agreed(options, mtu_bytes).oack?;
    Some(String::from_utf8(oack[2..].to_vec()).unwrap())
}

#[test]
fn a_request_is_read_whatever_its_case() {
    let want = ReadRequest {
        file: b"/X64/SNPONLY.EFI".to_vec(),
        mode: Mode::Octet,
        options: vec![RequestOption::TransferSize(0), RequestOption::BlockSize(1468)],
    };
    assert_eq!(read(b"\0\x01/X64/SNPONLY.EFI\0OcTeT\0TSIZE\x000\0BlkSize\x001468\0"), want);
    assert_eq!(read(b"\0\x01x\0NETASCII\0").mode, Mode::Netascii);
}

#[test]
fn quirks_of_clients_are_tolerated() {
    let want = ReadRequest {
        file: b"x".to_vec(),
        mode: Mode::Octet,
        options: vec![RequestOption::BlockSize(512)],
    };
    for datagram in [
        b"\0\x01x\0octet\0blksize\x00512".as_slice(),
        b"\0\x01x\0octet\0blksize\x00512\0\0\0\0\0",
        b"\0\x01x\0octet\0blksize\x00512\0blksize\x0099\0",
        b"\0\x01x\0octet\0blksize\x00512\0multicast\0\0",
        b"\0\x01x\0octet\0rollover\x000\0blksize\x00 512\0timeout\0soon\0tsize\0",
    ] {
        assert_eq!(read(datagram), want);
    }
    assert_eq!(read(b"\0\x01x\0octet").options, []);
}

#[test]
fn what_is_no_request_gets_no_answer_and_a_malformed_one_gets_error_4() {
    let cases: [(&[u8], _); 9] = [
        (b"", Unreadable::NotARequest),
        (b"\0", Unreadable::NotARequest),
        (b"\0\x03\0\x01x", Unreadable::NotARequest),
        (b"\0\x04\0\x01", Unreadable::NotARequest),
        (b"\0\x05\0\x01x\0", Unreadable::NotARequest),
        (b"\x01\0x\0octet\0", Unreadable::NotARequest),
        (b"\0\x01", Unreadable::Malformed("no file name")),
        (b"\0\x01x\0mail\0", Unreadable::Malformed("a mode other than octet and netascii")),
        (b"\0\x01x", Unreadable::Malformed("a mode other than octet and netascii")),
    ];
    for (datagram, want) in cases {
        assert_eq!(Incoming::read(datagram), Err(want), "{datagram:?}");
    }
    assert_eq!(Incoming::read(b"\0\x02x\0octet\0"), Ok(Incoming::Write));
    let long = [b"\0\x01".as_slice(), &vec![b'x'; MAX_REQUEST_BYTES + 1]].concat();
    assert_eq!(Incoming::read(&long), Err(Unreadable::Malformed("too many bytes")));
}

#[test]
fn rfc2347_the_oack_has_what_was_asked_and_no_more() {
    assert_eq!(oack("", 1500), None);
    assert_eq!(oack("multicast\0\0unknown\x001\0", 1500), None);
    assert_eq!(oack("tsize\x000\0", 1500).unwrap(), "tsize\x004321\0");
    // What EDK2 asks.
    let asked = "tsize\x000\0blksize\x001468\0windowsize\x004\0";
    assert_eq!(oack(asked, 1500).unwrap(), "tsize\x004321\0blksize\x001468\0windowsize\x004\0");
}

#[test]
fn rfc2348_blocks_fit_the_request_the_path_and_the_limit() {
    for (asked, mtu_bytes, want) in [
        ("512", 1500, Some(512)),
        ("1468", 1500, Some(1468)),
        ("65464", 1500, Some(1468)),
        ("1468", 1492, Some(1460)),
        ("65464", 65536, Some(65464)),
        ("65535", 65536, Some(65464)),
        ("99999999999", 1500, Some(1468)),
        ("8", 1500, Some(8)),
        ("7", 1500, None),
        ("0", 1500, None),
        ("-1", 1500, None),
        ("99999999999999999999999", 1500, None),
    ] {
        let terms = agreed(&format!("blksize\0{asked}\0"), mtu_bytes);
        assert_eq!(terms.oack.is_some(), want.is_some(), "{asked}");
        assert_eq!(terms.block_bytes, want.unwrap_or(512), "{asked}");
    }
    let small = Limits { max_block_bytes: 1024, ..LIMITS };
    let request = read(b"\0\x01x\0octet\0blksize\x001468\0");
    assert_eq!(negotiate(&request, 1, 1500, small).block_bytes, 1024);
}

#[test]
fn rfc2349_a_timeout_is_1_to_255_seconds_and_given_back_unchanged() {
    for (asked, want) in [("0", None), ("1", Some(1)), ("255", Some(255)), ("256", None)] {
        let terms = agreed(&format!("timeout\0{asked}\0"), 1500);
        assert_eq!(terms.timeout, want.map(Duration::from_secs));
        assert_eq!(
            terms.oack,
            want.map(|seconds| packet::oack(&[RequestOption::Timeout(seconds)]))
        );
    }
}

#[test]
fn rfc7440_a_window_is_never_longer_than_asked_or_allowed() {
    for (asked, want) in
        [("0", None), ("1", Some(1)), ("4", Some(4)), ("64", Some(16)), ("65536", None)]
    {
        let terms = agreed(&format!("windowsize\0{asked}\0"), 1500);
        assert_eq!(terms.oack.is_some(), want.is_some(), "{asked}");
        assert_eq!(terms.window_blocks, want.unwrap_or(1), "{asked}");
    }
}

#[test]
fn an_error_has_its_code_and_one_nul() {
    assert_eq!(packet::error(ErrorCode::NOT_FOUND, "no such file"), b"\0\x05\0\x01no such file\0");
    assert_eq!(packet::error(ErrorCode::OTHER, "a\0b"), b"\0\x05\0\0a\0");
    assert!(packet::error(ErrorCode::OTHER, &"x".repeat(9000)).len() < 512);
}

#[test]
fn numbers_roll_over_as_told() {
    for (block, zero, one) in
        [(0, 0, 0), (1, 1, 1), (65535, 65535, 65535), (65536, 0, 1), (131_071, 65535, 1)]
    {
        assert_eq!(
            (Rollover::Zero.number(block), Rollover::One.number(block)),
            (zero, one),
            "{block}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(datagram in prop::collection::vec(any::<u8>(), 0..2000)) {
        if let Ok(Incoming::Read(request)) = Incoming::read(&datagram) {
            prop_assert!(request.file.len() <= MAX_REQUEST_BYTES);
            prop_assert!(request.options.len() <= 4);
            let terms = negotiate(&request, 77, 1500, LIMITS);
            prop_assert!((8..=1468).contains(&terms.block_bytes));
            prop_assert!((1..=16).contains(&terms.window_blocks));
            prop_assert!(terms.oack.is_none_or(|oack| oack.len() < 100));
        }
        if let Some(Answer::Error(_, text)) = Answer::read(&datagram) {
            prop_assert!(text.len() <= 256 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }

    #[test]
    fn requests_with_any_strings_are_read_without_harm(
        fields in prop::collection::vec("(blksize|timeout|tsize|windowsize|octet|[0-9]{0,9}|.{0,9})", 0..40),
    ) {
        let datagram = [b"\0\x01".to_vec(), fields.join("\0").into_bytes()].concat();
        if let Ok(Incoming::Read(request)) = Incoming::read(&datagram) {
            let terms = negotiate(&request, 77, 1500, LIMITS);
            prop_assert_eq!(terms.oack.is_some(), terms.oack.is_some_and(|oack| oack.ends_with(&[0])));
        }
    }

    #[test]
    fn a_transfer_survives_any_datagrams(
        window in 1_u16..=16,
        steps in prop::collection::vec((0_u64..3000, 0_u8..8, any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..200),
    ) {
        let mut now = Instant::now();
        let mut transfer = Transfer::new(now, CLIENT, terms(100_000, 512, window));
        let mut sent = 0_u64;
        for (wait, kind, number, bytes) in steps {
            now += Duration::from_millis(wait);
            transfer.handle_timeout(now);
            let [high, low] = (number % 300).to_be_bytes();
            match kind {
                0 => transfer.handle(now, CLIENT, &bytes),
                1 => transfer.handle_repeat(now),
                _ => transfer.handle(now, CLIENT, &[0, 4, high, low]),
            }
            while let Some(transmit) = transfer.poll_transmit(now) {
                sent += 1;
                if let Transmit::Blocks(run) = transmit {
                    prop_assert!(run.count <= window.into());
                    prop_assert!(run.offset_bytes + run.length_bytes as u64 <= 100_000);
                }
            }
        }
        prop_assert!(sent <= 401, "{} sendings for 200 datagrams and 200 timers", sent);
    }
}
