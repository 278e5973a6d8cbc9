//! Somebody sets the server's clock while machines boot and are flashed: tokens, leases and what counts as silence go on as before.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Clock, Firmware,
    appliance::{Appliance, ApplianceSpec, DhcpMode},
    daemon, osimage, wait,
};
use bty_tests::{STEP, assigned_machine, ensure_runs, live, wait_until_flashed, with_logs};

/// What GRUB's rescue disk prints when it starts.
const GRUB: &str = "GRUB loading";
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

#[test]
fn the_servers_clock_may_jump_by_a_day_forward_and_back() -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let clock = Clock::new(folder.path())?;
    let mut spec = ApplianceSpec::new(daemon::binaries()?, live()?, DhcpMode::Full);
    spec.environment = clock.environment();
    with_logs(Appliance::start(spec)?, |appliance| {
        let id = appliance.import(&osimage::grub_rescue()?, "small")?;
        let disk = appliance.new_disk("DISK0001", 64 << 20)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::Bios, disk, "small", "flash-always")?;
        for (runs, stages) in [
            // Between the boot script and the check-in, in the flash, and before the end is told.
            (1, [("starting the live system", DAY), ("writing small", 0), ("the disk holds", DAY)]),
            (
                2,
                [("starting the live system", 0), ("writing small", DAY), ("the disk holds", -DAY)],
            ),
        ] {
            machine.power_cycle()?;
            for (stage, seconds) in stages {
                machine.wait_for(stage, STEP)?;
                set(appliance, &clock, seconds)?;
            }
            wait_until_flashed(appliance, &mac, runs, &id)?;
            // Flashed once, and the disk has its turn.
            machine.wait_for(GRUB, STEP)?;
            ensure_runs(appliance, &mac, runs)?;
        }
        let events = appliance.btyctl(&["event", "list"])?.to_string();
        for wrong in ["run.lost", "machine.held", "boot.way"] {
            ensure!(!events.contains(wrong), "{wrong}: {events}");
        }
        Ok(())
    })
}
