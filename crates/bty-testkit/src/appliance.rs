//! A whole bty appliance in a virtual LAN: the real daemons, a foreign DHCP server where one belongs, machines to boot.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    daemon::{Daemon, DaemonSpec, write_config},
    dnsmasq::Dnsmasq,
    kea::Kea,
    namespace::{Host, Lan},
    small_disk::SmallDisk,
    vm::{Disk, Firmware, Machine, MachineSpec, Nic},
    wait,
};

/// The daemons, in the order in which they start.
pub const DAEMONS: [&str; 4] = ["bty-registry", "bty-httpd", "bty-tftp", "bty-dhcp"];
/// The first and the last address that machines are given, by whoever gives them.
const POOL: (&str, &str) = ("10.77.0.100", "10.77.0.199");

/// Who gives addresses in the LAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpMode {
    /// A foreign server (dnsmasq); bty-dhcp is a proxy beside it.
    Proxy,
    /// The same with Kea.
    ProxyBesideKea,
    /// bty-dhcp alone.
    Full,
}

/// What an appliance is made of.
#[derive(Debug, Clone)]
pub struct ApplianceSpec {
    /// Where the programs are.
    pub binaries: PathBuf,
    /// Where the live systems are (`vmlinuz`, `initramfs.img`, `arm64/`, `boot/`).
    pub live: PathBuf,
    /// Who gives addresses.
    pub dhcp: DhcpMode,
    /// How long leases last, where bty-dhcp gives them.
    pub lease_seconds: u64,
    /// More lines for sections of the configuration: section and lines.
    pub settings: Vec<(&'static str, String)>,
    /// More variables of the daemons' environment.
    pub environment: Vec<(String, String)>,
    /// Bytes of the file system that holds all state, where it is one of its own.
    pub state_bytes: Option<u64>,
}

impl ApplianceSpec {
    /// The usual appliance of these programs and this live system.
    pub fn new(binaries: PathBuf, live: PathBuf, dhcp: DhcpMode) -> Self {
        Self {
            binaries,
            live,
            dhcp,
            lease_seconds: 3600,
            settings: Vec::new(),
            environment: Vec::new(),
            state_bytes: None,
        }
    }
}

/// A running appliance with its LAN. Dropping it ends everything.
#[derive(Debug)]
pub struct Appliance {
    daemons: BTreeMap<&'static str, Daemon>,
    foreign: Option<Dnsmasq>,
    kea: Option<Kea>,
    _router: Dnsmasq,
    lan: Lan,
    server: Host,
    spec: ApplianceSpec,
    machines: u32,
    /// Unmounted when the daemons have ended, and before its folder goes.
    state_disk: Option<SmallDisk>,
    folder: TempDir,
}

impl Appliance {
    /// Makes the LAN and starts everything; ready when every daemon says so.
    pub fn start(spec: ApplianceSpec) -> Result<Self> {
        crate::require_root()?;
        ensure!(
            spec.live.join("initramfs.img").exists(),
            "there is no live system in {}; make it with: cargo xtask live",
            spec.live.display()
        );
        let folder = tempfile::Builder::new()
            .prefix("bty-lab-")
            .tempdir()
            .context("making a folder for the lab")?;
        let state = folder.path().join("state");
        let state_disk = spec.state_bytes.map(|size| SmallDisk::mount(&state, size)).transpose()?;
        let mut lan = Lan::new()?;
        let server = lan.add_server()?;
        let (mut foreign, mut kea) = (None, None);
        if spec.dhcp != DhcpMode::Full {
            let host = lan.add_foreign_dhcp_host()?;
            let place = folder.path().join("lan-dhcp");
            match spec.dhcp {
                DhcpMode::ProxyBesideKea => kea = Some(Kea::start(&host, &place, POOL.0, POOL.1)?),
                _ => foreign = Some(Dnsmasq::start(&host, &place, POOL.0, POOL.1)?),
            }
        }
        let router = Dnsmasq::start_router(&lan.add_router_host()?, &folder.path().join("router"))?;
        write_config(folder.path(), &configuration(&spec, folder.path()))?;
        let mut appliance = Self {
            daemons: BTreeMap::new(),
            foreign,
            kea,
            _router: router,
            lan,
            server,
            spec,
            machines: 0,
            state_disk,
            folder,
        };
        for name in DAEMONS {
            appliance.start_daemon(name)?;
        }
        Ok(appliance)
    }

