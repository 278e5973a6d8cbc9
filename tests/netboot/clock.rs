//! Somebody sets the server's clock while machines boot and are flashed: tokens, leases and what counts as silence go on as before.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Clock, Firmware,
    appliance::{Appliance, ApplianceSpec, DhcpMode, text},
    daemon,
    osimage::GRUB_BANNER,
    wait,
};
use bty_tests::{
    STEP, assigned_machine, ensure_runs, live, slow_image, wait_until_flashed, with_logs,
};

/// A day and a bit: more than a session lasts.
const DAY: i64 = 25 * 3600;

/// How often the registry has noticed that the clock was set.
fn noticed(appliance: &mut Appliance) -> Result<usize> {
    let log = appliance.daemon("bty-registry")?.log()?;
    Ok(log.matches("the clock of this machine was set").count())
}

/// Sets the clock and waits until the registry has judged by it what is silent.
fn set(appliance: &mut Appliance, clock: &Clock, seconds: i64) -> Result<()> {
    let before = noticed(appliance)?;
    clock.set(seconds)?;
    wait::until_true("the registry to notice the clock", Duration::from_secs(30), || {
        Ok(noticed(appliance)? > before)
    })
}

/// Between the boot script and the check-in; in the flash, at its beginning; and later, before its end is told. A disk that holds the image
/// already is looked at in a second or two, so that not every tenth of it is seen.
const STAGES: [&str; 3] = ["starting the live system", "writing slow", "writing +[1-9][0-9] %"];

#[test]
fn the_servers_clock_may_jump_by_a_day_forward_and_back() -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let clock = Clock::new(folder.path())?;
    let mut spec = ApplianceSpec::new(daemon::binaries()?, live()?, DhcpMode::Full);
    spec.environment = clock.environment();
    with_logs(Appliance::start(spec)?, |appliance| {
        let image = slow_image(appliance.folder())?;
        let id = appliance.import(&image, "slow")?;
        let disk = appliance.new_disk("DISK0001", 64 << 20)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::Bios, disk, "slow", "flash-always")?;
        for (runs, clocks) in [(1, [DAY, 0, DAY]), (2, [0, DAY, -DAY])] {
            machine.power_cycle()?;
            for (stage, seconds) in STAGES.into_iter().zip(clocks) {
                machine.wait_for(stage, STEP)?;
                // It waits where it is until the clock is noticed.
                machine.set_paused(true)?;
                if stage != STAGES[0] {
                    let all = appliance.runs(&mac)?;
                    let latest = all.first().context("no run has begun")?;
                    let state = text(latest, "/state")?;
                    ensure!(state == "RUN_STATE_RUNNING", "at {stage:?} it is {state}");
                }
                set(appliance, &clock, seconds)?;
                machine.set_paused(false)?;
            }
            wait_until_flashed(appliance, &mac, runs, &id)?;
            // Flashed once, and the disk has its turn.
            machine.wait_for(GRUB_BANNER, STEP)?;
            ensure_runs(appliance, &mac, runs)?;
        }
        let events = appliance.btyctl(&["event", "list"])?.to_string();
        for wrong in ["run.lost", "machine.held", "boot.way"] {
            ensure!(!events.contains(wrong), "{wrong}: {events}");
        }
        Ok(())
    })
}
