//! DHCP: udhcpc, dhclient, dhcpcd and systemd-networkd, from the first lease to its end, of bty as the LAN's DHCP server.
//!
//! Renewed is half-way through a lease, by a word to the server. Rebound is shortly before its end, by a word to everybody, because
//! the server was not to be reached.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Child, Host, Program,
    appliance::{Appliance, ApplianceSpec, DhcpMode},
    child::copied,
    daemon, wait,
};
use bty_tests::{live, with_logs};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The shortest lease that there is, so that clients renew it while the test runs.
const LEASE_SECONDS: u64 = 60;
const SOON: Duration = Duration::from_secs(20);
/// Half of a lease and more.
const RENEWED: Duration = Duration::from_secs(45);
/// All of it and more.
const REBOUND: Duration = Duration::from_secs(75);
/// What looks first whether somebody has the address takes its time.
const LOOKED: Duration = Duration::from_secs(45);

/// A machine's own name servers, which no client may touch.
const RESOLVER: &str = "/etc/resolv.conf";

/// A host without an address, and what the server has heard of it.
struct Client<'a> {
    appliance: &'a Appliance,
    host: Host,
    mac: String,
    folder: PathBuf,
}

impl Client<'_> {
    fn program(&self, path: impl AsRef<OsStr>) -> Program {
        self.host.program(path).current_dir(&self.folder)
    }

    /// How often `message` was answered by `answer`; a client that keeps its transaction's id has its renewals counted as repeats. So
    /// has one that asks again because it waits: what counts is one more than there were once it had its address.
    fn count(&self, message: &str, answer: &str) -> Result<u64> {
        let log = self.appliance.btyctl(&["dhcp", "log", "--mac", &self.mac])?;
        let exchanges = log.pointer("/exchanges").and_then(Value::as_array).cloned();
        let is = |exchange: &Value, key: &str, wanted: &str| {
            exchange.get(key).and_then(Value::as_str).unwrap_or_default() == wanted
        };
        let repeats = |exchange: &Value| exchange.get("repeats").and_then(Value::as_u64);
        let found = exchanges.context("no exchanges in btyctl's answer")?;
        let found =
            found.iter().filter(|one| is(one, "message", message) && is(one, "answer", answer));
        Ok(found.map(|one| 1 + repeats(one).unwrap_or_default()).sum())
    }

    /// Waits until `message` was answered by `answer` so often.
    fn wait_for(&self, message: &str, answer: &str, count: u64, timeout: Duration) -> Result<()> {
        let waited =
            wait::until_true(&format!("{message} {answer} {count} times"), timeout, || {
                Ok(self.count(message, answer)? >= count)
            });
        waited.with_context(|| fs::read_to_string(self.folder.join("log")).unwrap_or_default())
    }

    /// The IPv4 address that the client has given itself, as `ip` shows it.
    fn address(&self) -> Result<Option<String>> {
        let shown = self.host.namespace.ip(&["-4", "-o", "addr", "show", "dev", "eth0"])?;
        Ok(shown.split_whitespace().find(|word| word.contains("10.77.0.")).map(str::to_owned))
    }

    fn wait_for_address(&self) -> Result<String> {
        let address = wait::until("an address", SOON, || self.address())?;
        ensure!(address.ends_with("/24"), "{address} has another prefix than the subnet's");
        let number: u8 = address.trim_start_matches("10.77.0.").trim_end_matches("/24").parse()?;
        ensure!((100..=199).contains(&number), "{address} is not of the range");
        Ok(address)
    }

    /// Waits for the first lease, then keeps the server from being reached but by broadcast, and waits until the client has its
    /// lease extended all the same, without a new address.
    fn wait_until_rebound(&self) -> Result<()> {
        self.wait_for("REQUEST", "ACK", 1, SOON)?;
        let first = self.wait_for_address()?;
        let acknowledged = self.count("REQUEST", "ACK")?;
        let rules = "table inet cut {\nchain in {\ntype filter hook input priority 0;\n\
                     ip daddr 10.77.0.1 udp dport 67 counter drop\n}\n}";
        let nft = |arguments: &[&str]| self.appliance.server().program("nft").args(arguments).run();
        nft(&[rules])?;
        self.wait_for("REQUEST", "ACK", acknowledged + 1, REBOUND)?;
        ensure!(self.address()?.as_ref() == Some(&first), "rebinding changed the address");
        let shown = nft(&["list", "table", "inet", "cut"])?;
        ensure!(!shown.contains("packets 0 "), "it has not tried to renew before: {shown}");
        Ok(())
    }

    /// Waits until the client, which had this address and finds it taken, has declined it and got another.
    fn wait_until_declined(&self, taken: &str) -> Result<()> {
        self.wait_for("DECLINE", "", 1, LOOKED)?;
        wait::until_true("another address", LOOKED, || {
            Ok(self.address()?.is_some_and(|address| address != taken))
        })
    }

    fn spawn(&self, program: &Program) -> Result<Child> {
        program.spawn(&self.folder.join("log"))
    }
}

