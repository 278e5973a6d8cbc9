//! From `main` to a running daemon and back.

use std::{ffi::OsString, fmt::Debug, future::Future, process::ExitCode, time::Duration};

use bty_types::ErrorKind;
use serde::{Serialize, de::DeserializeOwned};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::{
    command_line::{self, Invocation},
    config::Loaded,
    context::Context,
    log,
    tasks::{Refused, RunError},
};

/// A bty daemon.
pub trait Daemon: 'static {
    /// Its short name, such as `dhcp`: the section of the configuration, the folder of its sockets and state.
    const NAME: &'static str;
    /// Its program's name, such as `bty-dhcp`.
    const PROGRAM: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// Threads for its tasks. Two: a daemon waits far more than it computes, and every one costs memory.
    const WORKERS: usize = 2;
    /// Its section of the configuration. Every field has a default; unknown keys are errors (`deny_unknown_fields`).
    type Settings: DeserializeOwned + Serialize + Default + Debug + Clone + Send + Sync + 'static;

    /// What types alone can't say about the settings: an error names the key and what to write instead.
    fn check(settings: &Self::Settings) -> Result<(), String>;

    /// Starts everything: binds sockets, spawns tasks, says [`Context::ready`], and returns. The daemon then runs until it is
    /// told to stop or one of its tasks fails.
    fn start(context: Context<Self::Settings>)
    -> impl Future<Output = Result<(), RunError>> + Send;
}

/// How long a daemon may take to drain after SIGTERM.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Runs a daemon: the whole body of its `main`.
///
/// Exit codes: 0 after SIGTERM or SIGINT, 2 for a wrong configuration or command line, that of its kind for
/// a [`Refused`] start, 1 for everything else.
pub fn main<D: Daemon>() -> ExitCode {
    main_with::<D>(std::env::args_os())
}

/// Runs a daemon with these arguments, for a program that is more than a daemon: the first stands for the program's name.
pub fn main_with<D: Daemon>(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let invocation = match command_line::parse::<D>(arguments) {
        Ok(invocation) => invocation,
        Err(shown) => return shown,
    };
    let loaded = match invocation.load::<D>() {
        Ok(loaded) => loaded,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(ErrorKind::InvalidInput.exit_code());
        }
    };
    if invocation.check_config {
        eprintln!("{}: the configuration is fine", D::PROGRAM);
        return ExitCode::SUCCESS;
    }
    serve::<D>(invocation, loaded)
}

fn serve<D: Daemon>(invocation: Invocation, loaded: Loaded<D::Settings>) -> ExitCode {
    let filter = match log::start(D::PROGRAM, &loaded.log) {
        Ok(filter) => filter,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(ErrorKind::InvalidInput.exit_code());
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(D::WORKERS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(problem) => {
            error!(err = %problem, "starting the runtime failed");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run::<D>(invocation, loaded, filter));
    // A blocking read that hangs (a dying disk, a network mount) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!(err = %bty_api::status::chain(problem.as_ref()), "{} ended", D::PROGRAM);
            let refused = problem.downcast_ref::<Refused>();
            refused.map_or(ExitCode::FAILURE, |refused| refused.kind.exit_code().into())
        }
    }
}

async fn run<D: Daemon>(
    invocation: Invocation,
    loaded: Loaded<D::Settings>,
    filter: log::Filter,
) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (context, mut tasks) = Context::new::<D>(invocation.paths(D::NAME), loaded, filter)?;
    let shutdown = context.shutdown().clone();
    let readiness = context.readiness();
    info!(version = env!("CARGO_PKG_VERSION"), "{} started", D::PROGRAM);
    D::start(context).await?;

    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        failed = tasks.first_failure() => Err(failed),
    };
    readiness.stopping();
    shutdown.cancel();
    info!("{} is draining", D::PROGRAM);
    tokio::select! {
        () = tasks.drained() => info!("{} ended", D::PROGRAM),
        () = tokio::time::sleep(SHUTDOWN_GRACE) => warn!("tasks did not end in time and are dropped"),
        _ = terminate.recv() => warn!("a second signal ended {} at once", D::PROGRAM),
        _ = interrupt.recv() => warn!("a second signal ended {} at once", D::PROGRAM),
    }
    ended
}
