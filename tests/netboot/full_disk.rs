//! The disk that holds the record is full while a machine boots: it gets no half of an answer, and goes on when there is room.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Firmware,
    appliance::{Appliance, ApplianceSpec, DhcpMode},
    daemon,
    osimage::{self, GRUB_BANNER},
    wait,
};
use bty_tests::{STEP, assigned_machine, ensure_runs, live, wait_until_flashed, with_logs};

const STATE_BYTES: u64 = 96 << 20;

#[test]
fn a_machine_waits_while_the_record_has_no_room() -> Result<()> {
    let mut spec = ApplianceSpec::new(daemon::binaries()?, live()?, DhcpMode::Proxy);
    spec.state_bytes = Some(STATE_BYTES);
    with_logs(Appliance::start(spec)?, |appliance| {
        let id = appliance.import(&osimage::grub_rescue()?, "small")?;
        let disk = appliance.new_disk("DISK0001", 64 << 20)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::Bios, disk, "small", "flash-once")?;
        machine.power_on()?;
        machine.wait_for("live system, kernel", STEP)?;
        appliance.state_disk().context("no disk of its own")?.fill()?;
        machine.wait_for("checking in: .*disk.* is full.*; trying again", STEP)?;
        ensure_runs(appliance, &mac, 0)?;
        appliance.state_disk().context("no disk of its own")?.make_room()?;
        wait_until_flashed(appliance, &mac, 1, &id)?;
        machine.wait_for(GRUB_BANNER, STEP)?;
        ensure_runs(appliance, &mac, 1)?;
        // What was seen while nothing could be written was kept by those who saw it.
        wait::until_true("the contacts to be told", Duration::from_secs(30), || {
            let events = appliance.btyctl(&["event", "list"])?.to_string();
            Ok(["boot.kernel", "boot.script", "run.succeeded"]
                .iter()
                .all(|kind| events.contains(kind)))
        })?;
        ensure!(appliance.daemon("bty-registry")?.log()?.contains("full"), "nobody was told");
        Ok(())
    })
}
