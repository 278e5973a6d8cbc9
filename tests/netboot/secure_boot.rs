//! Machines that run only what is signed: Debian's shim and GRUB bring them to the live system, and a signed image boots.

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Firmware,
    appliance::{Appliance, DhcpMode, wait_for_login},
    osimage::{self, Packing, debian_banner},
    wait,
};
use bty_tests::{
    CYCLE, DISK_BYTES, STEP, appliance, assigned_machine, ensure_runs, wait_until_flashed,
    with_logs,
};

fn import_signed(appliance: &Appliance) -> Result<String> {
    let packed = osimage::packed(&osimage::debian_signed("v1")?, Packing::Zstd)?;
    appliance.import(&packed, "debian:signed")
}

/// Empty disk, flashed, login; on again, sent to its disk by GRUB, login.
fn is_flashed_and_boots_under_secure_boot(firmware: Firmware, dhcp: DhcpMode) -> Result<()> {
    with_logs(appliance(dhcp)?, |appliance| {
        let id = import_signed(appliance)?;
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", firmware, disk, "debian:signed", "flash-once")?;
        machine.spec_mut().has_secure_boot = true;
        appliance.btyctl(&["machine", "set", &mac, "--chain", "shim"])?;

        machine.power_on()?;
        wait_until_flashed(appliance, &mac, 1, &id)?;
        wait_for_login(&mut machine, CYCLE)?;
        ensure!(machine.console().has(&debian_banner("v1"))?, "another system's login");

        machine.power_cycle()?;
        wait_for_login(&mut machine, CYCLE)?;
        ensure_runs(appliance, &mac, 1)
    })
}

#[test]
fn pxe_beside_a_foreign_dhcp_server_with_secure_boot() -> Result<()> {
    is_flashed_and_boots_under_secure_boot(Firmware::UefiPxe, DhcpMode::Proxy)
}

#[test]
fn http_boot_beside_a_foreign_dhcp_server_with_secure_boot() -> Result<()> {
    is_flashed_and_boots_under_secure_boot(Firmware::UefiHttp, DhcpMode::Proxy)
}

#[cfg(feature = "full")]
#[test]
fn pxe_with_bty_as_the_dhcp_server_and_secure_boot() -> Result<()> {
    is_flashed_and_boots_under_secure_boot(Firmware::UefiPxe, DhcpMode::Full)
}

#[test]
fn firmware_that_refuses_the_unsigned_program_is_named_with_the_cure() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
        let mut machine = appliance.add_machine("m1", Firmware::UefiPxe, vec![disk])?;
        machine.spec_mut().has_secure_boot = true;
        machine.power_on()?;
        let advice = wait::until("an event that names Secure Boot", STEP, || {
            let events = appliance.btyctl(&["event", "list"])?;
            let events = events.pointer("/events").and_then(|events| events.as_array()).cloned();
            let refused = events.unwrap_or_default().into_iter().find(|event| {
                event.pointer("/kind").and_then(|kind| kind.as_str()) == Some("boot.refused")
            });
            Ok(refused.map(|event| event.to_string()))
        })?;
        ensure!(advice.contains("--chain shim"), "no cure in {advice}");
        machine.power_off().context("switching it off")
    })
}
