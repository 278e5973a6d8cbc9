//! One transfer: finds the file, settles the terms, and drives the engine on a port of its own.

use std::{
    io,
    net::{IpAddr, SocketAddrV4},
    os::unix::fs::FileExt,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use bty_api::{
    convert::timestamp,
    registry::v1::Contact,
    tftp::v1::{Outcome as Ending, Transfer as Wire},
    types::v1::{BootPath, Stage},
};
use bty_service::{
    BootLink,
    datagram::{Arrival, DatagramSocket},
    neighbours,
};
use tokio::{task::spawn_blocking, time::sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{
        negotiate::{Terms, negotiate},
        packet::{self, ErrorCode, Mode, ReadRequest, printable},
        transfer::{Outcome, Run, Transfer, Transmit},
    },
    file_name::FileName,
    folder::{Content, Folder, OpenError},
    history::{History, Record},
    listener::{Seat, reply},
    metrics::{Counters, OutcomeLabels},
    settings::Settings,
    socket::{TransferSocket, path_mtu_bytes},
};

/// What a client sends during a transfer is short; what is longer is cut off.
const BUFFER_BYTES: usize = 1024;
/// Bytes of a large file that are read at once.
const READ_AHEAD_BYTES: usize = 256 << 10;
/// How long transfers may go on after the daemon was told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// Where the kernel does not know the path.
const USUAL_MTU_BYTES: u32 = 1500;
/// Characters of a file's name that are shown to people.
const SHOWN_CHARS: usize = 128;

/// What every transfer can use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) folder: Folder,
    pub(crate) history: History,
    pub(crate) counters: Counters,
    pub(crate) link: BootLink,
    pub(crate) shutdown: CancellationToken,
}

/// One transfer.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) socket: Arc<DatagramSocket>,
    pub(crate) arrival: Arrival,
    pub(crate) request: ReadRequest,
    pub(crate) seat: Seat,
}

/// How a session ended, for people.
struct End {
    ending: Ending,
    reason: String,
    /// The client may have the whole file although it did not say so.
    perhaps_complete: bool,
}

impl End {
    fn new(ending: Ending, reason: impl Into<String>) -> Self {
        Self { ending, reason: reason.into(), perhaps_complete: false }
    }
}

impl Session {
    /// Runs the transfer to its end.
    pub(crate) async fn run(self) {
        let record = self.shared.history.begin(Wire {
            at: Some(timestamp(SystemTime::now())),
            peer: self.arrival.from.to_string(),
            file: printable(&self.request.file, SHOWN_CHARS),
            ..Wire::default()
        });
        let name = FileName::parse(&self.request.file);
        let end = match &name {
            Ok(name) => self.serve(name, &record).await,
            Err(problem) => {
                self.refuse(ErrorCode::ACCESS, &problem.to_string());
                End::new(Ending::Refused, problem.to_string())
            }
        };
        self.finish(name.ok().as_ref(), &record, end).await;
    }

    async fn serve(&self, name: &FileName, record: &Record) -> End {
        if self.request.mode == Mode::Netascii {
            tracing::debug!(peer = %self.arrival.from, file = %name, "netascii was asked for, octet is sent");
        }
        let (shared, wanted) = (Arc::clone(&self.shared), name.clone());
        let opened = spawn_blocking(move || shared.folder.open(&wanted)).await;
        let opened =
            opened.unwrap_or_else(|stopped| Err(OpenError::Unreadable(io::Error::other(stopped))));
        let content = match opened {
            Ok(content) => content,
            Err(OpenError::Absent) if name.is_autoexec() => self.autoexec(),
            Err(problem) => return self.refuse_file(name, &problem),
        };
        let (local, peer) = (self.arrival.local, self.arrival.from);
        let mtu_bytes = path_mtu_bytes(local, peer).unwrap_or(USUAL_MTU_BYTES);
        let limits = self.shared.settings.limits();
        let terms = negotiate(&self.request, content.size_bytes(), mtu_bytes, limits);
        describe(record, &terms);
        let socket = match TransferSocket::open(local, peer) {
            Ok(socket) => socket,
            Err(problem) => {
                tracing::error!(%peer, err = %problem, "a port for a transfer could not be opened");
                self.refuse(ErrorCode::OTHER, "the server has no free port");
                return End::new(Ending::Refused, "no port could be opened for the transfer");
            }
        };
        let transfer = Transfer::new(Instant::now(), peer.into(), terms);
        let reader = Reader { content, ahead_at: 0, ahead: Vec::new() };
        let mut drive =
            Drive { session: self, record, socket, transfer, reader, datagrams: Vec::new() };
        drive.run().await
    }

