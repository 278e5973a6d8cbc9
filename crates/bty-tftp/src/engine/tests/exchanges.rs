//! Single steps of a transfer, datagram by datagram.

use std::time::{Duration, Instant};

use super::network::{CLIENT, STRANGER, terms};
use crate::engine::{
    negotiate::Terms,
    packet::{self, ErrorCode},
    transfer::{FIRST_TRIES, Outcome, Run, SILENCE, Transfer, Transmit},
};

fn without_options(size_bytes: u64) -> Terms {
    Terms { oack: None, ..terms(size_bytes, 512, 1) }
}

fn ack(block: u16) -> Vec<u8> {
    let [high, low] = block.to_be_bytes();
    vec![0, 4, high, low]
}

fn sent_run(transfer: &mut Transfer, now: Instant) -> Option<Run> {
    match transfer.poll_transmit(now)? {
        Transmit::Blocks(run) => Some(run),
        Transmit::Control(_, datagram) => panic!("no blocks but {datagram:?}"),
    }
}

fn sent_blocks(transfer: &mut Transfer, now: Instant) -> Vec<u64> {
    sent_run(transfer, now).map_or(Vec::new(), |run| (run.first..run.first + run.count).collect())
}

/// A transfer with a window of 4 whose first window was sent at `now`, 10 ms after the OACK.
fn in_first_window(start: Instant) -> (Transfer, Instant) {
    let mut transfer = Transfer::new(start, CLIENT, terms(512 * 20, 512, 4));
    transfer.poll_transmit(start).unwrap();
    let now = start + Duration::from_millis(10);
    transfer.handle(now, CLIENT, &ack(0));
    assert_eq!(sent_blocks(&mut transfer, now), [1, 2, 3, 4]);
    (transfer, now)
}

#[test]
fn rfc1350_without_options_the_first_block_answers() {
    let now = Instant::now();
    let mut transfer = Transfer::new(now, CLIENT, without_options(600));
    let run = sent_run(&mut transfer, now).unwrap();
    assert_eq!((run.first, run.count, run.offset_bytes, run.length_bytes), (1, 1, 0, 512));
    let mut datagram = Vec::new();
    run.write(&[7; 512], &mut datagram);
    assert_eq!(datagram[..4], [0, 3, 0, 1]);
    assert_eq!(datagram.len(), 516);
    assert_eq!(transfer.poll_transmit(now), None, "the next block waits for the ACK");
}

#[test]
fn rfc1350_a_file_of_whole_blocks_ends_with_an_empty_one() {
    let now = Instant::now();
    let mut transfer = Transfer::new(now, CLIENT, without_options(512));
    assert_eq!(sent_blocks(&mut transfer, now), [1]);
    transfer.handle(now, CLIENT, &ack(1));
    let run = sent_run(&mut transfer, now).unwrap();
    assert_eq!((run.first, run.offset_bytes, run.length_bytes), (2, 512, 0));
    let mut datagram = Vec::new();
    run.write(&[], &mut datagram);
    assert_eq!(datagram, [0, 3, 0, 2]);
    transfer.handle(now, CLIENT, &ack(2));
    assert_eq!(transfer.outcome(), Some(&Outcome::Complete));
    assert_eq!(transfer.poll_timeout(), None);
}

#[test]
fn rfc1350_another_tid_gets_error_5_and_changes_nothing() {
    let (mut transfer, now) = in_first_window(Instant::now());
    transfer.handle(now, STRANGER, &ack(4));
    let error = packet::error(ErrorCode::UNKNOWN_TID, "this transfer is not yours");
    assert_eq!(transfer.poll_transmit(now), Some(Transmit::Control(STRANGER, error)));
    assert_eq!(transfer.acknowledged_bytes(), 0);
    transfer.handle(now, STRANGER, &packet::error(ErrorCode::OTHER, "stop"));
    assert_eq!(transfer.poll_transmit(now), None, "an ERROR is never answered");
    assert_eq!(transfer.outcome(), None);
}

#[test]
fn rfc1350_a_duplicate_ack_sends_nothing() {
    let start = Instant::now();
    let mut transfer = Transfer::new(start, CLIENT, without_options(5000));
    assert_eq!(sent_blocks(&mut transfer, start), [1]);
    let now = start + Duration::from_millis(5);
    transfer.handle(now, CLIENT, &ack(1));
    assert_eq!(sent_blocks(&mut transfer, now), [2]);
    for later in 0..100 {
        transfer.handle(now + Duration::from_millis(later), CLIENT, &ack(1));
        assert_eq!(transfer.poll_transmit(now), None);
    }
}

