//! Whatever is wrong with the disk: nothing is written, the run names the disks there are, and the machine waits for a
//! person instead of booting.

use std::fs;

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Disk, Firmware, Machine,
    appliance::{Appliance, DhcpMode, text},
    osimage::{self, LOGIN_PROMPT},
};
use bty_tests::{STEP, appliance, import_debian, wait_until_failed, with_logs};

/// What a disk is full of before anything is wrong.
const OLD: u8 = 0xA5;

/// A disk full of old data.
fn old_disk(appliance: &Appliance, serial: &str, bytes: usize) -> Result<Disk> {
    let disk = Disk::new(appliance.folder().join(format!("{serial}.raw")), serial);
    fs::write(&disk.file, vec![OLD; bytes]).context("filling a disk")?;
    Ok(disk)
}

/// Switches the machine on with these disks; its run number `count` must fail, say `because`, and name every disk.
fn is_refused(
    appliance: &Appliance,
    machine: &mut Machine,
    disks: &[Disk],
    count: usize,
    because: &str,
) -> Result<()> {
    let mac = machine.spec().nics.first().context("no card")?.mac.clone();
    machine.spec_mut().disks = disks.to_vec();
    machine.power_cycle()?;
    let run = wait_until_failed(appliance, &mac, count)?;
    let message = text(&run, "/failure/message")?;
    ensure!(message.contains(because), "it was refused for another reason: {message}");
    for disk in disks {
        ensure!(message.contains(&disk.serial), "{} is not named: {message}", disk.serial);
        let content = fs::read(&disk.file).context("reading a disk")?;
        ensure!(content.iter().all(|&byte| byte == OLD), "{} was written to", disk.serial);
    }
    // The record holds both logs, so that nobody has to stand before the machine.
    let logs = [text(&run, "/failure/agent_log")?, text(&run, "/failure/kernel_log")?];
    ensure!(logs[0].contains("failed: "), "the agent's log says nothing of it: {}", logs[0]);
    ensure!(logs[1].contains("Linux version"), "no kernel's log: {}", logs[1]);
    // It says so itself, and stays where a person can see it.
    machine.wait_for("waiting: ", STEP)?;
    ensure!(!machine.console().has(LOGIN_PROMPT)?, "it booted something");
    // The wish as it is would be refused again; a person lets the machine try.
    appliance.btyctl(&["machine", "set", &mac, "--rearm"])?;
    Ok(())
}

#[test]
fn absent_swapped_too_small_or_with_other_sectors() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        import_debian(appliance, "v1")?;
        let size = usize::try_from(fs::metadata(osimage::debian("v1")?)?.len())?;
        let mut machine = appliance.add_machine("m1", Firmware::Bios, Vec::new())?;
        let mac = machine.spec().nics.first().context("no card")?.mac.clone();
        let wish = ["--image", "debian:v1", "--disk", "serial:GOOD", "--policy", "flash-once"];
        appliance.btyctl(&[&["machine", "set", &mac], &wish[..]].concat())?;

        is_refused(appliance, &mut machine, &[], 1, "GOOD")?;
        let swapped =
            vec![old_disk(appliance, "OTHER-1", size)?, old_disk(appliance, "OTHER-2", size)?];
        is_refused(appliance, &mut machine, &swapped, 2, "GOOD")?;
        let small = [old_disk(appliance, "GOOD", size - (1 << 20))?];
        is_refused(appliance, &mut machine, &small, 3, "too small")?;
        let sectors = [old_disk(appliance, "GOOD", size)?.with_sectors_of(4096)];
        is_refused(appliance, &mut machine, &sectors, 4, "4096")?;
        machine.power_off()
    })
}
