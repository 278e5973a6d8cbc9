//! Takes requests, and decides which of them become transfers.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bty_service::{
    Context, RunError,
    datagram::{Arrival, DatagramSocket, Departure},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Rates,
    engine::packet::{self, ErrorCode, Incoming, ReadRequest, Unreadable},
    session::{Session, Shared},
    settings::Settings,
};

/// Longer requests are cut off, and then refused.
const BUFFER_BYTES: usize = 2048;
/// Room for requests that arrive while we are busy: hundreds of machines may be switched on at once.
const ROOM_BYTES: usize = 1 << 20;
/// How often an idle loop turns, for the watchdog.
const TURN: Duration = Duration::from_secs(1);
/// Errors of the socket in a row after which it is given up.
const MAX_FAILURES: u32 = 100;
/// At most one warning in this time that requests are refused.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// A request that comes again this soon is a copy of the first, not a new wish.
const COPY: Duration = Duration::from_millis(500);
/// A transfer whose client has not answered for this long makes room for another when there are too many.
const MAKES_ROOM_AFTER: Duration = Duration::from_secs(1);

/// A socket that can't be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "binding UDP {address}; is another TFTP server running, or may this user not bind the port?"
)]
struct BindError {
    address: SocketAddrV4,
    source: io::Error,
}

/// Answers from the address that was asked. An answer that can't be sent is lost, as any datagram may be.
pub(crate) fn reply(socket: &DatagramSocket, arrival: &Arrival, datagram: &[u8]) {
    let departure = Departure { to: arrival.from, local: arrival.local, interface: None };
    if let Err(problem) = socket.try_send(&departure, datagram) {
        tracing::debug!(peer = %arrival.from, err = %problem, "an answer could not be sent");
    }
}

/// Begins to take requests, and says on which addresses.
pub(crate) fn start(
    context: &Context<Settings>,
    shared: &Arc<Shared>,
) -> Result<Vec<String>, RunError> {
    let mut sockets = Vec::new();
    for socket in context.sockets.take("tftp") {
        sockets.push(DatagramSocket::adopt(socket, ROOM_BYTES)?);
    }
    if sockets.is_empty() {
        let address = context.settings.listen;
        let bound = DatagramSocket::bind(address, false, ROOM_BYTES);
        sockets.push(bound.map_err(|source| BindError { address, source })?);
    }
    let seats = Seats::default();
    let mut addresses = Vec::new();
    for socket in sockets {
        addresses.push(socket.local_addr()?.to_string());
        let listener = Listener {
            context: context.clone(),
            shared: Arc::clone(shared),
            socket: Arc::new(socket),
            seats: seats.clone(),
            rates: Rates::new(shared.settings.max_requests_per_second),
            warned_at: None,
        };
        context.spawn("requests", listener.run());
    }
    Ok(addresses)
}

struct Listener {
    context: Context<Settings>,
    shared: Arc<Shared>,
    socket: Arc<DatagramSocket>,
    seats: Seats,
    rates: Rates,
    warned_at: Option<Instant>,
}

impl Listener {
    async fn run(mut self) -> Result<(), RunError> {
        let heartbeat = self.context.heartbeat("requests");
        let socket = Arc::clone(&self.socket);
        let mut buffer = [0; BUFFER_BYTES];
        let mut failures = 0;
        loop {
            heartbeat.beat();
            let received = tokio::select! {
                received = tokio::time::timeout(TURN, socket.receive(&mut buffer)) => received,
                () = self.shared.shutdown.cancelled() => return Ok(()),
            };
            match received {
                Err(_nothing) => {}
                Ok(Ok(arrival)) => {
                    failures = 0;
                    let datagram = buffer.get(..arrival.length).unwrap_or(&buffer);
                    self.take(&arrival, datagram);
                }
                Ok(Err(problem)) => {
                    failures += 1;
                    tracing::warn!(err = %problem, "receiving a request failed");
                    if failures >= MAX_FAILURES {
                        return Err(problem.into());
                    }
                }
            }
        }
    }

    fn take(&mut self, arrival: &Arrival, datagram: &[u8]) {
        let now = Instant::now();
        let incoming = Incoming::read(datagram);
        if incoming == Err(Unreadable::NotARequest) {
            return self.shared.counters.refuse("not_a_request");
        }
        // The header's address is none of ours: a broadcast or multicast one.
        if arrival.to != arrival.local {
            // RFC 1123 §4.2.3.4: a request to a broadcast address is ignored.
            return self.shared.counters.refuse("broadcast");
        }
        if !self.rates.admit(now, *arrival.from.ip()) {
            return self.turn_away(now, arrival, "rate");
        }
        match incoming {
            Ok(Incoming::Read(request)) => self.begin(now, *arrival, request, datagram),
            Ok(Incoming::Write) => {
                self.shared.counters.refuse("write");
                tracing::info!(peer = %arrival.from, "a write was refused");
                let error = packet::error(ErrorCode::ACCESS, "this server is read-only");
                reply(&self.socket, arrival, &error);
            }
            Err(problem) => {
                self.shared.counters.refuse("malformed");
                tracing::debug!(peer = %arrival.from, err = %problem, "a request was refused");
                let error = packet::error(ErrorCode::ILLEGAL, &problem.to_string());
                reply(&self.socket, arrival, &error);
            }
        }
    }

