//! A virtual LAN of network namespaces: a switch (a bridge), hosts on veth cables, and taps for virtual machines.
//!
//! Nothing of it touches the machine's own network: the bridge lives in a namespace of its own, and there is no route out.
//! Names are `bty-<pid>-<n>-<role>`, so that any number of labs run beside each other, and what a killed one left behind is
//! known by its dead process and swept before the next lab is made.

use std::{
    fs,
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{child::Program, require_root, small_disk};

/// Where `ip netns` keeps the names.
const NAMES_FOLDER: &str = "/run/netns";
/// The address of the usual server, which [`Lan::add_server`] makes.
pub const SERVER_ADDRESS: &str = "10.77.0.1/24";
/// The address of the usual foreign DHCP server's host.
pub const FOREIGN_DHCP_ADDRESS: &str = "10.77.0.2/24";

/// A network namespace, deleted with the last of its clones.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<Named>);

#[derive(Debug)]
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        // Nothing more can be done here; the next lab's sweep tries again.
        let _ = Program::new("ip").args(["netns", "delete", &self.0]).output();
    }
}

impl Namespace {
    /// Makes a namespace of this name, with its loopback up.
    fn create(name: String) -> Result<Self> {
        Program::new("ip").args(["netns", "add", &name]).run()?;
        let namespace = Self(Arc::new(Named(name)));
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.0.0
    }

    /// A program that will run inside.
    pub fn program(&self, path: impl AsRef<std::ffi::OsStr>) -> Program {
        Program::new(path).within(self)
    }

    /// Kills everything that runs inside.
    pub fn end_processes(&self) -> Result<()> {
        end_processes_inside(self.name())
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        Program::new("ip").args(["-netns", self.name()]).args(arguments).run()
    }
}

/// A host on the LAN: a namespace with `eth0`, plugged into the switch.
#[derive(Debug, Clone)]
pub struct Host {
    /// The host's namespace.
    pub namespace: Namespace,
    /// Its end of the cable at the switch.
    pub port: Port,
}

impl Host {
    /// The MAC address of its `eth0`, in lower case with colons.
    pub fn mac(&self) -> Result<String> {
        let shown = self.namespace.ip(&["-o", "link", "show", "dev", "eth0"])?;
        let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
        words.nth(1).map(str::to_owned).context("eth0 has no MAC address")
    }

    /// A program that will run on this host.
    pub fn program(&self, path: impl AsRef<std::ffi::OsStr>) -> Program {
        self.namespace.program(path)
    }
}

/// A port of the switch, by the name of its interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port(String);

