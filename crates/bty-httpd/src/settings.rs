//! The `[httpd]` section.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// What an operator can set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where plain HTTP is served. Firmware asks on port 80 unless bty-dhcp's `http_port` says otherwise.
    pub listen: SocketAddr,
    /// Where the agents' API is served, over TLS.
    pub listen_tls: SocketAddr,
    /// The folder with the live systems: `vmlinuz`, `initramfs.img`, `arm64/` with its own two, and `boot/` with the boot programs.
    pub live_dir: PathBuf,
    /// The image store; bty-registry's `store_dir`.
    pub image_dir: PathBuf,
    /// Addresses that may read /metrics.
    pub metrics_from: Vec<IpAddr>,
    /// Connections at a time, for HTTP and HTTPS each. More wait.
    pub max_connections: usize,
    /// Connections at a time from one address, for HTTP and HTTPS each. More are closed at once.
    pub max_connections_per_client: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80)),
            listen_tls: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443)),
            live_dir: "/usr/lib/bty/live".into(),
            image_dir: "/var/lib/bty/registry/images".into(),
            metrics_from: vec![Ipv4Addr::LOCALHOST.into()],
            max_connections: 1024,
            max_connections_per_client: 64,
        }
    }
}

impl Settings {
    /// What the types don't say.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (key, value) in [
            ("max_connections", self.max_connections),
            ("max_connections_per_client", self.max_connections_per_client),
        ] {
            if value == 0 {
                return Err(format!("{key} is 0: nothing could connect; write at least 1"));
            }
        }
        for (key, folder) in [("live_dir", &self.live_dir), ("image_dir", &self.image_dir)] {
            if !folder.is_absolute() {
                return Err(format!(
                    "{key} {:?} is not absolute; write the whole path",
                    folder.display()
                ));
            }
        }
        Ok(())
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
        assert_eq!(shipped.get("httpd"), Some(&defaults));
    }
}
