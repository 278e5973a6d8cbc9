//! Logs: to the journal where systemd started us, to the terminal else; the filter can change while we run.

mod journal;

use std::{
    env,
    io::{self, IsTerminal},
    os::fd::AsFd,
};

use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use self::journal::Journal;
use crate::config::{LogFormat, LogSettings};

const DEFAULT_FILTER: &str = "info";

/// Changes what is logged while the daemon runs.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    handle: reload::Handle<EnvFilter, Registry>,
    configured: String,
}

impl Filter {
    /// Logs by these directives until the next start; by the configured ones where they are empty.
    pub(crate) fn set(&self, directives: &str) -> Result<(), String> {
        let directives = if directives.is_empty() { &self.configured } else { directives };
        let filter = parse(directives)?;
        self.handle.reload(filter).map_err(|problem| problem.to_string())
    }
}

/// Begins to log, in the name of `program`.
pub(crate) fn start(program: &str, settings: &LogSettings) -> Result<Filter, String> {
    let configured = if settings.filter.is_empty() { DEFAULT_FILTER } else { &settings.filter };
    let (filter, handle) = reload::Layer::new(parse(configured)?);
    let registry = tracing_subscriber::registry().with(filter);
    let text = || {
        tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
    };
    match format(settings.format) {
        LogFormat::Journald => {
            let journal = Journal::connect(program).map_err(|problem| {
                format!("connecting to the journal: {problem}; set log.format = \"text\"")
            })?;
            registry.with(journal).init();
        }
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(io::stderr)).init();
        }
        LogFormat::Auto | LogFormat::Text => registry.with(text()).init(),
    }
    Ok(Filter { handle, configured: configured.to_owned() })
}

fn parse(directives: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(directives).map_err(|problem| {
        format!("log.filter {directives:?}: {problem}; write, for example, \"info,bty_dhcp=debug\"")
    })
}

fn format(wanted: LogFormat) -> LogFormat {
    match wanted {
        LogFormat::Auto if stderr_is_the_journal() => LogFormat::Journald,
        LogFormat::Auto => LogFormat::Text,
        given => given,
    }
}

/// Whether `$JOURNAL_STREAM` names our standard error, as systemd.exec(5) says to check.
fn stderr_is_the_journal() -> bool {
    let Some(stream) = env::var("JOURNAL_STREAM").ok() else { return false };
    let Ok(stat) = rustix::fs::fstat(io::stderr().as_fd()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}
