//! The machine itself dies, at every stage: its disk holds what was there before, or all of the image, or nothing that boots.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Firmware, Machine,
    appliance::{Appliance, DhcpMode, text},
    osimage::{self, GRUB_BANNER},
};
use bty_tests::{
    CYCLE, STEP, appliance, assigned_machine, ensure_holds, ensure_runs, slow_image,
    wait_until_flashed, with_logs,
};

const DISK_BYTES: u64 = 64 << 20;
/// Room for a GPT with sectors of 512 bytes, at either end.
const TABLE_BYTES: usize = 34 * 512;

/// A disk that something else is on, which boots.
struct Target {
    file: PathBuf,
    before: Vec<u8>,
    image: PathBuf,
}

impl Target {
    fn fill(&self) -> Result<()> {
        fs::write(&self.file, &self.before).context("putting something on the disk")
    }

    /// An error where the disk may boot what is neither the old nor the new.
    fn ensure_whole_or_blank(&self) -> Result<()> {
        let disk = File::open(&self.file).context("opening the disk")?;
        let mut ends = [vec![0; TABLE_BYTES], vec![0; TABLE_BYTES]];
        for (bytes, at) in ends.iter_mut().zip([0, DISK_BYTES - TABLE_BYTES as u64]) {
            disk.read_exact_at(bytes, at).context("reading the disk")?;
        }
        if ends.iter().flatten().all(|&byte| byte == 0) {
            return Ok(());
        }
        let is_old = fs::read(&self.file).context("reading the disk")? == self.before;
        ensure!(
            is_old || ensure_holds(&self.file, &self.image).is_ok(),
            "the disk may boot, and holds neither the old nor the new"
        );
        Ok(())
    }
}

/// A machine whose disk has memtest86+ on it and that is to get the slow image.
fn machine_with_something_on_its_disk(
    appliance: &mut Appliance,
) -> Result<(Machine, String, String, Target)> {
    let image = slow_image(appliance.folder())?;
    let id = appliance.import(&image, "slow")?;
    let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
    let mut before = fs::read(osimage::memtest()?).context("reading memtest86+")?;
    before.resize(usize::try_from(DISK_BYTES)?, 0);
    let target = Target { file: disk.file.clone(), before, image };
    target.fill()?;
    let (machine, mac) =
        assigned_machine(appliance, "m1", Firmware::Bios, disk, "slow", "flash-once")?;
    Ok((machine, mac, id, target))
}

/// Kills the machine once at each of these stages; switched on again after the last, it is flashed.
fn is_flashed_after_it_was_killed_at(stages: &[&str]) -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let (mut machine, mac, id, target) = machine_with_something_on_its_disk(appliance)?;
        for stage in stages {
            machine.power_on()?;
            machine.wait_for(stage, STEP)?;
            machine.kill()?;
            target.ensure_whole_or_blank().with_context(|| format!("killed at {stage:?}"))?;
        }
        machine.power_on()?;
        machine.wait_for(GRUB_BANNER, CYCLE)?;
        let runs = appliance.runs(&mac)?;
        wait_until_flashed(appliance, &mac, runs.len(), &id)?;
        ensure_holds(&target.file, &target.image)?;
        // Every run that was begun has an end on record.
        for run in runs.iter().skip(1) {
            ensure!(text(run, "/state")? == "RUN_STATE_LOST", "{run:#}");
            ensure!(text(run, "/failure/reason")? == "RESTARTED", "{run:#}");
        }
        machine.power_cycle()?;
        machine.wait_for(GRUB_BANNER, CYCLE)?;
        ensure_runs(appliance, &mac, runs.len())
    })
}

// A machine that was told to work three times and never came to its end waits; so no test kills it more than twice after that.
#[test]
fn killed_in_its_firmware_and_while_it_writes() -> Result<()> {
    is_flashed_after_it_was_killed_at(&[
        "iPXE",
        "starting the live system",
        "writing +[3-6][0-9] %",
    ])
}

#[cfg(feature = "full")]
#[test]
fn killed_in_the_live_system_and_while_it_proves() -> Result<()> {
    is_flashed_after_it_was_killed_at(&["Configuring", "live system, kernel", "reading back"])
}

#[cfg(feature = "full")]
#[test]
fn killed_just_before_and_just_after_its_agent_has_checked_in() -> Result<()> {
    is_flashed_after_it_was_killed_at(&["has the address", "writing slow"])
}

#[test]
fn killed_again_and_again_it_waits_and_says_why() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let (mut machine, mac, _, target) = machine_with_something_on_its_disk(appliance)?;
        for _ in 0..3 {
            machine.power_on()?;
            machine.wait_for("writing +[1-9][0-9] %", STEP)?;
            machine.kill()?;
            target.ensure_whole_or_blank()?;
        }
        machine.power_on()?;
        machine.wait_for("wait(s|ing): failed 3 times", STEP)?;
        ensure_runs(appliance, &mac, 3)?;
        let explained = appliance.btyctl(&["machine", "explain", &mac])?.to_string();
        ensure!(explained.contains("failed 3 times"), "{explained}");
        // A person who has looked lets it try again, and it need not even be switched off.
        appliance.btyctl(&["machine", "set", &mac, "--rearm"])?;
        machine.wait_for(GRUB_BANNER, CYCLE)?;
        ensure_holds(&target.file, &target.image)
    })
}
