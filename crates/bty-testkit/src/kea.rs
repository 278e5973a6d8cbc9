//! Kea as a LAN's DHCP server: what larger networks have.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    child::{Child, copied},
    namespace::Host,
};

/// How long Kea may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running Kea.
#[derive(Debug)]
pub struct Kea {
    child: Child,
    leases: PathBuf,
}

impl Kea {
    /// Starts it on `host`, giving addresses of 10.77.0.0/24 from `first` to `last`; its files are in `folder`. It knows nothing
    /// of booting.
    pub fn start(host: &Host, folder: &Path, first: &str, last: &str) -> Result<Self> {
        let subnet = ("10.77.0.0/24", first, last);
        Self::start_with(host, folder, subnet, "raw", &[])
    }

    /// Starts it for this subnet and range, on sockets of this type (`raw` for clients of the LAN, `udp` for relays), through a
    /// `launcher` such as `taskset -c 0`.
    pub fn start_with(
        host: &Host,
        folder: &Path,
        (network, first, last): (&str, &str, &str),
        socket_type: &str,
        launcher: &[&str],
    ) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let leases = folder.join("kea-leases.csv");
        let configuration = folder.join("kea.json");
        // It asks the disk for nothing but to keep what it writes: leases survive its own end, not a power cut.
        let text = format!(
            r#"{{"Dhcp4": {{
                "interfaces-config": {{"interfaces": ["eth0"], "dhcp-socket-type": "{socket_type}"}},
                "lease-database": {{
                    "type": "memfile", "persist": true, "name": "{}", "lfc-interval": 3600
                }},
                "valid-lifetime": 3600,
                "subnet4": [{{"subnet": "{network}", "pools": [{{"pool": "{first} - {last}"}}]}}],
                "loggers": [
                    {{"name": "kea-dhcp4", "severity": "INFO",
                      "output_options": [{{"output": "stdout"}}]}},
                    {{"name": "kea-dhcp4.leases", "severity": "WARN"}},
                    {{"name": "kea-dhcp4.packets", "severity": "WARN"}}
                ]
            }}}}"#,
            leases.display()
        );
        fs::write(&configuration, text).context("writing kea.json")?;
        let kea = copied("kea-dhcp4", folder)?.display().to_string();
        let command = [launcher, &[kea.as_str()]].concat();
        let (program, arguments) = command.split_first().context("no program")?;
        let mut child = host
            .program(program)
            .args(arguments)
            .arg("-c")
            .arg(&configuration)
            .env("KEA_LOCKFILE_DIR", folder)
            .env("KEA_PIDFILE_DIR", folder)
            .spawn(&folder.join("kea.log"))?;
        child.wait_for_log("DHCP4_STARTED", START_TIMEOUT)?;
        Ok(Self { child, leases })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> Result<String> {
        self.child.log()
    }

    /// The address that it leased to this MAC (lower case, colons) last.
    pub fn leased_to(&self, mac: &str) -> Option<String> {
        let leases = fs::read_to_string(&self.leases).ok()?;
        leases.lines().rev().find_map(|line| {
            let mut fields = line.split(',');
            let address = fields.next()?;
            (fields.next()? == mac).then(|| address.to_owned())
        })
    }
}
