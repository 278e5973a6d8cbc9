//! The `[tftp]` section.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::engine::negotiate::{Limits, Rollover};

/// What an operator can set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where requests are taken. With `0.0.0.0` each client is answered from the address that it asked.
    pub listen: SocketAddrV4,
    /// The folder that is served: regular files in it and below, no links.
    pub root: PathBuf,
    /// The port of bty-httpd's plain HTTP, where iPXE is sent on.
    pub http_port: u16,
    /// The largest block in bytes (RFC 2348: 8 to 65464). Blocks never exceed the MTU of the path either.
    pub max_blksize: u16,
    /// The longest window in blocks (RFC 7440), 1 to 64.
    pub max_windowsize: u16,
    /// The block number after 65535, 0 or 1. Nearly all clients count on 0.
    pub rollover: u8,
    /// The largest file that is served, in bytes. Images are not served by TFTP.
    pub max_file_bytes: u64,
    /// Memory for the content of files that were served, in bytes.
    pub cache_bytes: u64,
    /// Transfers at a time. Requests above it get no answer: the client asks again.
    pub max_transfers: usize,
    /// Transfers at a time to one address. Requests above it get no answer.
    pub max_transfers_per_client: usize,
    /// Requests per second from one address; four times as many at once. Requests above it get no answer, so that a forged
    /// address is not flooded through this server.
    pub max_requests_per_second: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 69),
            root: "/usr/lib/bty/live/boot".into(),
            http_port: 80,
            max_blksize: 1468,
            max_windowsize: 16,
            rollover: 0,
            max_file_bytes: 64 << 20,
            cache_bytes: 16 << 20,
            max_transfers: 1000,
            max_transfers_per_client: 32,
            max_requests_per_second: 50,
        }
    }
}

impl Settings {
    /// What the types don't say.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.root.is_absolute() {
            return Err(format!(
                "root {:?} is not absolute; write the whole path",
                self.root.display()
            ));
        }
        let within = |key: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(format!("{key} is {value}; write a number from {least} to {most}"))
        };
        within("http_port", self.http_port.into(), 1, 65535)?;
        within("max_blksize", self.max_blksize.into(), 8, 65464)?;
        within("max_windowsize", self.max_windowsize.into(), 1, 64)?;
        within("rollover", self.rollover.into(), 0, 1)?;
        within("max_transfers", self.max_transfers as u64, 1, 100_000)?;
        within("max_transfers_per_client", self.max_transfers_per_client as u64, 1, 100_000)?;
        within("max_requests_per_second", self.max_requests_per_second.into(), 1, 1_000_000)
    }

    /// What negotiation allows.
    pub(crate) fn limits(&self) -> Limits {
        let rollover = if self.rollover == 0 { Rollover::Zero } else { Rollover::One };
        Limits {
            max_block_bytes: self.max_blksize,
            max_window_blocks: self.max_windowsize,
            rollover,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_is_the_defaults() {
        let shipped: toml::Table =
            toml::from_str(include_str!("../../../deploy/bty.toml")).unwrap();
        let defaults = toml::Value::try_from(Settings::default()).unwrap();
        assert_eq!(shipped.get("tftp"), Some(&defaults));
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_key_and_what_to_write() {
        assert_eq!(Settings::default().check(), Ok(()));
        let relative = Settings { root: "boot".into(), ..Settings::default() };
        assert_eq!(
            relative.check().unwrap_err(),
            "root \"boot\" is not absolute; write the whole path"
        );
        let small = Settings { max_blksize: 7, ..Settings::default() };
        assert_eq!(small.check().unwrap_err(), "max_blksize is 7; write a number from 8 to 65464");
        for settings in [
            Settings { max_blksize: 65465, ..Settings::default() },
            Settings { max_windowsize: 0, ..Settings::default() },
            Settings { max_windowsize: 65, ..Settings::default() },
            Settings { rollover: 2, ..Settings::default() },
            Settings { max_transfers: 0, ..Settings::default() },
            Settings { max_transfers_per_client: 0, ..Settings::default() },
            Settings { max_requests_per_second: 0, ..Settings::default() },
        ] {
            assert!(settings.check().is_err(), "{settings:?}");
        }
    }
}
