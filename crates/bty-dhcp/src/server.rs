//! Moves packets between the sockets and the engine, and what came of them to the journal, the log and the registry.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bty_api::{convert::timestamp, registry::v1::Contact};
use bty_service::{
    BootLink, Context, Heartbeat, RunError, SteadyClock,
    datagram::{Arrival, Departure, ThreadSocket},
};
use bty_types::{BootChain, MacAddr};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::{
    beside,
    contacts::Contacts,
    engine::{
        Directory, Engine, Exchange, Ingress, Knows, Lease, LeaseChange, MachineFacts, Mode,
        OtherServer, Outcome, Overheard, Probe, Reply, ServerPort, Servers, Silence, Verdict,
    },
    history::History,
    interfaces::Interfaces,
    journal::Journal,
    keeper::{self, Job},
    log::{self, LogLines},
    metrics::Counters,
    settings::Settings,
};

/// Longer datagrams are cut off, which the engine takes for malformed.
const BUFFER_BYTES: usize = 4097;
/// Room for packets that arrive while we are busy: a whole rack may be switched on at once.
const ROOM_BYTES: usize = 4 << 20;
/// How often an idle loop turns, for the watchdog and to see whether it is to end.
const TURN: Duration = Duration::from_millis(500);
/// Errors of a socket in a row after which it is given up.
const MAX_FAILURES: u32 = 100;
/// The journal's name in the state folder.
const JOURNAL: &str = "leases";

/// A socket that can't be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "binding UDP port {}; is another DHCP server running here that doesn't share it, or may this user not bind it?",
    port.number()
)]
struct BindError {
    port: ServerPort,
    source: io::Error,
}

/// What the parts of the daemon share.
#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<Core>,
    directory: Directory,
    link: BootLink,
    counters: Counters,
    /// What was answered, and why.
    pub(crate) history: History,
    /// Where answers go that wait for the disk; only a full server has it.
    jobs: Option<mpsc::Sender<Job>>,
    /// Answers that found no place to wait for the disk, since that was said last.
    dropped: AtomicU64,
    /// Whether what other servers say is heard.
    pub(crate) listening: AtomicBool,
    pub(crate) shutdown: CancellationToken,
    /// What leases last by; the machine's own clock may be set.
    clock: SteadyClock,
}

/// What changes with each packet.
#[derive(Debug)]
struct Core {
    engine: Engine,
    interfaces: Interfaces,
    contacts: Contacts,
    servers: Servers,
    /// Our own question, which comes back to us.
    probe: Option<Probe>,
    log_lines: LogLines,
}

/// Starts to serve; gives the line of status too.
pub(crate) fn start(
    context: &Context<Settings>,
    reporter: &str,
) -> Result<(Arc<Shared>, String), RunError> {
    let settings = &context.settings;
    let rules = settings.rules()?;
    let mode = rules.mode;
    let (jobs, inbox) = keeper::channel();
    let clock = SteadyClock::start();
    let journal_path = context.paths.state.join(JOURNAL);
    let (engine, journal) = if mode == Mode::Full {
        let engine = Engine::new(clock.now(), rules, read_journal(&journal_path)?);
        let journal = Journal::create(&journal_path, &engine.lease_changes(clock.now()))?;
        (engine, Some(journal))
    } else {
        (Engine::new(clock.now(), rules, []), None)
    };
    let shared = Arc::new(Shared {
        core: Mutex::new(Core {
            engine,
            interfaces: Interfaces::new(settings.interfaces.clone()),
            contacts: Contacts::default(),
            servers: Servers::new(mode),
            probe: None,
            log_lines: LogLines::default(),
        }),
        directory: settings.directory(),
        link: BootLink::start(context, reporter),
        counters: Counters::register(&mut context.metrics()),
        history: History::default(),
        jobs: journal.is_some().then_some(jobs),
        dropped: AtomicU64::new(0),
        listening: AtomicBool::new(false),
        shutdown: context.shutdown().clone(),
        clock,
    });
    if let Some(journal) = journal {
        keeper::start(context, &shared, journal, inbox);
    }
    for (port, name) in [(ServerPort::Dhcp, "dhcp"), (ServerPort::Pxe, "pxe")] {
        let given = context.sockets.take(name);
        if mode != Mode::Off {
            let sockets = listen(context, &shared, port, given)?;
            if port == ServerPort::Dhcp
                && let Some(socket) = sockets.into_iter().next()
            {
                beside::start(context, &shared, socket);
            }
        }
    }
    shared.count_leases();
    let interfaces = shared.lock().interfaces.describe();
    let status = match mode {
        Mode::Proxy => format!("proxy beside the LAN's DHCP server on {interfaces}"),
        Mode::Full => format!("DHCP server on {interfaces}"),
        Mode::Off => "off: nothing is answered".to_owned(),
    };
    tracing::info!(status, "serving");
    Ok((shared, status))
}

