//! Moves packets between the sockets and the engine, and what came of them to the journal, the log and the registry.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bty_service::{
    BootLink, Context, RunError, SteadyClock,
    datagram::{Arrival, DatagramSocket, Departure},
};
use bty_types::{BootChain, MacAddr};
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    contacts::Contacts,
    engine::{
        Directory, Engine, Exchange, Ingress, Knows, Lease, LeaseChange, MachineFacts, Mode,
        Outcome, Recent, Reply, ServerPort, Silence, Verdict,
    },
    history::History,
    interfaces::Interfaces,
    journal::Journal,
    log::{self, LogLines},
    metrics::Counters,
    settings::Settings,
};

/// Longer datagrams are cut off, which the engine takes for malformed.
const BUFFER_BYTES: usize = 4097;
/// Room for packets that arrive while we are busy: a whole rack may be switched on at once.
const ROOM_BYTES: usize = 4 << 20;
/// How often an idle loop turns, for the watchdog.
const TURN: Duration = Duration::from_secs(1);
/// Errors of a socket in a row after which it is given up.
const MAX_FAILURES: u32 = 100;
/// Answers that wait for the journal. More are dropped: their clients ask again.
const WAITING_JOBS: usize = 1024;
/// Changes that one write to disk takes together.
const JOBS_AT_ONCE: usize = 256;
/// Another server is warned of once in this time.
const WARN_EVERY: Duration = Duration::from_hours(1);
const SERVERS_REMEMBERED: usize = 64;
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
    mode: Mode,
    link: BootLink,
    counters: Counters,
    /// What was answered, and why.
    pub(crate) history: History,
    /// Where answers go that wait for the disk; only a full server has it.
    jobs: Option<mpsc::Sender<Job>>,
    shutdown: CancellationToken,
    /// What leases last by; the machine's own clock may be set.
    clock: SteadyClock,
}

/// What changes with each packet.
#[derive(Debug)]
struct Core {
    engine: Engine,
    interfaces: Interfaces,
    contacts: Contacts,
    warned: Recent<Ipv4Addr, ()>,
    log_lines: LogLines,
}

/// Changes to be written, and the answer that tells of them.
#[derive(Debug)]
struct Job {
    changes: Vec<LeaseChange>,
    reply: Option<(Arc<DatagramSocket>, Reply)>,
}