    fn daemon_spec(&self, name: &str) -> DaemonSpec {
        let spec = DaemonSpec::of_bty(&self.spec.binaries, name, self.folder.path())
            .within(&self.server.namespace);
        let variables = &self.spec.environment;
        variables.iter().fold(spec, |spec, (name, value)| spec.env(name, value))
    }

    /// Starts a daemon that does not run.
    pub fn start_daemon(&mut self, name: &'static str) -> Result<()> {
        let daemon = self.daemon_spec(name).start()?;
        self.daemons.insert(name, daemon);
        Ok(())
    }

    /// Ends a daemon, which stays away.
    pub fn stop_daemon(&mut self, name: &str) -> Result<()> {
        let daemon = self.daemons.remove(name).with_context(|| format!("{name} does not run"))?;
        daemon.stop()
    }

    /// A running daemon, such as `bty-dhcp`.
    pub fn daemon(&mut self, name: &str) -> Result<&mut Daemon> {
        self.daemons.get_mut(name).with_context(|| format!("{name} does not run"))
    }

    /// Kills a daemon and starts it again.
    pub fn kill_and_restart(&mut self, name: &str) -> Result<()> {
        let (name, daemon) =
            self.daemons.remove_entry(name).with_context(|| format!("{name} does not run"))?;
        self.daemons.insert(name, daemon.kill_and_restart()?);
        Ok(())
    }

    /// The LAN.
    pub fn lan(&mut self) -> &mut Lan {
        &mut self.lan
    }

    /// The server's place in it.
    pub fn server(&self) -> &Host {
        &self.server
    }

    /// The file system that holds all state, where it is one of its own.
    pub fn state_disk(&self) -> Option<&SmallDisk> {
        self.state_disk.as_ref()
    }

    /// The foreign DHCP server, where there is one.
    pub fn foreign(&self) -> Option<&Dnsmasq> {
        self.foreign.as_ref()
    }

    /// Kea, where it is the foreign DHCP server.
    pub fn kea(&self) -> Option<&Kea> {
        self.kea.as_ref()
    }

    /// Where everything that this appliance writes is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How `btyctl` is called for this appliance, to be shown to a person.
    pub fn btyctl_command(&self) -> String {
        format!(
            "{} --run-dir {}",
            self.spec.binaries.join("btyctl").display(),
            self.folder.path().join("run").display()
        )
    }

    /// Runs `btyctl` with these arguments and gives its JSON; an error with its words where it fails.
    pub fn btyctl(&self, arguments: &[&str]) -> Result<Value> {
        let output = crate::child::Program::new(self.spec.binaries.join("btyctl"))
            .arg("--run-dir")
            .arg(self.folder.path().join("run"))
            .args(["--output", "json"])
            .args(arguments)
            .output()?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("btyctl {} ended with {}: {}", arguments.join(" "), output.status, words.trim());
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("reading what btyctl {} says", arguments.join(" ")))
    }

    /// Imports an image and gives its id.
    pub fn import(&self, file: &Path, name: &str) -> Result<String> {
        let path = file.to_str().context("a path that is no text")?;
        let image = self.btyctl(&["image", "import", path, "--name", name])?;
        text(&image, "/id")
    }

    /// A machine with a card in the LAN and these disks, switched off and unknown to the appliance. Its MAC addresses count up
    /// from `52:54:00:77:00:01`.
    pub fn add_machine(
        &mut self,
        name: &str,
        firmware: Firmware,
        disks: Vec<Disk>,
    ) -> Result<Machine> {
        self.machines += 1;
        let mac = format!("52:54:00:77:{:02x}:{:02x}", self.machines / 256, self.machines % 256);
        let port = self.lan.add_tap()?;
        let mut spec = MachineSpec::new(name, firmware).with_nic(Nic::new(port, mac));
        spec.disks = disks;
        Machine::new(spec, &self.folder.path().join(name), Some(self.lan.switch()))
    }

    /// A disk of this size for a machine, empty.
    pub fn new_disk(&self, serial: &str, size_bytes: u64) -> Result<Disk> {
        let disk = Disk::new(self.folder.path().join(format!("{serial}.raw")), serial);
        disk.create(size_bytes)?;
        Ok(disk)
    }

    /// What the appliance knows of a machine, as `btyctl machine show` says it.
    pub fn machine(&self, mac: &str) -> Result<Value> {
        let shown = self.btyctl(&["machine", "show", mac])?;
        shown.pointer("/machine").cloned().context("btyctl shows no machine")
    }

