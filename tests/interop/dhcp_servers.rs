//! DHCP servers beside bty's: Kea as the LAN's own, a second proxy, a rogue that names a boot file.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Dnsmasq, Firmware, Lan, Program,
    appliance::{Appliance, DhcpMode, text},
    child::copied,
    daemon::{self, Daemon, DaemonSpec, write_config},
    wait,
};
use bty_tests::{STEP, appliance, with_logs};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// Where a stranger is.
const STRANGER: &str = "10.77.0.3";
const STRANGER_FILE: &str = "elsewhere.efi";
/// What dhclient says of itself, to be taken for UEFI PXE.
const LIKE_FIRMWARE: &str = "option arch code 93 = unsigned integer 16;\nsend arch 7;\n\
    send vendor-class-identifier \"PXEClient:Arch:00007:UNDI:003000\";\n";

/// What `btyctl dhcp servers` says of a server: whether it gives addresses and says where to boot from, and its card.
fn server(appliance: &Appliance, address: &str) -> Result<Option<(bool, bool, String)>> {
    Ok(shown(appliance, address)?.map(|one| {
        let is = |key: &str| one.get(key).and_then(Value::as_bool).unwrap_or_default();
        (is("leases"), is("boots"), text(&one, "/mac").unwrap_or_default())
    }))
}

/// How often it was heard.
fn messages(appliance: &Appliance, address: &str) -> Result<u64> {
    let shown = shown(appliance, address)?.with_context(|| format!("{address} is not known"))?;
    shown.pointer("/messages").and_then(Value::as_u64).context("no count")
}

/// All that is said of it.
fn shown(appliance: &Appliance, address: &str) -> Result<Option<Value>> {
    let shown = appliance.btyctl(&["dhcp", "servers"])?;
    let listening = shown.pointer("/listening").and_then(Value::as_bool);
    ensure!(listening == Some(true), "nobody listens: {shown}");
    let servers = shown.pointer("/servers").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(servers.into_iter().find(|one| text(one, "/address").is_ok_and(|at| at == address)))
}

/// Waits until a server is known as this, and is named in the log and among the events.
fn wait_until_named(
    appliance: &mut Appliance,
    address: &str,
    want: (bool, bool, &str),
    words: &str,
) -> Result<()> {
    let whole = Some((want.0, want.1, want.2.to_owned()));
    let mut seen = None;
    let waited = wait::until_true(&format!("{address} as {want:?}"), SOON, || {
        seen = server(appliance, address)?;
        Ok(seen == whole)
    });
    waited.with_context(|| format!("it is {seen:?}"))?;
    let named = format!("another DHCP server, {address} ({}), {words}", want.2);
    wait_for_log(appliance, &named)?;
    wait::until_true(&format!("an event that says: {named}"), SOON, || {
        let events = appliance.btyctl(&["event", "list", "--kind", "network"])?;
        let events = events.pointer("/events").and_then(Value::as_array).cloned();
        let says = |event: &Value| text(event, "/message").is_ok_and(|said| said.contains(&named));
        Ok(events.unwrap_or_default().iter().any(says))
    })
}

fn wait_for_log(appliance: &mut Appliance, words: &str) -> Result<()> {
    wait::until_true(&format!("a line of bty-dhcp's log that says: {words}"), SOON, || {
        Ok(appliance.daemon("bty-dhcp")?.log()?.contains(words))
    })
}

/// Asks once as firmware does, on a host of its own, and takes nothing.
fn ask_like_firmware(appliance: &mut Appliance) -> Result<()> {
    let folder = appliance.folder().to_owned();
    let host = appliance.lan().add_host("firmware", "10.77.0.20/24")?;
    host.namespace.ip(&["-4", "addr", "flush", "dev", "eth0"])?;
    let mac = host.mac()?;
    let path = |name: &str| folder.join(name).display().to_string();
    fs::write(folder.join("firmware.conf"), format!("{LIKE_FIRMWARE}timeout 5;\n"))?;
    fs::write(folder.join("firmware.leases"), "")?;
    let client =
        host.program(copied("dhclient", &folder)?).args(["-d", "-1", "-4", "-sf", "/bin/true"]);
    let (configuration, leases, pid) =
        (path("firmware.conf"), path("firmware.leases"), path("firmware.pid"));
    let client = client.args(["-cf", &configuration, "-lf", &leases, "-pf", &pid, "eth0"]);
    let _client = client.spawn(&folder.join("firmware.log"))?;
    wait::until_true("an offer to firmware", SOON, || {
        let log = appliance.btyctl(&["dhcp", "log", "--mac", &mac])?.to_string();
        Ok(log.contains("firmware-pxe"))
    })
}