    fn begin(&mut self, now: Instant, arrival: Arrival, request: ReadRequest, datagram: &[u8]) {
        if let Some(earlier) = self.seats.held_by(arrival.from) {
            let is_same = earlier.request == datagram;
            if is_same && !earlier.answered.load(Ordering::Relaxed) {
                return earlier.repeated.notify_one();
            }
            if is_same && now.saturating_duration_since(earlier.since) < COPY {
                return;
            }
            // The client gave up what went before; some boot ROMs ask from the same port each time.
            earlier.cancelled.cancel();
        }
        match self.seats.take(now, arrival.from, datagram, &self.shared) {
            Ok(seat) => {
                let session = Session {
                    shared: Arc::clone(&self.shared),
                    socket: Arc::clone(&self.socket),
                    arrival,
                    request,
                    seat,
                };
                self.context.spawn_session("transfer", session.run());
            }
            Err(reason) => self.turn_away(now, &arrival, reason),
        }
    }

    /// No answer: the client asks again, and by then there may be room; an answer would end its boot.
    fn turn_away(&mut self, now: Instant, arrival: &Arrival, reason: &'static str) {
        self.shared.counters.refuse(reason);
        let due = self.warned_at.is_none_or(|at| now.saturating_duration_since(at) >= WARN_EVERY);
        if due {
            self.warned_at = Some(now);
            tracing::warn!(peer = %arrival.from, reason, "requests are not answered: too many");
        }
    }
}

/// The transfers under way. Clones share everything.
#[derive(Debug, Clone, Default)]
struct Seats(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_client: HashMap<Ipv4Addr, usize>,
    by_peer: HashMap<SocketAddrV4, Arc<Control>>,
}

/// How the listener reaches a transfer.
#[derive(Debug)]
pub(crate) struct Control {
    /// The request's own bytes.
    request: Vec<u8>,
    since: Instant,
    /// Set by the transfer when its client has answered.
    pub(crate) answered: AtomicBool,
    /// The client sent its request again.
    pub(crate) repeated: Notify,
    /// The transfer is no longer wanted.
    pub(crate) cancelled: CancellationToken,
}

/// The place of one transfer among those that may be under way; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    peer: SocketAddrV4,
    shared: Arc<Shared>,
    /// How the listener reaches the transfer.
    pub(crate) control: Arc<Control>,
}

impl Seats {
    fn held_by(&self, peer: SocketAddrV4) -> Option<Arc<Control>> {
        self.lock().by_peer.get(&peer).cloned()
    }

    fn take(
        &self,
        now: Instant,
        peer: SocketAddrV4,
        request: &[u8],
        shared: &Arc<Shared>,
    ) -> Result<Seat, &'static str> {
        let mut taken = self.lock();
        let of_client = taken.by_client.get(peer.ip()).copied().unwrap_or(0);
        if of_client >= shared.settings.max_transfers_per_client {
            return Err("client");
        }
        if taken.total >= shared.settings.max_transfers && !taken.make_room(now) {
            return Err("total");
        }
        let control = Arc::new(Control {
            request: request.to_vec(),
            since: now,
            answered: AtomicBool::new(false),
            repeated: Notify::new(),
            cancelled: CancellationToken::new(),
        });
        taken.total += 1;
        *taken.by_client.entry(*peer.ip()).or_default() += 1;
        taken.by_peer.insert(peer, Arc::clone(&control));
        shared.counters.active.inc();
        Ok(Seat { seats: self.clone(), peer, shared: Arc::clone(shared), control })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Forged addresses never answer: they must not keep out the clients that would.
    fn make_room(&self, now: Instant) -> bool {
        let silent = self.by_peer.values().find(|control| {
            !control.answered.load(Ordering::Relaxed)
                && !control.cancelled.is_cancelled()
                && now.saturating_duration_since(control.since) >= MAKES_ROOM_AFTER
        });
        if let Some(control) = silent {
            control.cancelled.cancel();
        }
        silent.is_some()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.total -= 1;
        if let Some(count) = taken.by_client.get_mut(self.peer.ip()) {
            *count -= 1;
            if *count == 0 {
                taken.by_client.remove(self.peer.ip());
            }
        }
        // A later transfer of the same client may have taken the entry over.
        if taken.by_peer.get(&self.peer).is_some_and(|control| Arc::ptr_eq(control, &self.control))
        {
            taken.by_peer.remove(&self.peer);
        }
        self.shared.counters.active.dec();
    }
}
