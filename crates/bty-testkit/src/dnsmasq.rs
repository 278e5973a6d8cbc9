//! The DHCP server that the LAN already has: dnsmasq, which gives addresses and knows nothing of booting.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{child::Child, namespace::Host};

/// How long dnsmasq may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running foreign DHCP server.
#[derive(Debug)]
pub struct Dnsmasq {
    child: Child,
    leases: PathBuf,
}

impl Dnsmasq {
    /// Starts it on `host`, giving addresses from `first` to `last` (`10.77.0.100` and so on); its files are in `folder`.
    pub fn start(host: &Host, folder: &Path, first: &str, last: &str) -> Result<Self> {
        Self::start_with(host, folder, first, last, "")
    }

    /// As [`Self::start`], with more lines of configuration.
    pub fn start_with(
        host: &Host,
        folder: &Path,
        first: &str,
        last: &str,
        more: &str,
    ) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let leases = folder.join("dnsmasq.leases");
        let configuration = folder.join("dnsmasq.conf");
        // no-ping: else each first offer comes 3 s late. port=0: no DNS.
        let text = format!(
            "port=0\nno-ping\nlog-dhcp\nlog-facility=-\nno-resolv\nno-hosts\nuser=root\ngroup=root\n\
             interface=eth0\nbind-interfaces\ndhcp-authoritative\ndhcp-leasefile={}\n\
             dhcp-range={first},{last},255.255.255.0,1h\n{more}\n",
            leases.display()
        );
        fs::write(&configuration, text).context("writing dnsmasq.conf")?;
        let mut child = host
            .program("dnsmasq")
            .arg("--keep-in-foreground")
            .arg(format!("--conf-file={}", configuration.display()))
            .spawn(&folder.join("dnsmasq.log"))?;
        child.wait_for_log("DHCP, IP range", START_TIMEOUT)?;
        Ok(Self { child, leases })
    }

    /// What it has logged: each message with its options.
    pub fn log(&self) -> Result<String> {
        self.child.log()
    }

    /// The address that it leased to this MAC (lower case, colons).
    pub fn leased_to(&self, mac: &str) -> Option<String> {
        let leases = fs::read_to_string(&self.leases).ok()?;
        leases.lines().find_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            (fields.next()? == mac).then(|| fields.next().map(str::to_owned))?
        })
    }
}
