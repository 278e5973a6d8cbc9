//! The registry is away for a while: machines boot by what the others know, agents wait, and what was seen meanwhile is told later.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Firmware, Machine,
    appliance::{Appliance, DhcpMode, text},
    osimage::{self, GRUB_BANNER},
};
use bty_tests::{STEP, appliance, assigned_machine, ensure_runs, wait_until_flashed, with_logs};
use serde_json::Value;

/// How long it is away: the agent tries again and again.
#[cfg(feature = "full")]
const AWAY: Duration = Duration::from_mins(4);
#[cfg(not(feature = "full"))]
const AWAY: Duration = Duration::from_secs(45);

fn small_machine(appliance: &mut Appliance, name: &str) -> Result<(Machine, String)> {
    let disk = appliance.new_disk(&format!("DISK-{name}"), 64 << 20)?;
    assigned_machine(appliance, name, Firmware::Bios, disk, "small", "flash-once")
}

/// The kinds of the events of a machine after `since`, oldest first, and the time of the newest.
fn events(appliance: &Appliance, mac: &str, since: &str) -> Result<(Vec<String>, String)> {
    let listed = appliance.btyctl(&["event", "list", "--machine", mac])?;
    let all = listed.pointer("/events").and_then(Value::as_array).context("no events")?;
    let mut found = Vec::new();
    for event in all {
        found.push((text(event, "/at")?, text(event, "/kind")?));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let newest = found.last().map(|(at, _)| at.clone()).unwrap_or_default();
    found.retain(|(at, _)| at.as_str() > since);
    Ok((found.into_iter().map(|(_, kind)| kind).collect(), newest))
}

#[test]
fn machines_boot_and_wait_while_the_registry_is_away() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let id = appliance.import(&osimage::grub_rescue()?, "small")?;
        let (mut flashed, flashed_mac) = small_machine(appliance, "flashed")?;
        let (mut fresh, fresh_mac) = small_machine(appliance, "fresh")?;
        flashed.power_on()?;
        wait_until_flashed(appliance, &flashed_mac, 1, &id)?;
        flashed.wait_for(GRUB_BANNER, STEP)?;
        let (_, newest) = events(appliance, &flashed_mac, "")?;

        appliance.stop_daemon("bty-registry")?;
        flashed.power_cycle()?;
        fresh.power_on()?;
        flashed.wait_for(GRUB_BANNER, STEP)?;
        fresh.wait_for("checking in: .*; trying again", STEP)?;
        thread::sleep(AWAY);
        appliance.start_daemon("bty-registry")?;

        wait_until_flashed(appliance, &fresh_mac, 1, &id)?;
        fresh.wait_for(GRUB_BANNER, STEP)?;
        ensure_runs(appliance, &fresh_mac, 1)?;
        ensure_runs(appliance, &flashed_mac, 1)?;
        let (kinds, _) = events(appliance, &flashed_mac, &newest)?;
        ensure!(kinds.iter().any(|kind| kind == "boot.local"), "its boot was not told: {kinds:?}");
        let (kinds, _) = events(appliance, &fresh_mac, "")?;
        for wanted in
            ["boot.ipxe", "boot.script", "boot.kernel", "agent.checked-in", "run.succeeded"]
        {
            ensure!(kinds.iter().any(|kind| kind == wanted), "{wanted} was not told: {kinds:?}");
        }
        Ok(())
    })
}