impl Port {
    #[cfg(test)]
    pub(crate) fn for_tests(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The interface's name in the switch's namespace.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// A virtual LAN.
#[derive(Debug)]
pub struct Lan {
    prefix: String,
    switch: Namespace,
    ports: u32,
}

impl Lan {
    /// Makes a switch without anything plugged in, after sweeping what dead labs left behind.
    pub fn new() -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        require_root()?;
        sweep_leftovers()?;
        let prefix = format!("bty-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let switch = Namespace::create(format!("{prefix}-sw"))?;
        // Without these a port learns for 15 s before it forwards, and boot ROMs give up.
        switch.ip(&[
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
            "mcast_snooping",
            "0",
        ])?;
        switch.ip(&["link", "set", "br0", "up"])?;
        Ok(Self { prefix, switch, ports: 0 })
    }

    /// The namespace of the switch, where virtual machines run and captures see every frame.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// A host called `role` with `address` (such as `10.77.0.9/24`; none where empty) at its `eth0`.
    pub fn add_host(&mut self, role: &str, address: &str) -> Result<Host> {
        let namespace = Namespace::create(format!("{}-{role}", self.prefix))?;
        let port = self.plug(&namespace, "eth0", address)?;
        Ok(Host { namespace, port })
    }

    /// The host that runs bty: `server`, [`SERVER_ADDRESS`].
    pub fn add_server(&mut self) -> Result<Host> {
        self.add_host("server", SERVER_ADDRESS)
    }

    /// The host for the LAN's own DHCP server: `lan-dhcp`, [`FOREIGN_DHCP_ADDRESS`].
    pub fn add_foreign_dhcp_host(&mut self) -> Result<Host> {
        self.add_host("lan-dhcp", FOREIGN_DHCP_ADDRESS)
    }

    /// The host for the LAN's IPv6 router: `router`, without an IPv4 address.
    pub fn add_router_host(&mut self) -> Result<Host> {
        self.add_host("router", "")
    }

    /// Plugs one more interface of a namespace (also one of another LAN's host) into this switch.
    pub fn plug(&mut self, namespace: &Namespace, interface: &str, address: &str) -> Result<Port> {
        let port = self.next_port("veth");
        self.switch.ip(&[
            "link",
            "add",
            port.name(),
            "type",
            "veth",
            "peer",
            "name",
            interface,
            "netns",
            namespace.name(),
        ])?;
        self.switch.ip(&["link", "set", port.name(), "master", "br0", "up"])?;
        if !address.is_empty() {
            namespace.ip(&["address", "add", address, "dev", interface])?;
        }
        namespace.ip(&["link", "set", interface, "up"])?;
        Ok(port)
    }

    /// A tap for a virtual machine, which must run in the switch's namespace.
    pub fn add_tap(&mut self) -> Result<Port> {
        let port = self.next_port("tap");
        self.switch.ip(&["tuntap", "add", "dev", port.name(), "mode", "tap"])?;
        self.switch.ip(&["link", "set", port.name(), "master", "br0", "up"])?;
        Ok(port)
    }

    /// Pulls the cable out of a port of the switch, or plugs it back in.
    pub fn set_cable(&self, port: &Port, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.switch.ip(&["link", "set", port.name(), state]).map(drop)
    }

    /// Loses this percentage of the frames that come in from a port and that go out to it; 0 loses none.
    pub fn set_loss(&self, port: &Port, percent: u8) -> Result<()> {
        ensure!(percent <= 100, "{percent} % of the frames can't be lost");
        let table = format!("loss-{}", port.name());
        let name = port.name();
        // netem is a module that small kernels lack; numgen isn't.
        let lose = match percent {
            0 => String::new(),
            100 => "drop".to_owned(),
            _ => format!("numgen random mod 100 < {percent} drop"),
        };
        let chain = if lose.is_empty() {
            String::new()
        } else {
            format!(
                "table bridge {table} {{\n\
                   chain from_and_to {{ type filter hook forward priority 0;\n\
                     iifname {name} {lose}\n\
                     oifname {name} {lose}\n\
                   }}\n\
                 }}\n"
            )
        };
        // The first line makes sure that there is something to delete.
        let rules = format!("table bridge {table} {{}}\ndelete table bridge {table}\n{chain}");
        let folder = tempfile::tempdir().context("making a folder for the rules")?;
        let file = folder.path().join("rules.nft");
        fs::write(&file, rules).context("writing the rules")?;
        self.switch.program("nft").arg("-f").arg(&file).run().map(drop)
    }

    /// Limits what goes out to a port, in kbit/s; `None` lifts the limit.
    pub fn set_rate(&self, port: &Port, kbit_per_s: Option<u32>) -> Result<()> {
        let tc = |arguments: &[&str]| self.switch.program("tc").args(arguments).output();
        // There may be no limit yet.
        tc(&["qdisc", "del", "dev", port.name(), "root"])?;
        if let Some(rate) = kbit_per_s {
            let rate = format!("{rate}kbit");
            let added = tc(&[
                "qdisc",
                "add",
                "dev",
                port.name(),
                "root",
                "tbf",
                "rate",
                &rate,
                "burst",
                "32kb",
                "latency",
                "50ms",
            ])?;
            let complaint = String::from_utf8_lossy(&added.stderr);
            ensure!(added.status.success(), "limiting {}: {complaint}", port.name());
        }
        Ok(())
    }

    fn next_port(&mut self, kind: &str) -> Port {
        self.ports += 1;
        Port(format!("{kind}{}", self.ports))
    }
}

/// Removes the namespaces of labs whose process is dead, ends what still runs inside them, and unmounts their small disks.
pub fn sweep_leftovers() -> Result<()> {
    small_disk::sweep()?;
    let Ok(names) = fs::read_dir(NAMES_FOLDER) else {
        return Ok(()); // No namespace was ever named on this machine.
    };
    for name in names {
        let name = name.context("listing the namespaces")?.file_name();
        let Some(name) = name.to_str() else { continue };
        if owner_of(name).is_some_and(is_dead) {
            end_processes_inside(name)?;
            // Another lab may be sweeping the same leftovers.
            Program::new("ip").args(["netns", "delete", name]).output()?;
        }
    }
    Ok(())
}

/// The process that made the namespace of this name, where it is one of ours.
fn owner_of(name: &str) -> Option<u32> {
    name.strip_prefix("bty-")?.split('-').next()?.parse().ok()
}

fn is_dead(process: u32) -> bool {
    !Path::new("/proc").join(process.to_string()).exists()
}

fn end_processes_inside(name: &str) -> Result<()> {
    let inside = Program::new("ip").args(["netns", "pids", name]).output()?;
    for id in String::from_utf8_lossy(&inside.stdout).split_whitespace() {
        if let Ok(id) = id.parse() {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_have_an_owner() {
        assert_eq!(owner_of("bty-4711-0-sw"), Some(4711));
        assert_eq!(owner_of("bty-4711-12-lan-dhcp"), Some(4711));
        assert_eq!(owner_of("bty-lab"), None);
        assert_eq!(owner_of("docker-4711-0"), None);
    }
}
