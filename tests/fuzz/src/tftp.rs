//! TFTP: any request, and any datagrams during a transfer.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bty_tftp::{
    engine::{
        negotiate::{Limits, Rollover, negotiate},
        packet::{Answer, Incoming},
        transfer::{Transfer, Transmit},
    },
    file_name::FileName,
};

const LIMITS: Limits =
    Limits { max_block_bytes: 1468, max_window_blocks: 16, rollover: Rollover::Zero };
const FILE_BYTES: u64 = 300_000;
/// The most that happens in one transfer.
const MOST_STEPS: usize = 256;

/// A datagram to port 69.
pub(crate) fn request(data: &[u8]) {
    if let Some(Answer::Error(_, text)) = Answer::read(data) {
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?} is shown");
    }
    let Ok(Incoming::Read(request)) = Incoming::read(data) else { return };
    if let Ok(name) = FileName::parse(&request.file) {
        let is_inside = |part: &str| !part.is_empty() && !part.starts_with('.');
        assert!(name.as_str().split('/').all(is_inside), "{name} leads out");
        assert!(!name.as_str().contains(['\\', '\0']), "{name} is not a path");
    }
    let terms = negotiate(&request, FILE_BYTES, 1500, LIMITS);
    assert!((8..=1468).contains(&terms.block_bytes), "blocks of {}", terms.block_bytes);
    assert!((1..=16).contains(&terms.window_blocks), "a window of {}", terms.window_blocks);
    assert!(terms.oack.is_none_or(|oack| oack.len() < 100), "an OACK longer than what was asked");
}

/// A request, then what a client and a stranger send: each piece is a wait in units of 16 ms, who sends, and the datagram.
pub(crate) fn transfer(data: &[u8]) {
    let mut pieces = crate::pieces(data);
    let Some(Ok(Incoming::Read(request))) = pieces.next().map(Incoming::read) else { return };
    let terms = negotiate(&request, FILE_BYTES, 1500, LIMITS);
    let window = u64::from(terms.window_blocks);
    let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 2000));
    let stranger = SocketAddr::from((Ipv4Addr::LOCALHOST, 2001));
    let mut now = Instant::now();
    let mut transfer = Transfer::new(now, client, terms);
    let (mut sent, mut steps) = (0_usize, 0);
    for piece in pieces.take(MOST_STEPS) {
        let [wait, sender, datagram @ ..] = piece else { continue };
        now += Duration::from_millis(u64::from(*wait) * 16);
        transfer.handle_timeout(now);
        match sender % 4 {
            0 => transfer.handle(now, stranger, datagram),
            1 => transfer.handle_repeat(now),
            _ => transfer.handle(now, client, datagram),
        }
        steps += 1;
        while let Some(transmit) = transfer.poll_transmit(now) {
            sent += 1;
            if let Transmit::Blocks(run) = transmit {
                assert!(run.count <= window, "{} blocks in a window of {window}", run.count);
                assert!(run.offset_bytes + run.length_bytes as u64 <= FILE_BYTES, "beyond the end");
            }
        }
    }
    assert!(sent <= 2 * steps + 1, "{sent} sendings for {steps} datagrams and timers");
}
