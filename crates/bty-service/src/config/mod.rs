//! One configuration for all daemons: files, environment and flags, merged key by key.
//!
//! `/usr/lib/bty/bty.toml` ← `/etc/bty/bty.toml` ← `/etc/bty/conf.d/*.toml` ← `BTY_<SECTION>__<KEY>` ← `--set`. Each source is
//! checked by itself before it is merged, so that a wrong key or type is named with its file, line and column; an unknown
//! key is always an error. Where each key comes from is kept.

mod document;
mod merge;
mod sources;

use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use merge::Origins;
pub(crate) use sources::Sources;

/// The sections that a configuration may have. A daemon reads its own and `log`.
pub const SECTIONS: [&str; 7] = ["registry", "dhcp", "tftp", "httpd", "flasher", "runner", "log"];

/// The `[log]` section, shared by all daemons.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// What is logged: directives such as `info,bty_dhcp=debug`. Empty means `info`.
    pub filter: String,
    /// How logs are written.
    pub format: LogFormat,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// To the journal where systemd started us, as text else.
    #[default]
    Auto,
    /// Text lines on standard error.
    Text,
    /// A JSON object a line on standard error.
    Json,
    /// The journal's own protocol, with fields.
    Journald,
}

/// A configuration that was read and is valid in itself.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    /// The daemon's own section.
    pub settings: S,
    /// The `[log]` section.
    pub log: LogSettings,
    /// Where each key that somebody wrote comes from.
    pub origins: Origins,
}

/// A configuration that can't be used. The text names the source, the place and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("reading the configuration {}: {problem}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: std::io::Error,
    },
    /// A source has a key that doesn't exist or a value that doesn't fit.
    #[error("{origin}: {problem}")]
    Invalid {
        /// `FILE:LINE:COLUMN`, `environment NAME` or `flag --set`.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// The settings contradict each other or the machine.
    #[error("section [{section}]: {problem}")]
    Setting {
        /// The section.
        section: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
}

/// Reads the section `name` and `[log]` from all sources.
pub(crate) fn load<S>(name: &'static str, sources: &Sources) -> Result<Loaded<S>, ConfigError>
where
    S: DeserializeOwned,
{
    for source in sources.iter() {
        document::check::<S>(name, source)?;
    }
    let (merged, origins) = merge::merge(sources)?;
    let section = |section: &str| merged.get(section).cloned().unwrap_or_else(empty_table);
    // Each source has passed by itself; what can still fail is a list or table that two sources share.
    let invalid = |problem: toml::de::Error| ConfigError::Setting {
        section: name.to_owned(),
        problem: problem.message().to_owned(),
    };
    let settings = S::deserialize(section(name)).map_err(invalid)?;
    let log = LogSettings::deserialize(section("log")).map_err(invalid)?;
    Ok(Loaded { settings, log, origins })
}

fn empty_table() -> toml::Value {
    toml::Value::Table(toml::Table::new())
}

#[cfg(test)]
mod tests;
