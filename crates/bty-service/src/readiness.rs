//! What systemd and other clients are told: ready or not, one line of status, and that we are alive.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Tells systemd and the health service how the daemon does.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    shared: Arc<Shared>,
    health: HealthReporter,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    status: String,
    heartbeats: Vec<Heartbeat>,
}

/// Proof that one of the daemon's own loops still turns. While any is stale, the watchdog is not fed and systemd restarts us.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    name: &'static str,
    started: Instant,
    last_beat_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Says that the loop turned. Cheap; a loop that may wait longer than 5 s wakes itself to call it.
    pub fn beat(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat_ms.store(now, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last_beat_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }
}

impl Readiness {
    /// Not ready yet.
    pub(crate) fn new(health: HealthReporter) -> Self {
        let shared = Shared { started: Instant::now(), state: Mutex::default() };
        Self { shared: Arc::new(shared), health }
    }

    /// Where the health service of each door gets its answers.
    pub(crate) fn health(&self) -> HealthReporter {
        self.health.clone()
    }

    /// Ready from now on, doing what `status` says.
    pub(crate) async fn ready(&self, status: String) {
        // The empty name is the server as a whole, as grpc.health.v1 says.
        self.health.set_service_status("", ServingStatus::Serving).await;
        tell_surely(&[NotifyState::Ready, NotifyState::Status(&status)]);
        let mut state = self.state();
        state.ready = true;
        state.status = status;
    }

    /// Changes the line of status.
    pub(crate) fn status(&self, status: String) {
        tell(&[NotifyState::Status(&status)]);
        self.state().status = status;
    }

    /// Not ready any more: about to end.
    pub(crate) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
        self.state().ready = false;
    }

    /// Whether the daemon is ready, and its line of status.
    pub(crate) fn now(&self) -> (bool, String) {
        let state = self.state();
        (state.ready, state.status.clone())
    }

    /// A heartbeat that the watchdog watches from now on.
    pub(crate) fn heartbeat(&self, name: &'static str) -> Heartbeat {
        let heartbeat = Heartbeat {
            name,
            started: self.shared.started,
            last_beat_ms: Arc::new(AtomicU64::new(0)),
        };
        heartbeat.beat();
        self.state().heartbeats.push(heartbeat.clone());
        heartbeat
    }

    /// Feeds systemd's watchdog while every heartbeat is fresh. Ends at once where no watchdog is asked for.
    pub(crate) async fn feed_watchdog(self, shutdown: CancellationToken) {
        let Some(limit) = sd_notify::watchdog_enabled() else { return };
        let mut ticks = interval(limit / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            match self.stale(limit) {
                None => tell(&[NotifyState::Watchdog]),
                Some(name) => tracing::error!(task = name, "a loop hangs, the watchdog is not fed"),
            }
        }
    }

    fn stale(&self, limit: Duration) -> Option<&'static str> {
        let state = self.state();
        state
            .heartbeats
            .iter()
            .find(|heartbeat| heartbeat.age() > limit)
            .map(|heartbeat| heartbeat.name)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it holds this lock; a poisoned one still has whole data.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what must arrive. It may wait for room, and is for a daemon's start only.
fn tell_surely(states: &[NotifyState<'_>]) {
    // Without NOTIFY_SOCKET this does nothing; with a broken one there is nobody to tell.
    if let Err(problem) = sd_notify::notify(states) {
        tracing::debug!(err = %problem, "telling systemd failed");
    }
}

/// Tells what may get lost. The socket takes ten messages that nobody reads, and then the next sender waits for as long as that is so:
/// a systemd that is busy must not stop a daemon.
fn tell(states: &[NotifyState<'_>]) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    if let Err(problem) = send_now(&socket, &message) {
        tracing::debug!(err = %problem, "telling systemd failed");
    }
}

/// Sends at once or not at all.
fn send_now(socket: &OsStr, message: &str) -> io::Result<()> {
    let to = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    from.set_nonblocking(true)?;
    from.send_to_addr(message.as_bytes(), &to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systemd_that_does_not_listen_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let refused = (0..100_000).find_map(|_| send_now(path.as_os_str(), "STATUS=busy\n").err());
        assert_eq!(refused.map(|problem| problem.kind()), Some(io::ErrorKind::WouldBlock));
        let mut message = [0; 64];
        let length = systemd.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"STATUS=busy\n");
        assert!(send_now(path.as_os_str(), "STATUS=well\n").is_ok());
    }

    #[tokio::test]
    async fn a_loop_that_does_not_turn_is_named() {
        let readiness = Readiness::new(HealthReporter::new());
        let alive = readiness.heartbeat("alive");
        let _hung = readiness.heartbeat("hung");
        let limit = Duration::from_millis(20);
        let deadline = Instant::now() + Duration::from_secs(5);
        while readiness.stale(limit) != Some("hung") {
            assert!(Instant::now() < deadline, "a hung loop was never noticed");
            tokio::task::yield_now().await;
            alive.beat();
        }
        assert_eq!(readiness.stale(Duration::from_hours(1)), None);
    }
}