    /// Spares iPXE that firmware has loaded from here a DHCP exchange of its own: the firmware's is known to it.
    fn autoexec(&self) -> Content {
        let host = SocketAddrV4::new(self.arrival.local, self.shared.settings.http_port);
        let script = format!(
            "#!ipxe\nisset ${{netX/ip}} || dhcp ||\nchain --replace http://{host}/boot.ipxe?via=pxe || autoboot\n"
        );
        Content::Kept(script.into_bytes().into())
    }

    fn refuse(&self, code: ErrorCode, text: &str) {
        reply(&self.socket, &self.arrival, &packet::error(code, text));
    }

    fn refuse_file(&self, name: &FileName, problem: &OpenError) -> End {
        let peer = self.arrival.from;
        let text = problem.to_string();
        match problem {
            // Firmware looks for many files that need not be there.
            OpenError::Absent => {
                self.refuse(ErrorCode::NOT_FOUND, &text);
                return End::new(Ending::NotFound, "");
            }
            OpenError::TooLarge { .. } => {
                tracing::warn!(%peer, file = %name, reason = text, "a file was refused");
            }
            OpenError::Unreadable(cause) => {
                tracing::error!(%peer, file = %name, err = %cause, "a file could not be read");
            }
        }
        self.refuse(ErrorCode::OTHER, &text);
        End::new(Ending::Refused, text)
    }

    async fn finish(&self, name: Option<&FileName>, record: &Record, end: End) {
        let wire = {
            let mut wire = record.lock();
            wire.outcome = end.ending.into();
            wire.reason.clone_from(&end.reason);
            wire.clone()
        };
        let outcome = match end.ending {
            Ending::Complete => "complete",
            Ending::Probe => "probe",
            Ending::NotFound => "not_found",
            Ending::Refused => "refused",
            Ending::Broken | Ending::Unspecified => "broken",
        };
        self.shared.counters.transfers.get_or_create(&OutcomeLabels { outcome }).inc();
        self.shared.counters.resent.inc_by(wire.resent.into());
        let (peer, file) = (&wire.peer, &wire.file);
        let (bytes, resent) = (wire.acknowledged_bytes, wire.resent);
        match end.ending {
            Ending::Complete => tracing::info!(peer, file, bytes, resent, "a file was sent"),
            Ending::Broken => {
                tracing::info!(
                    peer,
                    file,
                    bytes,
                    resent,
                    reason = end.reason,
                    "a transfer broke off"
                );
            }
            _ => {
                tracing::debug!(peer, file, outcome, reason = end.reason, "a request was answered");
            }
        }
        if name.is_some_and(FileName::is_boot_program) {
            self.report(&wire, &end).await;
        }
    }

    /// Tells the registry that a machine has its boot program, or that it did not get it.
    async fn report(&self, wire: &Wire, end: &End) {
        let has_it = end.ending == Ending::Complete || end.perhaps_complete;
        if !has_it && end.ending != Ending::Broken {
            return;
        }
        let address = IpAddr::V4(*self.arrival.from.ip());
        let machine = spawn_blocking(move || neighbours::machine_at(address)).await;
        let Ok(Some(mac)) = machine else { return };
        let detail = if has_it {
            format!("fetched {} by TFTP", wire.file)
        } else {
            let (file, reason) = (&wire.file, &end.reason);
            let (has, size) = (wire.acknowledged_bytes, wire.size_bytes);
            format!("the TFTP transfer of {file} broke off after {has} of {size} bytes: {reason}")
        };
        self.shared.link.report(Contact {
            mac: mac.to_string(),
            at: Some(timestamp(SystemTime::now())),
            stage: Stage::BootProgram.into(),
            address: address.to_string(),
            path: BootPath::Pxe.into(),
            detail,
            failed: !has_it,
            ..Contact::default()
        });
    }
}

fn describe(record: &Record, terms: &Terms) {
    let mut wire = record.lock();
    wire.size_bytes = terms.size_bytes;
    wire.block_bytes = terms.block_bytes.into();
    wire.window_blocks = terms.window_blocks.into();
}

/// The engine with its socket, file and clock.
struct Drive<'a> {
    session: &'a Session,
    record: &'a Record,
    socket: TransferSocket,
    transfer: Transfer,
    reader: Reader,
    datagrams: Vec<u8>,
}