    /// The runs of a machine, newest first.
    pub fn runs(&self, mac: &str) -> Result<Vec<Value>> {
        let runs = self.btyctl(&["run", "list", "--machine", mac])?;
        Ok(runs.pointer("/runs").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Waits until the machine's latest run has this state (`RUN_STATE_SUCCEEDED`), and gives it whole. Fails as soon as the run
    /// has ended otherwise, with why.
    pub fn wait_for_run(
        &self,
        mac: &str,
        count: usize,
        state: &str,
        timeout: Duration,
    ) -> Result<Value> {
        let what = format!("run {count} of {mac} to be {state}");
        let found = wait::until(&what, timeout, || {
            let runs = self.runs(mac)?;
            let Some(latest) = runs.first().filter(|_| runs.len() >= count) else {
                return Ok(None);
            };
            let now = text(latest, "/state")?;
            if now == state {
                return Ok(Some(text(latest, "/id")?));
            }
            ensure!(now == "RUN_STATE_RUNNING", "the run of {mac} is {now}: {latest:#}");
            Ok(None)
        })?;
        let shown = self.btyctl(&["run", "show", &found])?;
        shown.pointer("/run").cloned().context("btyctl shows no run")
    }

    /// What every daemon and the foreign server has logged, for a failure's report.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for (name, daemon) in &self.daemons {
            logs += &format!("== {name}\n{}\n", daemon.log().unwrap_or_default());
        }
        if let Some(foreign) = &self.foreign {
            logs += &format!("== dnsmasq\n{}\n", foreign.log().unwrap_or_default());
        }
        if let Some(kea) = &self.kea {
            logs += &format!("== Kea\n{}\n", kea.log().unwrap_or_default());
        }
        logs
    }

    /// How long each daemon took to be ready.
    pub fn ready_after(&self) -> Vec<(&'static str, Duration)> {
        self.daemons.iter().map(|(name, daemon)| (*name, daemon.ready_after())).collect()
    }

    /// Memory that the daemons have resident together, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.daemons.values().map(Daemon::resident_bytes).sum()
    }
}

/// Text in JSON at this pointer.
pub fn text(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    found.with_context(|| format!("there is no text at {pointer} in {value}"))
}

/// Waits for a machine's login prompt in this power cycle, and says how long it took since it was switched on.
pub fn wait_for_login(machine: &mut Machine, timeout: Duration) -> Result<Duration> {
    let started = Instant::now();
    machine.wait_for(crate::osimage::LOGIN_PROMPT, timeout)?;
    Ok(machine.uptime().unwrap_or_else(|| started.elapsed()))
}

fn configuration(spec: &ApplianceSpec, folder: &Path) -> String {
    let images = folder.join("state/registry/images");
    // bty-httpd opens its folders by path; the registry makes this one at its first start.
    let _ = fs::create_dir_all(&images);
    let mode = match spec.dhcp {
        DhcpMode::Proxy | DhcpMode::ProxyBesideKea => "proxy",
        DhcpMode::Full => "full",
    };
    let mut sections: Vec<(&str, String)> = vec![
        ("registry", format!("store_dir = {:?}\n", images.display().to_string())),
        (
            "httpd",
            format!(
                "live_dir = {:?}\nimage_dir = {:?}\n",
                spec.live.display().to_string(),
                images.display().to_string()
            ),
        ),
        ("tftp", format!("root = {:?}\n", spec.live.join("boot").display().to_string())),
        ("dhcp", format!("mode = {mode:?}\ninterfaces = [\"eth0\"]\n")),
        ("log", String::new()),
    ];
    for (section, lines) in &spec.settings {
        if let Some((_, text)) = sections.iter_mut().find(|(name, _)| name == section) {
            text.push_str(lines);
            text.push('\n');
        }
    }
    if spec.dhcp == DhcpMode::Full
        && let Some((_, dhcp)) = sections.iter_mut().find(|(name, _)| *name == "dhcp")
    {
        dhcp.push_str(&format!(
            "[[dhcp.subnet]]\ninterface = \"eth0\"\nnetwork = \"10.77.0.0/24\"\nrange_start = {:?}\n\
             range_end = {:?}\nlease_seconds = {}\n",
            POOL.0, POOL.1, spec.lease_seconds
        ));
    }
    sections.into_iter().map(|(name, text)| format!("[{name}]\n{text}\n")).collect()
}
