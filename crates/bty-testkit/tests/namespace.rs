//! A virtual LAN carries frames, loses them when told to, and leaves nothing behind.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use bty_testkit::{Dnsmasq, Host, Lan, Program, child, packages, wait};
use nix::sys::signal::Signal;

/// Long enough for a machine whose cores emulate others.
const PATIENCE: Duration = Duration::from_secs(20);

fn reaches(host: &Host, address: &str) -> Result<bool> {
    let ping = host.program("ping").args(["-n", "-c", "1", "-W", "1", address]).output()?;
    Ok(ping.status.success())
}

#[test]
fn two_hosts_hear_each_other_until_a_cable_is_pulled() -> Result<()> {
    packages::ensure(packages::LAB)?;
    let mut lan = Lan::new()?;
    let server = lan.add_server()?;
    let client = lan.add_host("client", "10.77.0.9/24")?;
    assert!(reaches(&client, "10.77.0.1")?);

    lan.set_cable(&server.port, false)?;
    assert!(!reaches(&client, "10.77.0.1")?);

    lan.set_cable(&server.port, true)?;
    wait::until_true("the cable", PATIENCE, || reaches(&client, "10.77.0.1"))
}

#[test]
fn loss_of_all_frames_is_a_dead_line_and_no_loss_is_none() -> Result<()> {
    packages::ensure(packages::LAB)?;
    let mut lan = Lan::new()?;
    let server = lan.add_server()?;
    let client = lan.add_host("client", "10.77.0.9/24")?;
    lan.set_loss(&server.port, 100)?;
    assert!(!reaches(&client, "10.77.0.1")?);
    lan.set_loss(&server.port, 0)?;
    // The client asks for the server's link address again only after a while.
    wait::until_true("the line", PATIENCE, || reaches(&client, "10.77.0.1"))?;
    lan.set_rate(&server.port, Some(8000))?;
    assert!(reaches(&client, "10.77.0.1")?);
    lan.set_rate(&server.port, None)
}

#[test]
fn the_foreign_dhcp_server_gives_addresses_and_no_boot_file() -> Result<()> {
    packages::ensure(packages::LAB)?;
    let folder = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let foreign = lan.add_foreign_dhcp_host()?;
    let client = lan.add_host("client", "")?;
    let dhcp = Dnsmasq::start(&foreign, folder.path(), "10.77.0.100", "10.77.0.199")?;

    let asked = client
        .program("busybox")
        .args(["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true"])
        .output()?;
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.success(), "{said}");

    let mac = client.program("cat").arg("/sys/class/net/eth0/address").run()?;
    let address = dhcp.leased_to(mac.trim()).expect("a lease for the client");
    assert!(address.starts_with("10.77.0.1"), "{address}");
    assert!(said.contains(&address), "{said}");
    assert!(!dhcp.log()?.contains("bootfile name:"));
    Ok(())
}

#[test]
fn a_lab_leaves_no_namespace_and_sweeps_those_of_dead_processes() -> Result<()> {
    packages::ensure(packages::LAB)?;
    let left_behind = format!("bty-{}-0-sw", a_dead_process()?);
    Program::new("ip").args(["netns", "add", &left_behind]).run()?;

    let lan = Lan::new()?;
    assert!(!is_there(&left_behind), "the leftover of a dead process is still there");
    let own = lan.switch().name().to_owned();
    assert!(is_there(&own));
    drop(lan);
    assert!(!is_there(&own));
    Ok(())
}

#[test]
fn a_dropped_child_is_killed_and_a_stopped_one_tells_how_it_ended() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("sleep.log");
    // Started by a thread that ends before the child does: the parent-death signal must not come then.
    let start = move || Program::new("sleep").arg("1000").spawn(&log);
    let mut child = std::thread::spawn(start).join().expect("the thread")?;
    assert_eq!(child.status()?, None);
    let status = child.stop(PATIENCE)?;
    assert!(child::was_killed_by(status, Signal::SIGTERM), "{status}");

    let log = folder.path().join("again.log");
    let child = Program::new("sleep").arg("1000").spawn(&log)?;
    let process = format!("/proc/{}", child.id());
    assert!(Path::new(&process).exists());
    drop(child);
    assert!(!Path::new(&process).exists());
    assert_eq!(fs::read_to_string(log)?, "");
    Ok(())
}

fn is_there(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

/// The id of a process that has ended and was reaped.
fn a_dead_process() -> Result<u32> {
    let mut ended = std::process::Command::new("true").spawn()?;
    ended.wait()?;
    Ok(ended.id())
}
