//! The ways in which an x86 machine comes to bty: three kinds of firmware, beside a foreign DHCP server and without one.

use anyhow::{Result, ensure};
use bty_testkit::{
    Firmware,
    appliance::{DhcpMode, wait_for_login},
    osimage::debian_banner,
};
use bty_tests::{
    CYCLE, DISK_BYTES, appliance, assigned_machine, ensure_runs, import_debian, wait_until_flashed,
    with_logs,
};

/// What a machine's first packet says that it is (RFC 4578 2.1, and 60 of HTTP Boot: UEFI 2.10 24.7.3.1).
pub(super) fn vendor_class(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "PXEClient:Arch:00000",
        Firmware::UefiPxe => "PXEClient:Arch:00007",
        Firmware::UefiHttp => "HTTPClient:Arch:00016",
        Firmware::Arm64Pxe => "PXEClient:Arch:00011",
        Firmware::Arm64Http => "HTTPClient:Arch:00019",
    }
}

/// Empty disk, flashed, login; on again, left alone, login.
fn is_flashed_once_and_then_left_alone(firmware: Firmware, dhcp: DhcpMode) -> Result<()> {
    with_logs(appliance(dhcp)?, |appliance| {
        let id = import_debian(appliance, "v1")?;
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", firmware, disk, "debian:v1", "flash-once")?;

        machine.power_on()?;
        wait_until_flashed(appliance, &mac, 1, &id)?;
        wait_for_login(&mut machine, CYCLE)?;
        ensure!(machine.console().has(&debian_banner("v1"))?, "another system's login");
        // Said where they could not be loaded; this machine could do without.
        ensure!(!machine.console().has("loading drivers")?, "not all drivers were loaded");
        let log = appliance.btyctl(&["dhcp", "log", "--mac", &mac])?.to_string();
        ensure!(log.contains(vendor_class(firmware)), "it came another way: {log}");

        machine.power_cycle()?;
        wait_for_login(&mut machine, CYCLE)?;
        ensure_runs(appliance, &mac, 1)
    })
}

#[test]
fn bios_pxe_beside_a_foreign_dhcp_server() -> Result<()> {
    is_flashed_once_and_then_left_alone(Firmware::Bios, DhcpMode::Proxy)
}

#[test]
fn bios_pxe_with_bty_as_the_dhcp_server() -> Result<()> {
    is_flashed_once_and_then_left_alone(Firmware::Bios, DhcpMode::Full)
}

#[test]
fn uefi_pxe_beside_a_foreign_dhcp_server() -> Result<()> {
    is_flashed_once_and_then_left_alone(Firmware::UefiPxe, DhcpMode::Proxy)
}

#[test]
fn uefi_pxe_with_bty_as_the_dhcp_server() -> Result<()> {
    is_flashed_once_and_then_left_alone(Firmware::UefiPxe, DhcpMode::Full)
}

#[test]
fn uefi_http_boot_beside_a_foreign_dhcp_server() -> Result<()> {
    is_flashed_once_and_then_left_alone(Firmware::UefiHttp, DhcpMode::Proxy)
}

#[test]
fn uefi_http_boot_with_bty_as_the_dhcp_server() -> Result<()> {
    is_flashed_once_and_then_left_alone(Firmware::UefiHttp, DhcpMode::Full)
}