/// Starts to serve; gives the line of status too.
pub(crate) fn start(
    context: &Context<Settings>,
    reporter: &str,
) -> Result<(Arc<Shared>, String), RunError> {
    let settings = &context.settings;
    let rules = settings.rules()?;
    let mode = rules.mode;
    let (jobs, inbox) = mpsc::channel(WAITING_JOBS);
    let clock = SteadyClock::start();
    let journal_path = context.paths.state.join(JOURNAL);
    let (engine, journal) = if mode == Mode::Full {
        let engine = Engine::new(rules, read_journal(&journal_path)?);
        let journal = Journal::create(&journal_path, &engine.lease_changes(clock.now()))?;
        (engine, Some(journal))
    } else {
        (Engine::new(rules, []), None)
    };
    let shared = Arc::new(Shared {
        core: Mutex::new(Core {
            engine,
            interfaces: Interfaces::new(settings.interfaces.clone()),
            contacts: Contacts::default(),
            warned: Recent::new(SERVERS_REMEMBERED, WARN_EVERY),
            log_lines: LogLines::default(),
        }),
        directory: settings.directory(),
        mode,
        link: BootLink::start(context, reporter),
        counters: Counters::register(&mut context.metrics()),
        history: History::default(),
        jobs: journal.is_some().then_some(jobs),
        shutdown: context.shutdown().clone(),
        clock,
    });
    if let Some(journal) = journal {
        context.spawn("leases", keep_leases(Arc::clone(&shared), journal, inbox));
    }
    for (port, name) in [(ServerPort::Dhcp, "dhcp"), (ServerPort::Pxe, "pxe")] {
        let given = context.sockets.take(name);
        if mode != Mode::Off {
            listen(context, &shared, port, given)?;
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
) -> Result<(), RunError> {
    let mut sockets = Vec::new();
    for socket in given {
        sockets.push(DatagramSocket::adopt(socket, ROOM_BYTES)?);
    }
    if sockets.is_empty() {
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port.number());
        // Another DHCP server on this host may have the port too, if it shares it.
        let bound = DatagramSocket::bind(address, true, ROOM_BYTES);
        sockets.push(bound.map_err(|source| BindError { port, source })?);
    }
    let name = match port {
        ServerPort::Dhcp => "port 67",
        ServerPort::Pxe => "port 4011",
    };
    for socket in sockets {
        let heartbeat = context.heartbeat(name);
        let shared = Arc::clone(shared);
        context.spawn(name, async move {
            let socket = Arc::new(socket);
            let mut buffer = [0; BUFFER_BYTES];
            let mut failures = 0;
            loop {
                heartbeat.beat();
                let received = tokio::select! {
                    received = timeout(TURN, socket.receive(&mut buffer)) => received,
                    () = shared.shutdown.cancelled() => return Ok(()),
                };
                match received {
                    Err(_nothing) => {}
                    Ok(Ok(arrival)) => {
                        failures = 0;
                        let datagram = buffer.get(..arrival.length).unwrap_or(&buffer);
                        shared.take(&socket, port, &arrival, datagram).await;
                    }
                    Ok(Err(problem)) => {
                        failures += 1;
                        tracing::warn!(err = %problem, "receiving on {name} failed");
                        if failures >= MAX_FAILURES {
                            return Err(problem.into());
                        }
                    }
                }
            }
        });
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
    fn by_machine(&self, changes: impl IntoIterator<Item = LeaseChange>) -> Vec<LeaseChange> {
        let by_machine = |at| self.clock.by_machine(at);
        changes.into_iter().map(|change| change.told_by(by_machine)).collect()
    }

    fn count_leases(&self) {
        self.counters.leases.set(i64::try_from(self.leases().len()).unwrap_or(i64::MAX));
    }

    async fn take(
        &self,
        socket: &Arc<DatagramSocket>,
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
                self.send(socket, &reply).await;
            }
            return;
        }
        let job = Job { changes, reply: reply.map(|reply| (Arc::clone(socket), reply)) };
        if let Some(jobs) = &self.jobs
            && let Err(problem) = jobs.try_send(job)
        {
            tracing::warn!(err = %problem, "an answer was dropped: the disk is too slow for the leases");
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
        let Core { engine, interfaces, .. } = &mut *core;
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
        let is_new = self.history.add(now, record);
        let mut core = self.lock();
        let contact = core.contacts.of(now, record, |mac| self.link.machine(mac).is_some());
        if let Some(contact) = contact {
            self.link.report(contact);
        }
        if let Some(server) = self.rival(record)
            && core.interfaces.own(server).is_none()
            && core.warned.get(now, &server).is_none()
        {
            core.warned.put(now, server, ());
            tracing::warn!(
                iface = %record.interface,
                peer = %server,
                "another DHCP server answers here, and machines may take its word instead: {}",
                record.verdict.reason()
            );
        }
        if is_new && core.log_lines.admit(now) {
            drop(core);
            log::write(record);
        }
    }

    /// Another server that gets between a machine and us.
    fn rival(&self, record: &Exchange) -> Option<Ipv4Addr> {
        match record.verdict {
            Verdict::Silent(Silence::ServerReply { server, ref boot_file }) => {
                (self.mode == Mode::Full || !boot_file.is_empty()).then_some(server)
            }
            // Beside a proxy there is always another; beside a full server there must not be.
            Verdict::Silent(Silence::OtherServer(server)) => {
                (self.mode == Mode::Full).then_some(server)
            }
            _ => None,
        }
    }

    async fn send(&self, socket: &DatagramSocket, reply: &Reply) {
        let departure =
            Departure { to: reply.destination, local: reply.source, interface: reply.interface };
        if let Err(problem) = socket.send(&departure, &reply.bytes).await {
            self.counters.unsent.inc();
            tracing::warn!(peer = %reply.destination, err = %problem, "an answer could not be sent");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes changes of leases, and only then sends the answers that tell of them (RFC 2131 §3.1: a server commits, then answers).
async fn keep_leases(
    shared: Arc<Shared>,
    mut journal: Journal,
    mut inbox: mpsc::Receiver<Job>,
) -> Result<(), RunError> {
    loop {
        let mut jobs = Vec::new();
        tokio::select! {
            _ = inbox.recv_many(&mut jobs, JOBS_AT_ONCE) => {}
            () = shared.shutdown.cancelled() => return Ok(()),
        }
        let changes = jobs.iter().flat_map(|job| &job.changes).cloned();
        let changes = shared.by_machine(changes);
        // The engine is ahead of the journal, never behind it: what it has includes these changes.
        let whole = journal
            .is_long()
            .then(|| shared.by_machine(shared.lock().engine.lease_changes(shared.clock.now())));
        let written = spawn_blocking(move || {
            let written = match whole {
                Some(whole) => journal.compact(&whole),
                None => journal.append(&changes),
            };
            (journal, written)
        });
        let outcome;
        (journal, outcome) = written.await?;
        if let Err(problem) = outcome {
            tracing::error!(
                err = bty_api::status::chain(&problem),
                "leases could not be written, so their clients get no answer"
            );
            continue;
        }
        for (socket, reply) in jobs.into_iter().filter_map(|job| job.reply) {
            shared.send(&socket, &reply).await;
        }
        shared.count_leases();
    }
}