#[test]
fn rfc2347_the_oack_is_acknowledged_by_block_0() {
    let now = Instant::now();
    let mut transfer = Transfer::new(now, CLIENT, terms(600, 512, 1));
    let oack = b"\0\x06blksize\x00512\0".to_vec();
    assert_eq!(transfer.poll_transmit(now), Some(Transmit::Control(CLIENT, oack)));
    transfer.handle(now, CLIENT, &ack(1));
    assert_eq!(transfer.poll_transmit(now), None, "ACK 1 acknowledges no OACK");
    transfer.handle(now, CLIENT, &ack(0));
    assert_eq!(sent_blocks(&mut transfer, now), [1]);
}

#[test]
fn an_error_after_the_oack_is_a_probe() {
    let now = Instant::now();
    let mut transfer = Transfer::new(now, CLIENT, terms(600, 512, 4));
    transfer.poll_transmit(now);
    transfer.handle(now, CLIENT, b"\0\x05\0\x08User aborted the transfer\0");
    assert_eq!(transfer.outcome(), Some(&Outcome::Probe));
    assert_eq!((transfer.poll_transmit(now), transfer.poll_timeout()), (None, None));
}

#[test]
fn rfc1350_an_error_ends_the_transfer_without_an_answer() {
    let (mut transfer, now) = in_first_window(Instant::now());
    transfer.handle(now, CLIENT, b"\0\x05\0\x03disk full");
    let want = Outcome::Refused(ErrorCode(3), "disk full".into());
    assert_eq!(transfer.outcome(), Some(&want));
    assert_eq!((transfer.poll_transmit(now), transfer.poll_timeout()), (None, None));
}

#[test]
fn rfc7440_the_next_window_follows_the_ack_of_the_last_block() {
    let (mut transfer, now) = in_first_window(Instant::now());
    transfer.handle(now, CLIENT, &ack(4));
    assert_eq!(sent_blocks(&mut transfer, now), [5, 6, 7, 8]);
    assert_eq!(transfer.resent_blocks(), 0);
}

#[test]
fn rfc7440_an_ack_inside_the_window_resends_from_the_gap() {
    let (mut transfer, now) = in_first_window(Instant::now());
    transfer.handle(now, CLIENT, &ack(2));
    assert_eq!(sent_blocks(&mut transfer, now), [3, 4, 5, 6]);
    assert_eq!(transfer.resent_blocks(), 2);
}

#[test]
fn rfc7440_reack_resends_from_gap() {
    let (mut transfer, now) = in_first_window(Instant::now());
    let answered = now + Duration::from_millis(10);
    transfer.handle(answered, CLIENT, &ack(0));
    assert_eq!(sent_blocks(&mut transfer, answered), [1, 2, 3, 4]);
    transfer.handle(answered + Duration::from_millis(1), CLIENT, &ack(0));
    assert_eq!(transfer.poll_transmit(answered), None, "the report of the same gap again");
}

#[test]
fn a_reack_sooner_than_any_answer_is_a_copy() {
    let (mut transfer, now) = in_first_window(Instant::now());
    transfer.handle(now + Duration::from_millis(9), CLIENT, &ack(0));
    assert_eq!(transfer.poll_transmit(now), None);
}

#[test]
fn a_reack_of_a_block_that_was_sent_twice_is_an_echo() {
    let (mut transfer, now) = in_first_window(Instant::now());
    let due = transfer.poll_timeout().unwrap();
    transfer.handle_timeout(due);
    assert_eq!(sent_blocks(&mut transfer, due), [1, 2, 3, 4]);
    transfer.handle(due, CLIENT, &ack(4));
    assert_eq!(sent_blocks(&mut transfer, due), [5, 6, 7, 8]);
    transfer.handle(due + Duration::from_millis(15), CLIENT, &ack(4));
    assert_eq!(transfer.poll_transmit(now), None);
}