fn client<'a>(appliance: &'a mut Appliance, role: &str, address: &str) -> Result<Client<'a>> {
    let host = appliance.lan().add_host(role, address)?;
    let appliance: &Appliance = appliance;
    host.namespace.ip(&["-4", "addr", "flush", "dev", "eth0"])?;
    let mac = host.mac()?;
    let folder = appliance.folder().join(role);
    fs::create_dir(&folder)?;
    Ok(Client { appliance, host, mac, folder })
}

/// Runs a test with bty as the DHCP server; this machine's own network must be as before.
fn with_full(test: impl FnOnce(&mut Appliance) -> Result<()>) -> Result<()> {
    let before = fs::read(RESOLVER).ok();
    let usual = ApplianceSpec::new(daemon::binaries()?, live()?, DhcpMode::Full);
    let appliance = Appliance::start(ApplianceSpec { lease_seconds: LEASE_SECONDS, ..usual })?;
    with_logs(appliance, test)?;
    ensure!(fs::read(RESOLVER).ok() == before, "a client changed this machine's {RESOLVER}");
    Ok(())
}

fn script(folder: &Path, text: &str) -> Result<PathBuf> {
    let path = folder.join("script");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// A host that will have an address which a client was given.
fn squatter(appliance: &mut Appliance) -> Result<Host> {
    appliance.lan().add_host("squatter", "")
}

fn squat(squatter: &Host, address: &str) -> Result<()> {
    squatter.namespace.ip(&["addr", "add", address, "dev", "eth0"]).map(drop)
}

/// Starts udhcpc, which looks whether somebody has its address where it is told to.
fn udhcpc(client: &Client<'_>, looks: bool) -> Result<Child> {
    let text = "#!/bin/sh\n[ \"$1\" = bound ] && ip addr add $ip/$mask dev eth0\n\
                [ \"$1\" = deconfig ] && ip -4 addr flush dev eth0\ntrue\n";
    let script = script(&client.folder, text)?;
    let udhcpc = client.program("busybox").args(["udhcpc", "-i", "eth0", "-f", "-s"]).arg(script);
    client.spawn(&if looks { udhcpc.arg("-a") } else { udhcpc })
}

#[test]
fn udhcpc_leases_renews_and_releases() -> Result<()> {
    with_full(|appliance| {
        let client = client(appliance, "udhcpc", "10.77.0.20/24")?;
        let mut udhcpc = udhcpc(&client, false)?;
        client.wait_for_address()?;
        client.wait_for("REQUEST", "ACK", 1, SOON)?;
        let acknowledged = client.count("REQUEST", "ACK")?;
        udhcpc.signal(Signal::SIGUSR1)?;
        client.wait_for("REQUEST", "ACK", acknowledged + 1, SOON)?;
        udhcpc.signal(Signal::SIGUSR2)?;
        client.wait_for("RELEASE", "", 1, SOON)?;
        udhcpc.stop(SOON).map(drop)
    })
}

#[test]
fn udhcpc_rebinds() -> Result<()> {
    with_full(|appliance| {
        let client = client(appliance, "udhcpc", "10.77.0.20/24")?;
        let mut udhcpc = udhcpc(&client, false)?;
        client.wait_until_rebound()?;
        udhcpc.stop(SOON).map(drop)
    })
}

#[test]
fn udhcpc_declines_an_address_that_somebody_has() -> Result<()> {
    with_full(|appliance| {
        let squatter = squatter(appliance)?;
        let client = client(appliance, "udhcpc", "10.77.0.20/24")?;
        let mut first = udhcpc(&client, false)?;
        let address = client.wait_for_address()?;
        first.signal(Signal::SIGUSR2)?;
        client.wait_for("RELEASE", "", 1, SOON)?;
        first.stop(SOON)?;
        squat(&squatter, &address)?;
        let mut second = udhcpc(&client, true)?;
        client.wait_until_declined(&address)?;
        second.stop(SOON).map(drop)
    })
}

/// How dhclient is called. Its script fails at the first address where it is to decline it, as its own does where somebody has it.
fn dhclient(client: &Client<'_>, mode: &str, declines: bool) -> Result<Program> {
    let text = "#!/bin/sh\ncase $reason in\nBOUND) [ -e declined ] || { touch declined; exit 1; }\n\
                ip addr add $new_ip_address/$new_subnet_mask dev eth0;;\n\
                RELEASE|EXPIRE|STOP) ip -4 addr flush dev eth0;;\nesac\ntrue\n";
    let script = script(&client.folder, text)?;
    // It wants to find one.
    let leases = client.folder.join("leases");
    if !leases.exists() {
        fs::write(leases, "")?;
    }
    if !declines {
        fs::write(client.folder.join("declined"), "")?;
    }
    // Its usual intervals, which grow to minutes, may leave out the last part of so short a lease.
    fs::write(client.folder.join("conf"), "initial-interval 2;\nbackoff-cutoff 4;\n")?;
    let program = client
        .program(copied("dhclient", &client.folder)?)
        .args([mode, "-v", "-4", "-sf"])
        .arg(script);
    Ok(program.args(["-lf", "leases", "-pf", "pid", "-cf", "conf", "eth0"]))
}

#[test]
fn dhclient_leases_renews_declines_and_releases() -> Result<()> {
    with_full(|appliance| {
        let client = client(appliance, "dhclient", "10.77.0.20/24")?;
        let mut running = client.spawn(&dhclient(&client, "-d", true)?)?;
        client.wait_for("DECLINE", "", 1, SOON)?;
        let first = client.wait_for_address()?;
        // Of the address that it declined, and of this one.
        client.wait_for("REQUEST", "ACK", 2, SOON)?;
        let acknowledged = client.count("REQUEST", "ACK")?;
        client.wait_for("REQUEST", "ACK", acknowledged + 1, RENEWED)?;
        ensure!(client.address()?.as_ref() == Some(&first), "renewing changed the address");
        dhclient(&client, "-r", true)?.run()?;
        client.wait_for("RELEASE", "", 1, SOON)?;
        running.wait(SOON).map(drop)
    })
}

#[test]
fn dhclient_rebinds() -> Result<()> {
    with_full(|appliance| {
        let client = client(appliance, "dhclient", "10.77.0.20/24")?;
        let mut running = client.spawn(&dhclient(&client, "-d", false)?)?;
        client.wait_until_rebound()?;
        running.stop(SOON).map(drop)
    })
}

/// How dhcpcd is called. Its state is of the whole machine: a mount namespace keeps it here. Its hooks would write this machine's
/// resolv.conf.
fn dhcpcd(client: &Client<'_>, arguments: &str) -> Program {
    let own = "mount -t tmpfs none /run && mkdir -p /var/lib/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd && exec";
    let line = format!("{own} dhcpcd -4 -f /dev/null --script /bin/true -d -B {arguments} eth0");
    client.program("unshare").args(["--mount", "sh", "-c", &line])
}

fn release_dhcpcd(client: &Client<'_>, running: &mut Child, count: u64) -> Result<()> {
    let pid = running.id().to_string();
    let release = ["--target", &pid, "--mount", "dhcpcd", "-4", "--release", "eth0"];
    client.program("nsenter").args(release).run()?;
    client.wait_for("RELEASE", "", count, SOON)?;
    running.wait(SOON).map(drop)
}

#[test]
fn dhcpcd_leases_renews_asks_for_more_and_releases() -> Result<()> {
    with_full(|appliance| {
        let client = client(appliance, "dhcpcd", "10.77.0.20/24")?;
        let mut running = client.spawn(&dhcpcd(&client, ""))?;
        client.wait_for_address()?;
        client.wait_for("REQUEST", "ACK", 1, SOON)?;
        let acknowledged = client.count("REQUEST", "ACK")?;
        client.wait_for("REQUEST", "ACK", acknowledged + 1, RENEWED)?;
        release_dhcpcd(&client, &mut running, 1)?;
        client.host.namespace.ip(&["addr", "replace", "10.77.0.21/24", "dev", "eth0"])?;
        let mut informing = client.spawn(&dhcpcd(&client, "--inform=10.77.0.21/24"))?;
        client.wait_for("INFORM", "ACK", 1, SOON)?;
        informing.stop(SOON).map(drop)
    })
}

#[test]
fn dhcpcd_rebinds() -> Result<()> {
    with_full(|appliance| {
        let client = client(appliance, "dhcpcd", "10.77.0.20/24")?;
        let mut running = client.spawn(&dhcpcd(&client, ""))?;
        client.wait_until_rebound()?;
        running.stop(SOON).map(drop)
    })
}

#[test]
fn dhcpcd_declines_an_address_that_somebody_has() -> Result<()> {
    with_full(|appliance| {
        let squatter = squatter(appliance)?;
        let client = client(appliance, "dhcpcd", "10.77.0.20/24")?;
        let mut first = client.spawn(&dhcpcd(&client, ""))?;
        let address = client.wait_for_address()?;
        release_dhcpcd(&client, &mut first, 1)?;
        squat(&squatter, &address)?;
        let mut second = client.spawn(&dhcpcd(&client, ""))?;
        client.wait_until_declined(&address)?;
        second.stop(SOON).map(drop)
    })
}

/// Starts systemd-networkd as in a container: without udev, and with nothing of this machine's own configuration. (It is not asked to
/// look for others that have its address: without one it fails to send the DECLINE.)
fn networkd(client: &Client<'_>) -> Result<Child> {
    let network =
        "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n";
    fs::write(client.folder.join("eth0.network"), network)?;
    let line = "mount -o remount,ro /sys && mount -t tmpfs none /run && mount -t tmpfs none /etc/systemd/network \
                && mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp /run/systemd/network \
                && chown -R systemd-network /run/systemd/netif && cp eth0.network /run/systemd/network/ \
                && exec /lib/systemd/systemd-networkd";
    let networkd = client
        .program("unshare")
        .env("SYSTEMD_LOG_LEVEL", "debug")
        .args(["--mount", "sh", "-c", line]);
    client.spawn(&networkd)
}

#[test]
fn networkd_leases_renews_and_releases() -> Result<()> {
    with_full(|appliance| {
        let client = client(appliance, "networkd", "10.77.0.20/24")?;
        let mut running = networkd(&client)?;
        client.wait_for("REQUEST", "ACK", 1, SOON)?;
        client.wait_for_address()?;
        let acknowledged = client.count("REQUEST", "ACK")?;
        client.wait_for("REQUEST", "ACK", acknowledged + 1, RENEWED)?;
        running.stop(SOON)?;
        client.wait_for("RELEASE", "", 1, SOON)
    })
}

#[test]
fn networkd_rebinds() -> Result<()> {
    with_full(|appliance| {
        let client = client(appliance, "networkd", "10.77.0.20/24")?;
        let mut running = networkd(&client)?;
        client.wait_until_rebound()?;
        running.stop(SOON).map(drop)
    })
}
