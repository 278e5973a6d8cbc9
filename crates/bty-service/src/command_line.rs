//! The command line that every daemon shares.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser};

use crate::{
    config::{self, ConfigError, Loaded},
    context::Paths,
    daemon::Daemon,
};

/// What was asked for on the command line.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 80)]
pub(crate) struct Invocation {
    /// Read this configuration file, and the drop-ins in conf.d beside it,
    /// instead of /usr/lib/bty/bty.toml and /etc/bty.
    #[arg(long, value_name = "FILE", env = "BTY_CONFIG")]
    config: Option<PathBuf>,

    /// Keep state below this folder [default: /var/lib/bty].
    #[arg(long, value_name = "DIR", env = "BTY_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// Keep sockets below this folder [default: /run/bty].
    #[arg(long, value_name = "DIR", env = "BTY_RUN_DIR")]
    run_dir: Option<PathBuf>,

    /// Set a key over every file, such as --set dhcp.mode=full. The value is
    /// TOML; what isn't TOML is taken as text.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Check the configuration and end: 0 where it is fine, 2 where not.
    #[arg(long)]
    pub(crate) check_config: bool,
}

/// Parses arguments, the program's name first. `Err` is the exit code after help, version or an error has been shown.
pub(crate) fn parse<D: Daemon>(
    arguments: impl Iterator<Item = OsString>,
) -> Result<Invocation, ExitCode> {
    let command = Invocation::command().name(D::PROGRAM).about(D::ABOUT);
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|mut found| Invocation::from_arg_matches_mut(&mut found));
    parsed.map_err(|shown| {
        let _ = shown.print();
        ExitCode::from(u8::try_from(shown.exit_code()).unwrap_or(2))
    })
}

impl Invocation {
    /// Loads the configuration that this command line asks for.
    pub(crate) fn load<D: Daemon>(&self) -> Result<Loaded<D::Settings>, ConfigError> {
        let sources = config::Sources::gather(self.config.as_deref(), &self.set)?;
        let loaded = config::load::<D::Settings>(D::NAME, &sources)?;
        D::check(&loaded.settings)
            .map_err(|problem| ConfigError::Setting { section: D::NAME.to_owned(), problem })?;
        Ok(loaded)
    }

    /// Where this daemon keeps its state and sockets.
    pub(crate) fn paths(&self, name: &str) -> Paths {
        let below = |given: &Option<PathBuf>, default: &str| {
            given.clone().unwrap_or_else(|| PathBuf::from(default))
        };
        let run_root = below(&self.run_dir, "/run/bty");
        Paths {
            state: below(&self.state_dir, "/var/lib/bty").join(name),
            run: run_root.join(name),
            run_root,
        }
    }
}