impl Drive<'_> {
    async fn run(&mut self) -> End {
        let control = Arc::clone(&self.session.seat.control);
        let shutdown = self.session.shared.shutdown.clone();
        let mut buffer = [0; BUFFER_BYTES];
        let mut end_by = None;
        let mut timer = pin!(sleep_until(Instant::now().into()));
        let mut repeated = pin!(control.repeated.notified());
        let mut replaced = pin!(control.cancelled.cancelled());
        let mut stopping = pin!(shutdown.cancelled());
        loop {
            self.send().await;
            self.note();
            if let Some(outcome) = self.transfer.outcome().cloned() {
                return self.end(outcome);
            }
            let wake = self.transfer.poll_timeout().unwrap_or_else(Instant::now);
            let wake = end_by.map_or(wake, |end_by: Instant| end_by.min(wake));
            // A timer that rings early, once in a while, costs less than one that is set anew for each packet.
            if timer.is_elapsed() || timer.deadline() > wake.into() {
                timer.as_mut().reset(wake.into());
            }
            tokio::select! {
                // The client comes last, so that one that floods us keeps nothing else from being seen.
                biased;
                () = replaced.as_mut() => {
                    return End::new(Ending::Broken, "another request took its place");
                }
                () = stopping.as_mut(), if end_by.is_none() => end_by = Some(Instant::now() + GRACE),
                () = repeated.as_mut() => {
                    repeated.set(control.repeated.notified());
                    self.transfer.handle_repeat(Instant::now());
                }
                () = timer.as_mut() => {
                    let now = Instant::now();
                    if now >= wake {
                        match self.socket.try_receive(&mut buffer) {
                            Ok((length, from)) => {
                                let datagram = buffer.get(..length).unwrap_or(&buffer);
                                self.transfer.handle(now, from, datagram);
                            }
                            Err(_nothing) => self.transfer.handle_timeout(now),
                        }
                    }
                }
                received = self.socket.receive(&mut buffer, |from, datagram| {
                    self.transfer.handle(Instant::now(), from, datagram);
                    self.transfer.is_all_acknowledged()
                }) => if let Err(problem) = received {
                    tracing::debug!(err = %problem, "receiving an answer failed");
                },
            }
            if end_by.is_some_and(|end_by| Instant::now() >= end_by) {
                self.transfer.abort(ErrorCode::OTHER, "the server is going down");
            }
        }
    }

    async fn send(&mut self) {
        while let Some(transmit) = self.transfer.poll_transmit(Instant::now()) {
            match transmit {
                Transmit::Control(to, datagram) => self.socket.send(to, &datagram).await,
                Transmit::Blocks(run) => self.send_blocks(&run).await,
            }
        }
    }

    async fn send_blocks(&mut self, run: &Run) {
        match self.reader.read(run.offset_bytes, run.length_bytes).await {
            Ok(payload) => {
                run.write(payload, &mut self.datagrams);
                self.session.shared.counters.sent.inc_by(run.length_bytes as u64);
                self.socket.send_segments(&self.datagrams, run.segment_bytes()).await;
            }
            Err(problem) => {
                tracing::error!(peer = %self.session.arrival.from, err = %problem, "a file could not be read on");
                self.transfer.abort(ErrorCode::OTHER, "the file can't be read on");
            }
        }
    }

    fn note(&self) {
        self.session.seat.control.answered.store(self.transfer.is_answered(), Ordering::Relaxed);
        let mut wire = self.record.lock();
        wire.acknowledged_bytes = self.transfer.acknowledged_bytes();
        wire.resent = u32::try_from(self.transfer.resent_blocks()).unwrap_or(u32::MAX);
    }

    fn end(&self, outcome: Outcome) -> End {
        match outcome {
            Outcome::Complete => End::new(Ending::Complete, ""),
            Outcome::Probe => End::new(Ending::Probe, ""),
            Outcome::Refused(code, text) => {
                End::new(Ending::Broken, format!("the client sent {code}: {text}"))
            }
            Outcome::Aborted => End::new(Ending::Broken, "the server ended it"),
            Outcome::Silent if self.transfer.is_in_last_window() => End {
                ending: Ending::Broken,
                reason: "the client did not acknowledge the end".to_owned(),
                perhaps_complete: true,
            },
            Outcome::Silent => End::new(Ending::Broken, "the client was not heard of again"),
        }
    }
}

/// Reads a file where it is needed next.
struct Reader {
    content: Content,
    ahead_at: u64,
    ahead: Vec<u8>,
}

impl Reader {
    async fn read(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let (file, size_bytes) = match &self.content {
            Content::Kept(content) => return slice(content, offset, length),
            Content::Open(file, size_bytes) => (file, *size_bytes),
        };
        let in_ahead = offset.checked_sub(self.ahead_at);
        if in_ahead.is_none_or(|start| slice(&self.ahead, start, length).is_err()) {
            let left = usize::try_from(size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
            let wanted = READ_AHEAD_BYTES.max(length).min(left);
            let (file, mut ahead) = (Arc::clone(file), std::mem::take(&mut self.ahead));
            let read = spawn_blocking(move || {
                ahead.resize(wanted, 0);
                file.read_exact_at(&mut ahead, offset).map(|()| ahead)
            });
            self.ahead = read.await.map_err(io::Error::other)??;
            self.ahead_at = offset;
        }
        slice(&self.ahead, offset - self.ahead_at, length)
    }
}

fn slice(content: &[u8], offset: u64, length: usize) -> io::Result<&[u8]> {
    let start = usize::try_from(offset).ok();
    start
        .and_then(|start| content.get(start..start.checked_add(length)?))
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
