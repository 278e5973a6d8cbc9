//! A network that fails on the way: the cable at every stage of the boot, a switch that keeps a port silent, a lost packet now and then.

use std::{thread, time::Duration};

use anyhow::{Context, Result};
use bty_testkit::{
    Firmware, Machine, Port,
    appliance::{Appliance, DhcpMode},
    osimage::{self, IPXE_X64_BANNER},
};
use bty_tests::{
    STEP, appliance, assigned_machine, ensure_runs, live, wait_until_flashed, with_logs,
};

/// Longer than a client waits before it tries again, shorter than it takes to give up.
const AWAY: Duration = Duration::from_secs(12);
/// How long spanning tree keeps a port silent after its link has come up: 15 s to listen, 15 s to learn, and the time until the switch
/// has noticed, with some to spare.
const SILENT: Duration = Duration::from_secs(45);

/// A machine with UEFI and an empty disk that is to get an image of one program, the id of that image, and the machine's port.
fn small_machine(appliance: &mut Appliance) -> Result<(Machine, String, String, Port)> {
    let ipxe = live()?.join("boot/x64/ipxe.efi");
    let image = osimage::ipxe_x64(&ipxe, 512, appliance.folder())?;
    let id = appliance.import(&image, "small")?;
    let disk = appliance.new_disk("DISK0001", 64 << 20)?;
    let (machine, mac) =
        assigned_machine(appliance, "m1", Firmware::UefiPxe, disk, "small", "flash-once")?;
    let port = machine.spec().nics.first().context("no card")?.port.clone();
    Ok((machine, mac, id, port))
}

/// Waits for the success of the machine's one run, and for the image to boot.
fn ensure_flashed(appliance: &Appliance, machine: &mut Machine, mac: &str, id: &str) -> Result<()> {
    wait_until_flashed(appliance, mac, 1, id)?;
    machine.wait_for(IPXE_X64_BANNER, STEP)?;
    ensure_runs(appliance, mac, 1)
}

#[test]
fn the_cable_may_be_out_in_the_firmware_and_in_ipxe() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let (mut machine, mac, id, _) = small_machine(appliance)?;
        machine.power_on()?;
        // The firmware asks by DHCP; fetches by TFTP; iPXE asks by DHCP and for its script; and loads the live system.
        for stage in
            ["Start PXE over IPv4", "Downloading NBP", "iPXE initialising", "starting the live"]
        {
            machine.wait_for(stage, STEP)?;
            machine.set_cable(0, false)?;
            thread::sleep(AWAY);
            machine.set_cable(0, true)?;
        }
        ensure_flashed(appliance, &mut machine, &mac, &id)
    })
}

/// At each of these stages the link comes up, and the switch keeps the port silent; the first is the power-on.
fn is_flashed_behind_a_port_that_is_silent_at(stages: &[&str]) -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let (mut machine, mac, id, port) = small_machine(appliance)?;
        appliance.lan().set_loss(&port, 100)?;
        machine.power_on()?;
        thread::sleep(SILENT);
        appliance.lan().set_loss(&port, 0)?;
        for stage in stages {
            machine.wait_for(stage, STEP)?;
            appliance.lan().set_loss(&port, 100)?;
            thread::sleep(SILENT);
            appliance.lan().set_loss(&port, 0)?;
        }
        ensure_flashed(appliance, &mut machine, &mac, &id)
    })
}

#[test]
fn a_switch_with_spanning_tree_may_silence_a_port_at_each_link() -> Result<()> {
    is_flashed_behind_a_port_that_is_silent_at(&["live system, kernel"])
}

#[cfg(feature = "full")]
#[test]
fn spanning_tree_may_silence_ipxe_too() -> Result<()> {
    is_flashed_behind_a_port_that_is_silent_at(&["iPXE initialising", "live system, kernel"])
}

#[test]
fn a_machine_is_flashed_where_one_packet_in_a_hundred_is_lost() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let (mut machine, mac, id, port) = small_machine(appliance)?;
        appliance.lan().set_loss(&port, 1)?;
        machine.power_on()?;
        ensure_flashed(appliance, &mut machine, &mac, &id)
    })
}
