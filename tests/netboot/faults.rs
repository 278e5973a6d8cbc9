//! What goes wrong on the way: whatever dies, the machine ends flashed, and what is half written doesn't boot.

use std::{fs::File, os::unix::fs::FileExt, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Firmware, Machine,
    appliance::{Appliance, DAEMONS, DhcpMode, text, wait_for_login},
    osimage::debian_banner,
    wait,
};
use bty_tests::{
    CYCLE, DISK_BYTES, STEP, appliance, assigned_machine, ensure_runs, import_debian,
    wait_until_flashed, with_logs,
};

/// How long a cable is out, or a daemon away: longer than a client waits before it tries again, shorter than it takes to give up.
const AWAY: Duration = Duration::from_secs(12);
/// The agent's words when some of the disk is written, and some is not.
const HALF_WRITTEN: &str = "writing +[3-6][0-9] %";

/// Waits for the success of whichever run of the machine is the latest.
fn wait_until_some_run_proves(appliance: &Appliance, mac: &str, id: &str) -> Result<()> {
    wait::until_true("a run that proves the disk", CYCLE, || {
        let Some(latest) = appliance.runs(mac)?.into_iter().next() else { return Ok(false) };
        Ok(text(&latest, "/state")? == "RUN_STATE_SUCCEEDED"
            && text(&latest, "/record/proved_id")? == id)
    })
}

fn login(machine: &mut Machine, variant: &str) -> Result<()> {
    wait_for_login(machine, CYCLE)?;
    ensure!(machine.console().has(&debian_banner(variant))?, "the disk is not {variant}");
    Ok(())
}

#[test]
fn every_daemon_may_be_killed_at_every_stage() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let id = import_debian(appliance, "v1")?;
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::Bios, disk, "debian:v1", "flash-once")?;
        machine.power_on()?;
        for stage in ["live system, kernel", "has the address", HALF_WRITTEN, "reading back"] {
            machine.wait_for(stage, STEP)?;
            for daemon in DAEMONS {
                appliance.kill_and_restart(daemon)?;
            }
        }
        wait_until_flashed(appliance, &mac, 1, &id)?;
        login(&mut machine, "v1")?;
        machine.power_cycle()?;
        login(&mut machine, "v1")?;
        ensure_runs(appliance, &mac, 1)
    })
}

#[test]
fn a_machine_that_loses_its_power_half_way_boots_nothing_and_is_flashed_after_all() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let first = import_debian(appliance, "v1")?;
        let second = import_debian(appliance, "v2")?;
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
        let file = disk.file.clone();
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::Bios, disk, "debian:v1", "flash-once")?;
        machine.power_on()?;
        wait_until_flashed(appliance, &mac, 1, &first)?;
        login(&mut machine, "v1")?;

        appliance.btyctl(&["machine", "set", "m1", "--image", "debian:v2"])?;
        machine.power_cycle()?;
        machine.wait_for(HALF_WRITTEN, STEP)?;
        machine.power_off()?;
        // What booted before is gone, boot code and partition table, and its copy at the end: no firmware finds anything.
        let mut sectors = vec![0; 34 * 512];
        let disk = File::open(&file).context("opening the disk")?;
        for at in [0, DISK_BYTES - sectors.len() as u64] {
            disk.read_exact_at(&mut sectors, at).context("reading the disk")?;
            ensure!(sectors.iter().all(|&byte| byte == 0), "something is left at {at}");
        }

        machine.power_on()?;
        wait_until_some_run_proves(appliance, &mac, &second)?;
        login(&mut machine, "v2")?;
        machine.power_cycle()?;
        login(&mut machine, "v2")
    })
}

#[test]
fn a_cable_that_is_out_for_a_while_costs_that_while() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let id = import_debian(appliance, "v1")?;
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::Bios, disk, "debian:v1", "flash-once")?;
        machine.power_on()?;
        for stage in ["live system, kernel", HALF_WRITTEN] {
            machine.wait_for(stage, STEP)?;
            machine.set_cable(0, false)?;
            thread::sleep(AWAY);
            machine.set_cable(0, true)?;
        }
        wait_until_flashed(appliance, &mac, 1, &id)?;
        login(&mut machine, "v1")?;
        ensure_runs(appliance, &mac, 1)
    })
}

#[test]
fn a_network_that_loses_one_packet_in_twenty_costs_time_only() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let id = import_debian(appliance, "v1")?;
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::UefiPxe, disk, "debian:v1", "flash-once")?;
        let port = machine.spec().nics.first().context("no card")?.port.clone();
        appliance.lan().set_loss(&port, 5)?;
        machine.power_on()?;
        wait_until_some_run_proves(appliance, &mac, &id)?;
        login(&mut machine, "v1")
    })
}
