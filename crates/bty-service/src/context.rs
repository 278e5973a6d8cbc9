//! What a running daemon has at hand.

use std::{
    fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use crate::{
    admin::Admin,
    config::{Loaded, Origins},
    daemon::Daemon,
    door::{self, Gatekeeper},
    log,
    readiness::{Heartbeat, Readiness},
    sockets::Sockets,
    tasks::{RunError, Spawner, Tasks, tasks},
};

/// Where a daemon keeps its things. The folders exist.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Its own state, such as `/var/lib/bty/registry`.
    pub state: PathBuf,
    /// Its own sockets, such as `/run/bty/registry`.
    pub run: PathBuf,
    /// Where every daemon's folder of sockets is, such as `/run/bty`.
    pub run_root: PathBuf,
}

/// What a running daemon has at hand. Clones share everything.
#[derive(Debug, Clone)]
pub struct Context<S> {
    /// The daemon's section of the configuration.
    pub settings: Arc<S>,
    /// Where it keeps its things.
    pub paths: Paths,
    /// Sockets from systemd.
    pub sockets: Sockets,
    identity: Identity,
    spawner: Spawner,
    readiness: Readiness,
    metrics: Arc<Mutex<Registry>>,
    origins: Arc<Origins>,
    filter: log::Filter,
}

/// Which daemon this is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    pub(crate) started_at: SystemTime,
}

impl<S: Send + Sync + 'static> Context<S> {
    pub(crate) fn new<D: Daemon<Settings = S>>(
        paths: Paths,
        loaded: Loaded<S>,
        filter: log::Filter,
    ) -> Result<(Self, Tasks), RunError> {
        for folder in [&paths.state, &paths.run] {
            fs::create_dir_all(folder)
                .map_err(|source| FolderError { path: folder.clone(), source })?;
        }
        let (spawner, tasks) = tasks(CancellationToken::new());
        let context = Self {
            settings: Arc::new(loaded.settings),
            paths,
            sockets: Sockets::from_systemd()?,
            identity: Identity {
                name: D::NAME,
                program: D::PROGRAM,
                started_at: SystemTime::now(),
            },
            spawner,
            readiness: Readiness::new(HealthReporter::new()),
            metrics: Arc::new(Mutex::new(Registry::with_prefix(format!("bty_{}", D::NAME)))),
            origins: Arc::new(loaded.origins),
            filter,
        };
        Ok((context, tasks))
    }

    /// Runs a task that the daemon can't do without: an error or panic in it ends the daemon.
    pub fn spawn<F>(&self, name: &str, task: F)
    where
        F: Future<Output = Result<(), RunError>> + Send + 'static,
    {
        self.spawner.service(name, task);
    }

    /// Runs a task for one peer or request: a panic in it is logged, and the daemon goes on.
    pub fn spawn_session<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawner.session(name, task);
    }

    /// Cancelled when the daemon is told to stop; every loop selects on it.
    pub fn shutdown(&self) -> &CancellationToken {
        self.spawner.shutdown()
    }

    /// Says that the daemon is ready, and in one line what it does. Also begins to feed systemd's watchdog.
    pub async fn ready(&self, status: impl Into<String> + Send) {
        self.readiness.ready(status.into()).await;
        let watchdog = self.readiness.clone().feed_watchdog(self.shutdown().clone());
        self.spawner.session("watchdog", watchdog);
    }

    /// Changes the line of status that systemd and `btyctl status` show.
    pub fn status(&self, status: impl Into<String>) {
        self.readiness.status(status.into());
    }

    /// A heartbeat for one of the daemon's own loops; the watchdog is fed only while it beats.
    pub fn heartbeat(&self, name: &'static str) -> Heartbeat {
        self.readiness.heartbeat(name)
    }

    /// The daemon's metrics; names get the prefix `bty_<daemon>_`.
    pub fn metrics(&self) -> MutexGuard<'_, Registry> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the unix door, `<run>/api.sock` (systemd's socket `api` where there is one), for these services, and adds health,
    /// reflection and the admin service.
    pub async fn open_unix_door(
        &self,
        services: Routes,
        gatekeeper: Arc<dyn Gatekeeper>,
    ) -> Result<(), RunError> {
        let routes = self.with_shared_services(services)?;
        door::open_unix(self, routes, gatekeeper).await
    }

    /// Opens the TCP door on a loopback address (systemd's socket `api-tcp` where there is one), for callers with a token.
    pub async fn open_tcp_door(
        &self,
        address: std::net::SocketAddr,
        services: Routes,
        gatekeeper: Arc<dyn Gatekeeper>,
    ) -> Result<(), RunError> {
        let routes = self.with_shared_services(services)?;
        door::open_tcp(self, address, routes, gatekeeper).await
    }

    /// The unix socket of another daemon, such as `registry`.
    pub fn socket_of(&self, daemon: &str) -> PathBuf {
        bty_api::connect::socket_path(&self.paths.run_root, daemon)
    }

    pub(crate) fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn with_shared_services(&self, services: Routes) -> Result<Routes, RunError> {
        let admin = Admin {
            identity: self.identity,
            readiness: self.readiness.clone(),
            metrics: Arc::clone(&self.metrics),
            origins: Arc::clone(&self.origins),
            filter: self.filter.clone(),
        };
        door::add_shared(services, self.readiness.health(), admin)
    }
}

/// A folder that can't be made.
#[derive(Debug, thiserror::Error)]
#[error("making the folder {}; choose others with --state-dir and --run-dir, or run as its owner", path.display())]
struct FolderError {
    path: PathBuf,
    source: io::Error,
}

/// A file that can't be removed, bound or opened.
#[derive(Debug, thiserror::Error)]
#[error("opening the socket {}", path.display())]
pub(crate) struct SocketError {
    path: PathBuf,
    source: io::Error,
}

impl SocketError {
    pub(crate) fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}
