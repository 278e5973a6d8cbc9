//! How often a machine is flashed: once for an assignment, or at every other power-on.

use anyhow::{Result, ensure};
use bty_testkit::{
    DiskBus, Firmware, Machine,
    appliance::{Appliance, DhcpMode, wait_for_login},
    osimage::{self, GRUB_BANNER, debian_banner},
};
use bty_tests::{
    CYCLE, DISK_BYTES, STEP, appliance, assigned_machine, ensure_runs, import_debian,
    wait_until_flashed, with_logs,
};

/// Waits for the Debian of this variant, booted from the disk.
fn wait_for_debian(machine: &mut Machine, variant: &str) -> Result<()> {
    wait_for_login(machine, CYCLE)?;
    ensure!(machine.console().has(&debian_banner(variant))?, "the disk is not {variant}");
    Ok(())
}

#[test]
fn a_changed_assignment_flashes_once_more() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let first = import_debian(appliance, "v1")?;
        let second = import_debian(appliance, "v2")?;
        ensure!(first != second, "two variants are one image");
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::Bios, disk, "debian:v1", "flash-once")?;
        machine.power_on()?;
        wait_until_flashed(appliance, &mac, 1, &first)?;
        wait_for_debian(&mut machine, "v1")?;

        appliance.btyctl(&["machine", "set", "m1", "--image", "debian:v2"])?;
        machine.power_cycle()?;
        wait_until_flashed(appliance, &mac, 2, &second)?;
        wait_for_debian(&mut machine, "v2")?;

        machine.power_cycle()?;
        wait_for_debian(&mut machine, "v2")?;
        ensure_runs(appliance, &mac, 2)
    })
}

#[test]
fn a_second_machine_with_another_disk_bus_gets_the_same_image() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let id = import_debian(appliance, "v1")?;
        let mut machines = Vec::new();
        for (name, bus) in [("virtio", DiskBus::Virtio), ("nvme", DiskBus::Nvme)] {
            let disk = appliance.new_disk(&format!("DISK-{name}"), DISK_BYTES)?.on(bus);
            let (mut machine, mac) =
                assigned_machine(appliance, name, Firmware::Bios, disk, "debian:v1", "flash-once")?;
            machine.power_on()?;
            machines.push((machine, mac));
        }
        for (machine, mac) in &mut machines {
            wait_until_flashed(appliance, mac, 1, &id)?;
            wait_for_debian(machine, "v1")?;
            ensure_runs(appliance, mac, 1)?;
        }
        Ok(())
    })
}

/// Waits for GRUB in this power cycle, and that there were so many runs by then.
fn wait_for_grub(
    appliance: &Appliance,
    machine: &mut Machine,
    mac: &str,
    runs: usize,
) -> Result<()> {
    machine.wait_for(GRUB_BANNER, STEP)?;
    ensure_runs(appliance, mac, runs)
}

#[test]
fn flash_always_flashes_at_every_other_power_on() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let id = appliance.import(&osimage::grub_rescue()?, "grub:rescue")?;
        let disk = appliance.new_disk("DISK0001", 64 << 20)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::Bios, disk, "grub:rescue", "flash-always")?;
        // Flashed, then its restart boots the disk; so the next power-on flashes again, and once more.
        for runs in 1..=3 {
            machine.power_cycle()?;
            wait_until_flashed(appliance, &mac, runs, &id)?;
            wait_for_grub(appliance, &mut machine, &mac, runs)?;
        }
        Ok(())
    })
}