#[test]
fn kea_gives_the_address_and_bty_the_boot_file() -> Result<()> {
    with_logs(appliance(DhcpMode::ProxyBesideKea)?, |appliance| {
        let mut machine = appliance.add_machine("m1", Firmware::Bios, Vec::new())?;
        let mac = machine.spec().nics.first().context("no card")?.mac.clone();
        machine.power_on()?;
        // iPXE has fetched its script, and with it told from which address.
        let known = wait::until("the boot script to be asked for", STEP, || {
            let shown = appliance.btyctl(&["machine", "list"])?.to_string();
            if !shown.contains(&mac) {
                return Ok(None);
            }
            let machine = appliance.machine(&mac)?;
            let address = text(&machine, "/observed/address").unwrap_or_default();
            Ok((!address.is_empty()).then_some(address))
        })?;
        let leased = appliance.kea().and_then(|kea| kea.leased_to(&mac));
        ensure!(leased.as_ref() == Some(&known), "{known} is not Kea's lease, {leased:?}");
        let log = appliance.btyctl(&["dhcp", "log", "--mac", &mac])?;
        let exchanges = log.pointer("/exchanges").and_then(Value::as_array).cloned();
        let offered = exchanges.unwrap_or_default().iter().any(|exchange| {
            text(exchange, "/boot_file").is_ok_and(|file| file.contains("/boot.ipxe"))
        });
        ensure!(offered, "bty-dhcp named no boot file: {log:#}");
        let kea = server(appliance, "10.77.0.2")?.context("Kea was not noticed")?;
        ensure!((kea.0, kea.1) == (true, false), "Kea is taken for {kea:?}");
        Ok(())
    })
}

#[test]
fn the_lans_own_server_is_named_before_any_client_asks() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let shown = wait::until("the LAN's server", SOON, || server(appliance, "10.77.0.2"))?;
        wait_until_named(appliance, "10.77.0.2", (true, false, &shown.2), "gives addresses on eth0")
    })
}

#[test]
fn a_rogue_server_is_named_before_any_client_asks() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let folder = appliance.folder().join("rogue");
        let rogue = appliance.lan().add_host("rogue", &format!("{STRANGER}/24"))?;
        let mac = rogue.mac()?;
        let _running = Dnsmasq::start(&rogue, &folder, "10.77.0.220", "10.77.0.229")?;
        appliance.kill_and_restart("bty-dhcp")?;
        wait_until_named(appliance, STRANGER, (true, false, &mac), "gives addresses on eth0")?;
        // Which of the two is the stranger is for a person to say, who is told of both when the second is heard.
        wait_for_log(appliance, "is one of them a stranger?")
    })
}

#[test]
fn a_second_proxy_is_named_with_its_boot_file() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let folder = appliance.folder().join("proxy");
        let proxy = appliance.lan().add_host("proxy", &format!("{STRANGER}/24"))?;
        let mac = proxy.mac()?;
        let _running = Dnsmasq::start_proxy(&proxy, &folder, STRANGER_FILE)?;
        ask_like_firmware(appliance)?;
        wait_until_named(appliance, STRANGER, (false, true, &mac), "says where to boot from")?;
        // Firmware asks again and again: it is said once.
        let heard = messages(appliance, STRANGER)?;
        ask_like_firmware(appliance)?;
        wait::until_true("the second proxy to be heard again", SOON, || {
            Ok(messages(appliance, STRANGER)? > heard)
        })?;
        let log = appliance.daemon("bty-dhcp")?.log()?;
        let said = log.matches(&format!("another DHCP server, {STRANGER}")).count();
        ensure!(said == 1, "{said} lines of one server");
        Ok(())
    })
}

/// bty-dhcp alone, without the right to listen to others.
fn without_packet_sockets(folder: &Path, lan: &mut Lan) -> Result<Daemon> {
    let server = lan.add_server()?;
    write_config(folder, "[dhcp]\ninterfaces = [\"eth0\"]\n")?;
    let program = daemon::binaries()?.join("bty-dhcp");
    let path = |name: &str| folder.join(name).display().to_string();
    let spec = DaemonSpec::new("setpriv", folder)
        .arg("--bounding-set=-net_raw")
        .arg("--inh-caps=-net_raw")
        .arg(program.display().to_string())
        .arg("--config")
        .arg(daemon::config_path(folder).display().to_string())
        .arg("--state-dir")
        .arg(path("state"))
        .arg("--run-dir")
        .arg(path("run"));
    spec.within(&server.namespace).start()
}

#[test]
fn without_the_right_to_listen_it_serves_and_says_so_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let running = without_packet_sockets(folder.path(), &mut lan)?;
    let log = running.log()?;
    let said = log.matches("CAP_NET_RAW").count();
    ensure!(said == 1, "{said} lines about the missing right: {log}");
    let shown = Program::new(daemon::binaries()?.join("btyctl"))
        .arg("--run-dir")
        .arg(folder.path().join("run"))
        .args(["dhcp", "servers"])
        .run()?;
    ensure!(shown.contains("no other server was heard"), "{shown}");
    ensure!(shown.contains("CAP_NET_RAW"), "{shown}");
    running.stop()
}