fn read_journal(path: &Path) -> Result<Vec<LeaseChange>, RunError> {
    let held = Journal::read(path)?;
    if held.damaged_lines > 0 {
        tracing::warn!(
            path = %path.display(),
            lines = held.damaged_lines,
            "lines of the journal of leases were damaged and are left out"
        );
    }
    Ok(held.changes)
}

fn listen(
    context: &Context<Settings>,
    shared: &Arc<Shared>,
    port: ServerPort,
    given: Vec<std::os::fd::OwnedFd>,
) -> Result<Vec<Arc<ThreadSocket>>, RunError> {
    let mut sockets = Vec::new();
    for socket in given {
        sockets.push(Arc::new(ThreadSocket::adopt(socket, ROOM_BYTES, TURN)?));
    }
    if sockets.is_empty() {
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port.number());
        // Another DHCP server on this host may have the port too, if it shares it.
        let bound = ThreadSocket::bind(address, true, ROOM_BYTES, TURN);
        sockets.push(Arc::new(bound.map_err(|source| BindError { port, source })?));
    }
    let name = match port {
        ServerPort::Dhcp => "port 67",
        ServerPort::Pxe => "port 4011",
    };
    for socket in &sockets {
        let heartbeat = context.heartbeat(name);
        let (shared, socket) = (Arc::clone(shared), Arc::clone(socket));
        // A thread of its own asks the kernel once for each packet, where a task asks three times.
        context.spawn(name, async move {
            spawn_blocking(move || serve(&shared, &socket, port, name, &heartbeat)).await??;
            Ok(())
        });
    }
    Ok(sockets)
}

fn serve(
    shared: &Shared,
    socket: &Arc<ThreadSocket>,
    port: ServerPort,
    name: &str,
    heartbeat: &Heartbeat,
) -> Result<(), RunError> {
    let mut buffer = [0; BUFFER_BYTES];
    let mut failures = 0;
    while !shared.shutdown.is_cancelled() {
        heartbeat.beat();
        match socket.receive(&mut buffer) {
            Ok(None) => {}
            Ok(Some(arrival)) => {
                failures = 0;
                let datagram = buffer.get(..arrival.length).unwrap_or(&buffer);
                shared.take(socket, port, &arrival, datagram);
            }
            Err(problem) => {
                failures += 1;
                tracing::warn!(err = %problem, "receiving on {name} failed");
                if failures >= MAX_FAILURES {
                    return Err(problem.into());
                }
            }
        }
    }
    Ok(())
}

impl Knows for Shared {
    /// What the operator has set for it, and what the registry says.
    fn facts(&self, mac: MacAddr) -> MachineFacts {
        let MachineFacts { netboot, .. } = self.directory.facts(mac);
        let way = self.link.way(mac);
        MachineFacts {
            netboot,
            chain: way.chain().known().unwrap_or(BootChain::Ipxe),
            own_drivers: way.own_drivers,
        }
    }
}

impl Shared {
    /// The leases that run, and whether each is reserved.
    pub(crate) fn leases(&self) -> Vec<(Lease, bool)> {
        let mut leases = self.lock().engine.leases(self.clock.now());
        for (lease, _) in &mut leases {
            lease.expires_at = self.clock.by_machine(lease.expires_at);
        }
        leases
    }

    /// As they are written: who reads them starts with the machine's clock.
    pub(crate) fn by_machine(
        &self,
        changes: impl IntoIterator<Item = LeaseChange>,
    ) -> Vec<LeaseChange> {
        let by_machine = |at| self.clock.by_machine(at);
        changes.into_iter().map(|change| change.told_by(by_machine)).collect()
    }

    /// The changes that rebuild all leases, as they are written.
    pub(crate) fn lease_changes(&self) -> Vec<LeaseChange> {
        let changes = self.lock().engine.lease_changes(self.clock.now());
        self.by_machine(changes)
    }

