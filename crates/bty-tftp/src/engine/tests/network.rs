//! A client, a network that loses, copies, delays and reorders, and a clock that nobody waits for.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::engine::{
    negotiate::{Rollover, Terms},
    packet,
    transfer::{Outcome, Transfer, Transmit},
};

pub(super) const CLIENT: SocketAddr = address(2001);
pub(super) const STRANGER: SocketAddr = address(2002);

const fn address(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), port)
}

/// A generator of numbers that a seed repeats (`SplitMix64`).
#[derive(Debug, Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }

    fn happens(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// What the network does to datagrams.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    pub(super) lost_per_mille: u64,
    pub(super) copied_per_mille: u64,
    pub(super) acks_copied_per_mille: u64,
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) ack_jitter: Duration,
    pub(super) spoofed_per_mille: u64,
}

/// How a client treats a block that it doesn't expect. RFC 7440 leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// Reports a gap once, acknowledges its last block again when that comes again.
    Quiet,
    /// Acknowledges its last block for every unexpected one, old or new.
    Chatty,
    /// Reports no gap: only its timer speaks.
    Mute,
}

/// A client as RFC 1350 and RFC 7440 describe it.
#[derive(Debug)]
pub(super) struct Client {
    habit: Habit,
    block_bytes: usize,
    window_blocks: u64,
    rollover: Rollover,
    timeout: Duration,
    deadline: Option<Instant>,
    has: u64,
    in_window: u64,
    gap_reported: bool,
    pub(super) file: Vec<u8>,
    pub(super) done: bool,
}

impl Client {
    fn handle(&mut self, now: Instant, datagram: &[u8]) -> Option<Vec<u8>> {
        self.deadline = Some(now + self.timeout);
        if datagram.starts_with(&[0, 6]) {
            return (self.has == 0).then(|| self.ack());
        }
        let (header, payload) = datagram.split_first_chunk::<4>().unwrap();
        assert_eq!(header[..2], [0, 3], "a client gets OACK and DATA only");
        let number = u16::from_be_bytes([header[2], header[3]]);
        if number == self.rollover.number(self.has + 1) && !self.done {
            assert!(payload.len() <= self.block_bytes, "a block is never longer than agreed");
            self.has += 1;
            self.in_window += 1;
            self.gap_reported = false;
            self.file.extend(payload);
            self.done = payload.len() < self.block_bytes;
            return (self.done || self.in_window == self.window_blocks).then(|| self.ack());
        }
        let is_old = (0..=self.window_blocks)
            .any(|back| self.has >= back && self.rollover.number(self.has - back) == number);
        let is_last = number == self.rollover.number(self.has) && self.in_window == 0;
        let speaks = match self.habit {
            Habit::Chatty => true,
            Habit::Quiet => is_last || (!is_old && !self.gap_reported),
            Habit::Mute => is_last,
        };
        self.gap_reported |= !is_old;
        speaks.then(|| self.ack())
    }

    fn ack(&mut self) -> Vec<u8> {
        self.in_window = 0;
        let [high, low] = self.rollover.number(self.has).to_be_bytes();
        vec![0, 4, high, low]
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    arrives: Instant,
    order: u64,
    to_server: bool,
    from_stranger: bool,
    datagram: Vec<u8>,
}

/// A transfer over a simulated network.
#[derive(Debug)]
pub(super) struct Simulation {
    pub(super) transfer: Transfer,
    pub(super) client: Client,
    pub(super) blocks_sent: u64,
    pub(super) strangers_told: u64,
    weather: Weather,
    dice: Dice,
    start: Instant,
    now: Instant,
    order: u64,
    flights: BinaryHeap<Reverse<Flight>>,
    file: Vec<u8>,
}

impl Simulation {
    pub(super) fn new(seed: u64, terms: Terms, habit: Habit, weather: Weather) -> Self {
        let start = Instant::now();
        let client = Client {
            habit,
            block_bytes: terms.block_bytes.into(),
            window_blocks: terms.window_blocks.into(),
            rollover: terms.rollover,
            timeout: Duration::from_secs(1),
            deadline: Some(start + Duration::from_secs(1)),
            has: 0,
            in_window: 0,
            gap_reported: false,
            file: Vec::new(),
            done: false,
        };
        let size = usize::try_from(terms.size_bytes).unwrap();
        Self {
            file: content(size),
            transfer: Transfer::new(start, CLIENT, terms),
            client,
            blocks_sent: 0,
            strangers_told: 0,
            weather,
            dice: Dice(seed),
            start,
            now: start,
            order: 0,
            flights: BinaryHeap::new(),
        }
    }

