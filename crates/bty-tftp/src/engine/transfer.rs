//! One file to one client: a go-back-N window over numbered blocks (RFC 1350, RFC 7440).
//!
//! The engine says which blocks to send; it never holds the file. Blocks count from 1 in 64 bits, and only on the wire in 16.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    negotiate::{Rollover, Terms},
    packet::{self, Answer, DATA_HEADER_BYTES, ErrorCode},
    round_trip::RoundTrip,
};

/// A client that says nothing new for this long is gone. Where it asked for a long timeout, it gets three of those.
pub const SILENCE: Duration = Duration::from_secs(30);
/// Sendings of the first datagram to an address that has never answered: it may be somebody else's (RFC 1350 has no
/// handshake), so it is not sent many.
pub const FIRST_TRIES: u32 = 5;
/// Sendings of one window to a client that answers, but not with progress.
pub const TRIES: u32 = 40;
/// Strangers on one transfer's port that are told so; more get no answer.
const STRANGERS: u32 = 16;

/// What to send now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// One datagram to this address, as it is.
    Control(SocketAddr, Vec<u8>),
    /// These blocks of the file to the client.
    Blocks(Run),
}

/// Blocks in a row, to be sent as datagrams of one size (the last one may be shorter).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first block.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Where in the file they begin.
    pub offset_bytes: u64,
    /// How many bytes of the file they hold.
    pub length_bytes: usize,
    block_bytes: u16,
    rollover: Rollover,
}

impl Run {
    /// The size of every datagram but the last.
    pub fn segment_bytes(&self) -> usize {
        usize::from(self.block_bytes) + DATA_HEADER_BYTES
    }

    /// Writes the datagrams one after the other over `into`; `payload` is [`Self::length_bytes`] bytes of the file.
    pub fn write(&self, payload: &[u8], into: &mut Vec<u8>) {
        into.clear();
        let mut blocks = payload.chunks(usize::from(self.block_bytes));
        for block in self.first..self.first + self.count {
            into.extend(packet::data_header(self.rollover.number(block)));
            into.extend(blocks.next().unwrap_or_default());
        }
    }
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The client has the whole file.
    Complete,
    /// The client looked at the OACK and wanted no more. Firmware asks for the size this way.
    Probe,
    /// The client ended it in the middle.
    Refused(ErrorCode, String),
    /// The client was not heard of again.
    Silent,
    /// The server ended it.
    Aborted,
}

/// One file to one client.
#[derive(Debug)]
pub struct Transfer {
    peer: SocketAddr,
    terms: Terms,
    blocks: u64,
    /// Waiting for ACK 0 to the OACK.
    offering: bool,
    /// The client has every block up to this one.
    acked: u64,
    /// The highest block that was ever sent.
    highest: u64,
    /// The highest block that was ever sent twice; `None` while even the OACK was sent once.
    repeated: Option<u64>,
    round_trip: RoundTrip,
    /// When what is under way was sent; `None` while there is something to send.
    sent_at: Option<Instant>,
    /// What is under way was sent for the first time, so that its answer may be measured.
    fresh: bool,
    /// Sendings since the client last made progress.
    tries: u32,
    progress_at: Instant,
    answered: bool,
    control: VecDeque<(SocketAddr, Vec<u8>)>,
    strangers: u32,
    resent_blocks: u64,
    outcome: Option<Outcome>,
}

impl Transfer {
    /// A transfer that begins now.
    pub fn new(now: Instant, peer: SocketAddr, terms: Terms) -> Self {
        // RFC 1350 §6: a block shorter than the rest ends the transfer, an empty one where nothing is left over.
        let blocks = terms.size_bytes / u64::from(terms.block_bytes.max(1)) + 1;
        Self {
            peer,
            blocks,
            offering: terms.oack.is_some(),
            acked: 0,
            highest: 0,
            repeated: None,
            round_trip: RoundTrip::new(terms.timeout),
            sent_at: None,
            fresh: true,
            tries: 0,
            progress_at: now,
            answered: false,
            control: VecDeque::new(),
            strangers: 0,
            resent_blocks: 0,
            outcome: None,
            terms,
        }
    }