    /// Says how many answers were dropped since this was asked last.
    pub(crate) fn say_dropped(&self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "answers were dropped: the disk is too slow for the leases");
        }
    }

    /// Sets the gauge of leases.
    pub(crate) fn count_leases(&self) {
        let count = self.lock().engine.count_leases(self.clock.now());
        self.counters.leases.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The other servers that were heard lately.
    pub(crate) fn servers(&self) -> Vec<OtherServer> {
        let mut servers = self.lock().servers.list(self.clock.now());
        for server in &mut servers {
            server.first_seen = self.clock.by_machine(server.first_seen);
            server.last_seen = self.clock.by_machine(server.last_seen);
        }
        servers
    }

    /// What to ask which servers there are, for each interface that is served: its index, our address there, and the question.
    pub(crate) fn probes(&self, xid: u32) -> Vec<(u32, Ipv4Addr, Probe)> {
        let mut core = self.lock();
        let mut probes = Vec::new();
        for (index, address, card) in core.interfaces.cards() {
            let probe = Probe { mac: card, xid };
            core.probe = Some(probe);
            probes.push((index, address, probe));
        }
        probes
    }

    /// Takes up a packet that another server sent to somebody else.
    pub(crate) fn overhear(&self, index: u32, mac: Option<MacAddr>, packet: &[u8]) {
        let Some(heard) = Overheard::in_packet(packet) else { return };
        let name = self.lock().interfaces.get(index).map(|one| Arc::clone(&one.name));
        if let Some(interface) = name {
            self.hear(&interface, mac, heard);
        }
    }

    fn hear(&self, interface: &Arc<str>, mac: Option<MacAddr>, heard: Overheard) {
        let news = {
            let mut core = self.lock();
            if core.interfaces.own(heard.server).is_some() {
                return;
            }
            core.servers.hear(self.clock.now(), interface, mac, heard)
        };
        let Some(news) = news else { return };
        log::write_news(&news);
        if news.is_new {
            let at = Some(timestamp(SystemTime::now()));
            self.link.report(Contact { at, detail: news.message, ..Contact::default() });
        }
    }

    fn take(
        &self,
        socket: &Arc<ThreadSocket>,
        port: ServerPort,
        arrival: &Arrival,
        datagram: &[u8],
    ) {
        let now = SystemTime::now();
        let decided = self.decide(self.clock.now(), port, arrival, datagram);
        let Some(Outcome { reply, record, changes }) = decided else {
            self.counters.elsewhere.inc();
            return;
        };
        self.record(now, &record);
        if changes.is_empty() {
            if let Some(reply) = reply {
                self.send(socket, &reply);
            }
            return;
        }
        let job = Job { changes, reply: reply.map(|reply| (Arc::clone(socket), reply)) };
        if let Some(jobs) = &self.jobs
            && jobs.try_send(job).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.counters.unsent.inc();
        }
    }

    /// `None` where the packet is not ours to judge.
    fn decide(
        &self,
        now: SystemTime,
        port: ServerPort,
        arrival: &Arrival,
        datagram: &[u8],
    ) -> Option<Outcome> {
        let mut core = self.lock();
        let Core { engine, interfaces, probe, .. } = &mut *core;
        if probe.is_some_and(|probe| probe.is(datagram)) {
            return None;
        }
        let interface = interfaces.get(arrival.interface)?.clone();
        let (address, prefix) = interfaces.own(arrival.to).or_else(|| {
            engine.address_to_serve_by(&interface.name, &interface.addresses).copied()
        })?;
        let ingress = Ingress {
            port,
            index: arrival.interface,
            interface: interface.name,
            address,
            prefix,
            source: arrival.from,
        };
        Some(engine.handle(now, &ingress, datagram, self))
    }

    fn record(&self, now: SystemTime, record: &Exchange) {
        self.counters.count(record);
        let is_logged = self.history.add(now, record) && log::is_wanted(record);
        let (contact, is_logged) = {
            let mut core = self.lock();
            let contact = core.contacts.of(now, record, |mac| self.link.machine(mac).is_some());
            (contact, is_logged && core.log_lines.admit(now))
        };
        if let Some(contact) = contact {
            self.link.report(contact);
        }
        if is_logged {
            log::write(record);
        }
        if let Some(heard) = told_of(record, self.listening.load(Ordering::Relaxed)) {
            self.hear(&record.interface, None, heard);
        }
    }

    /// Sends an answer; one that can't be sent is counted and said.
    pub(crate) fn send(&self, socket: &ThreadSocket, reply: &Reply) {
        let departure =
            Departure { to: reply.destination, local: reply.source, interface: reply.interface };
        if let Err(problem) = socket.send(&departure, &reply.bytes) {
            self.counters.unsent.inc();
            tracing::warn!(peer = %reply.destination, err = %problem, "an answer could not be sent");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another server that a packet to our own port tells of. What one says itself is heard already where all are `listened` to.
fn told_of(record: &Exchange, listened: bool) -> Option<Overheard> {
    match &record.verdict {
        Verdict::Silent(Silence::ServerReply(heard)) => (!listened).then(|| heard.clone()),
        // A client says whose offer it took.
        Verdict::Silent(Silence::OtherServer(server)) => Some(Overheard {
            server: *server,
            leases: true,
            boots: false,
            boot_file: String::new(),
        }),
        _ => None,
    }
}