    /// Runs until the transfer has ended, and says how and after how long.
    pub(super) fn run(&mut self) -> (Outcome, Duration) {
        loop {
            self.send();
            if let Some(outcome) = self.transfer.outcome() {
                return (outcome.clone(), self.now - self.start);
            }
            let arrival = self.flights.peek().map(|Reverse(flight)| flight.arrives);
            let wake = self.transfer.poll_timeout();
            let next = [arrival, wake, self.client.deadline].into_iter().flatten().min().unwrap();
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= self.now) {
                let Reverse(flight) = self.flights.pop().unwrap();
                self.arrive(&flight);
            } else if self.client.deadline.is_some_and(|at| at <= self.now) {
                self.client.deadline = Some(self.now + self.client.timeout);
                let ack = self.client.ack();
                if !self.client.done {
                    self.fly(true, false, &ack);
                }
            } else {
                self.transfer.handle_timeout(self.now);
            }
        }
    }

    /// An extra datagram to the server, now.
    pub(super) fn inject(&mut self, datagram: &[u8]) {
        self.fly(true, false, datagram);
    }

    /// What the client got is the file.
    pub(super) fn assert_delivered(&self) {
        assert!(self.client.file == self.file, "the client got other bytes than the file has");
        assert_eq!(self.transfer.acknowledged_bytes(), self.file.len() as u64);
    }

    fn arrive(&mut self, flight: &Flight) {
        if flight.to_server {
            let from = if flight.from_stranger { STRANGER } else { CLIENT };
            self.transfer.handle(self.now, from, &flight.datagram);
        } else if let Some(answer) = self.client.handle(self.now, &flight.datagram) {
            self.fly(true, false, &answer);
        }
    }

    fn send(&mut self) {
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.transfer.poll_transmit(self.now) {
            match transmit {
                Transmit::Control(STRANGER, error) => {
                    assert_eq!(
                        error,
                        packet::error(packet::ErrorCode::UNKNOWN_TID, "this transfer is not yours")
                    );
                    self.strangers_told += 1;
                }
                Transmit::Control(_, datagram) => self.fly(false, false, &datagram),
                Transmit::Blocks(run) => {
                    let offset = usize::try_from(run.offset_bytes).unwrap();
                    run.write(&self.file[offset..offset + run.length_bytes], &mut datagrams);
                    let blocks: Vec<_> =
                        datagrams.chunks(run.segment_bytes()).map(<[u8]>::to_vec).collect();
                    assert_eq!(blocks.len() as u64, run.count);
                    self.blocks_sent += run.count;
                    for block in blocks {
                        self.fly(false, false, &block);
                    }
                }
            }
        }
    }

    fn fly(&mut self, to_server: bool, from_stranger: bool, datagram: &[u8]) {
        let acks_copied = if to_server { self.weather.acks_copied_per_mille } else { 0 };
        let copied_per_mille = self.weather.copied_per_mille.max(acks_copied);
        let copies = 1 + u64::from(self.dice.happens(copied_per_mille));
        let ack_jitter = if to_server { self.weather.ack_jitter } else { Duration::ZERO };
        let jitter = self.weather.jitter.max(ack_jitter);
        for _ in 0..copies {
            if self.dice.happens(self.weather.lost_per_mille) {
                continue;
            }
            let jitter = self.dice.below(u64::try_from(jitter.as_nanos()).unwrap());
            let arrives = self.now + self.weather.delay + Duration::from_nanos(jitter);
            self.order += 1;
            let datagram = datagram.to_owned();
            let flight = Flight { arrives, order: self.order, to_server, from_stranger, datagram };
            self.flights.push(Reverse(flight));
        }
        if self.dice.happens(self.weather.spoofed_per_mille) {
            let number = u8::try_from(self.dice.below(8)).unwrap();
            let spoofed = if number == 7 { vec![0, 5, 0, 0, 0] } else { vec![0, 4, 0, number] };
            self.order += 1;
            let arrives = self.now + self.weather.delay;
            let order = self.order;
            let flight =
                Flight { arrives, order, to_server: true, from_stranger: true, datagram: spoofed };
            self.flights.push(Reverse(flight));
        }
    }
}

/// A file of this many bytes, every block different.
pub(super) fn content(bytes: usize) -> Vec<u8> {
    let mut dice = Dice(bytes as u64);
    std::iter::repeat_with(|| dice.roll().to_le_bytes()).flatten().take(bytes).collect()
}

/// Terms with an OACK in front.
pub(super) fn terms(size_bytes: u64, block_bytes: u16, window_blocks: u16) -> Terms {
    Terms {
        size_bytes,
        block_bytes,
        window_blocks,
        timeout: None,
        rollover: Rollover::Zero,
        oack: Some(packet::oack(&[packet::RequestOption::BlockSize(block_bytes.into())])),
    }
}