#[test]
fn the_timer_follows_the_measured_round_trip() {
    let (mut transfer, now) = in_first_window(Instant::now());
    // RFC 6298 §2.2: after one sample of 10 ms, 10 + 4 * 5 ms.
    assert_eq!(transfer.poll_timeout(), Some(now + Duration::from_millis(30)));
    transfer.handle_timeout(now + Duration::from_millis(29));
    assert_eq!(transfer.poll_transmit(now), None, "too early");
    let due = now + Duration::from_millis(30);
    transfer.handle_timeout(due);
    assert_eq!(sent_blocks(&mut transfer, due), [1, 2, 3, 4]);
    assert_eq!(transfer.poll_timeout(), Some(due + Duration::from_millis(60)), "twice as long");
}

#[test]
fn rfc2349_the_clients_timeout_is_kept() {
    let now = Instant::now();
    let asked = Some(Duration::from_secs(3));
    let mut transfer = Transfer::new(now, CLIENT, Terms { timeout: asked, ..terms(9000, 512, 4) });
    transfer.poll_transmit(now);
    assert_eq!(transfer.poll_timeout(), Some(now + Duration::from_secs(3)));
    transfer.handle(now, CLIENT, &ack(0));
    transfer.poll_transmit(now);
    assert_eq!(transfer.poll_timeout(), Some(now + Duration::from_secs(3)));
}

#[test]
fn an_address_that_never_answers_is_not_sent_much() {
    for terms in [without_options(1 << 20), terms(1 << 20, 1468, 16)] {
        let mut now = Instant::now();
        let mut transfer = Transfer::new(now, CLIENT, terms);
        let mut sent = 0;
        while transfer.outcome().is_none() {
            sent += u32::from(transfer.poll_transmit(now).is_some());
            if let Some(due) = transfer.poll_timeout() {
                now = due;
                transfer.handle_repeat(now);
                transfer.handle_timeout(now);
            }
        }
        assert_eq!(transfer.outcome(), Some(&Outcome::Silent));
        assert_eq!(sent, FIRST_TRIES);
    }
}

#[test]
fn a_client_that_falls_silent_is_given_up() {
    let (mut transfer, start) = in_first_window(Instant::now());
    let mut now = start;
    while let Some(due) = transfer.poll_timeout() {
        now = due;
        transfer.handle_timeout(now);
        transfer.poll_transmit(now);
    }
    assert_eq!(transfer.outcome(), Some(&Outcome::Silent));
    let silent = now - start;
    assert!(silent >= SILENCE && silent < SILENCE * 2, "{silent:?}");
}

#[test]
fn a_client_that_only_reports_gaps_is_given_up() {
    let (mut transfer, mut now) = in_first_window(Instant::now());
    for _ in 0..10_000 {
        now += Duration::from_millis(12);
        transfer.handle(now, CLIENT, &ack(0));
        transfer.handle_timeout(now);
        transfer.poll_transmit(now);
    }
    assert_eq!(transfer.outcome(), Some(&Outcome::Silent));
    assert!(transfer.resent_blocks() <= 4 * 40);
}

#[test]
fn a_repeated_request_is_answered_again_until_the_client_answers() {
    let now = Instant::now();
    let mut transfer = Transfer::new(now, CLIENT, terms(600, 512, 1));
    assert!(transfer.poll_transmit(now).is_some());
    transfer.handle_repeat(now + Duration::from_millis(10));
    assert_eq!(transfer.poll_transmit(now), None, "a copy of the request");
    let later = now + Duration::from_millis(500);
    transfer.handle_repeat(later);
    assert!(transfer.poll_transmit(later).is_some());
    transfer.handle(later, CLIENT, &ack(0));
    assert_eq!(sent_blocks(&mut transfer, later), [1]);
    transfer.handle_repeat(later + Duration::from_millis(500));
    assert_eq!(transfer.poll_transmit(later), None);
}

#[test]
fn an_abort_tells_the_client_once() {
    let (mut transfer, now) = in_first_window(Instant::now());
    transfer.abort(ErrorCode::OTHER, "the file changed");
    let error = packet::error(ErrorCode::OTHER, "the file changed");
    assert_eq!(transfer.poll_transmit(now), Some(Transmit::Control(CLIENT, error)));
    assert_eq!((transfer.poll_transmit(now), transfer.poll_timeout()), (None, None));
    assert_eq!(transfer.outcome(), Some(&Outcome::Aborted));
}