    /// Takes a datagram that arrived on the transfer's port.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if from != self.peer {
            self.turn_away(from, datagram);
            return;
        }
        if self.outcome.is_some() {
            return;
        }
        match Answer::read(datagram) {
            Some(Answer::Ack(number)) => self.handle_ack(now, number),
            Some(Answer::Error(code, text)) => {
                self.outcome =
                    Some(if self.offering { Outcome::Probe } else { Outcome::Refused(code, text) });
            }
            // Not what a reading client sends; the timer decides whether it is still there.
            None => {}
        }
    }

    /// The client sent its request again: our first answer was lost. Sends it again, if the client has not answered since.
    pub fn handle_repeat(&mut self, now: Instant) {
        let just_sent = self.sent_at.is_some_and(|at| now - at < Duration::from_millis(100));
        if !self.answered && !just_sent && self.tries < FIRST_TRIES && self.outcome.is_none() {
            self.send_again();
        }
    }

    /// What to send now; called until it says `None`.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if let Some((to, datagram)) = self.control.pop_front() {
            return Some(Transmit::Control(to, datagram));
        }
        if self.outcome.is_some() || self.sent_at.is_some() {
            return None;
        }
        self.sent_at = Some(now);
        self.tries += 1;
        match &self.terms.oack {
            Some(oack) if self.offering => {
                let oack = oack.clone();
                if !self.fresh {
                    self.repeated = Some(0);
                }
                Some(Transmit::Control(self.peer, oack))
            }
            _ => Some(Transmit::Blocks(self.take_run())),
        }
    }

    /// When to call [`Self::handle_timeout`]; `None` when the transfer has ended.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sent_at = self.sent_at?;
        self.outcome.is_none().then(|| sent_at + self.round_trip.patience())
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        let silence = self.terms.timeout.map_or(SILENCE, |asked| SILENCE.max(asked * 3));
        let tries = if self.answered { TRIES } else { FIRST_TRIES };
        if self.tries >= tries || now - self.progress_at >= silence {
            self.outcome = Some(Outcome::Silent);
            return;
        }
        self.round_trip.back_off();
        self.send_again();
    }

    /// Ends the transfer from the server's side, and tells the client why.
    pub fn abort(&mut self, code: ErrorCode, text: &str) {
        if self.outcome.is_none() {
            self.control.push_back((self.peer, packet::error(code, text)));
            self.outcome = Some(Outcome::Aborted);
        }
    }

    /// How the transfer ended; `None` while it goes on.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Bytes that the client has.
    pub fn acknowledged_bytes(&self) -> u64 {
        self.terms.size_bytes.min(self.acked.saturating_mul(self.terms.block_bytes.into()))
    }

    /// Blocks that were sent more than once.
    pub fn resent_blocks(&self) -> u64 {
        self.resent_blocks
    }

    /// Whether the client has answered at all: until then its address proves nothing.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Whether the client has all that it was sent, and so nothing more to say before it is sent more.
    pub fn is_all_acknowledged(&self) -> bool {
        !self.offering && self.acked == self.highest && self.sent_at.is_none()
    }

    /// Whether nothing but the last window is missing: a client that falls silent now may well have the whole file.
    pub fn is_in_last_window(&self) -> bool {
        !self.offering && self.acked + u64::from(self.terms.window_blocks) >= self.blocks
    }

    /// What was agreed.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    fn turn_away(&mut self, from: SocketAddr, datagram: &[u8]) {
        // RFC 1350 §4: a datagram from another TID gets ERROR 5 and changes nothing. An ERROR is never answered.
        let is_error = matches!(Answer::read(datagram), Some(Answer::Error(..)));
        if self.strangers < STRANGERS && !is_error {
            self.strangers += 1;
            let error = packet::error(ErrorCode::UNKNOWN_TID, "this transfer is not yours");
            self.control.push_back((from, error));
        }
    }

    fn handle_ack(&mut self, now: Instant, number: u16) {
        if self.offering {
            // RFC 2347: the OACK is acknowledged by block 0.
            if number == 0 {
                self.offering = false;
                self.measure(now);
                self.advance(now);
            }
            return;
        }
        let rollover = self.terms.rollover;
        let Some(block) =
            (self.acked..=self.highest).find(|&block| rollover.number(block) == number)
        else {
            return;
        };
        self.answered = true;
        if block == self.acked {
            self.handle_repeated_ack(now);
            return;
        }
        if self.fresh && block == self.highest {
            self.measure(now);
        }
        self.acked = block;
        if self.acked == self.blocks {
            self.outcome = Some(Outcome::Complete);
            return;
        }
        // RFC 7440 §4: whatever the block is, the next window begins after it; what lies between it and the highest was lost.
        self.advance(now);
    }

    /// An ACK of what was acknowledged before: the first block of the window was lost, or the network copied the ACK.
    ///
    /// With a window of one it means nothing, and answering it would double every block from then on (the Sorcerer's
    /// Apprentice, RFC 1123 §4.2.3.1). With a longer one the client asks for the gap (RFC 7440 §4), unless something else
    /// explains it: the block that it names was itself sent twice, or it comes sooner after the window than any answer ever
    /// did. Without these two the Apprentice would be back, a window at a time.
    fn handle_repeated_ack(&mut self, now: Instant) {
        let is_window = self.highest > self.acked + 1;
        let is_echo = self.repeated.is_some_and(|repeated| self.acked <= repeated);
        let is_answer = self.sent_at.is_some_and(|at| now - at >= self.round_trip.fastest());
        if is_window && !is_echo && is_answer && self.tries < TRIES {
            self.send_again();
        }
    }

    fn measure(&mut self, now: Instant) {
        self.answered = true;
        if let Some(sent_at) = self.sent_at.filter(|_| self.fresh) {
            self.round_trip.sample(now - sent_at);
        }
    }

    /// The client has more than before: the window moves.
    fn advance(&mut self, now: Instant) {
        self.progress_at = now;
        self.tries = 0;
        self.sent_at = None;
    }

    fn send_again(&mut self) {
        self.sent_at = None;
        self.fresh = false;
    }

    /// The window after what is acknowledged, as one run.
    fn take_run(&mut self) -> Run {
        let first = self.acked + 1;
        let last = self.blocks.min(self.acked + u64::from(self.terms.window_blocks));
        self.fresh = self.highest < first;
        if !self.fresh {
            self.resent_blocks += self.highest.min(last) - self.acked;
            self.repeated = self.repeated.max(Some(self.highest.min(last)));
        }
        self.highest = self.highest.max(last);
        let block_bytes = u64::from(self.terms.block_bytes);
        let offset_bytes = (first - 1) * block_bytes;
        let end = self.terms.size_bytes.min(last * block_bytes);
        Run {
            first,
            count: last + 1 - first,
            offset_bytes,
            // A window is at most 65535 blocks of 65464 bytes; where that does not fit, the machine has no room for it either.
            length_bytes: usize::try_from(end - offset_bytes).unwrap_or(0),
            block_bytes: self.terms.block_bytes,
            rollover: self.terms.rollover,
        }
    }
}
