//! Machines with 64-bit ARM processors: their own iPXE, kernel and agent; the disk is flashed, boots, and is left alone.

use anyhow::{Result, ensure};
use bty_testkit::{
    DiskBus, Firmware,
    appliance::DhcpMode,
    osimage::{self, IPXE_ARM64_BANNER},
};
use bty_tests::{
    STEP, appliance, assigned_machine, ensure_runs, live, wait_until_flashed, with_logs,
};

use super::ways::vendor_class;

/// Empty disk, flashed, the disk's program; on again, left alone, the disk's program.
fn is_flashed_once_and_then_left_alone(firmware: Firmware, dhcp: DhcpMode) -> Result<()> {
    let is_built = live()?.join("arm64/initramfs.img").exists();
    ensure!(is_built, "there is no live system for arm64; make it with: cargo xtask live");
    with_logs(appliance(dhcp)?, |appliance| {
        let ipxe = live()?.join("boot/arm64/snponly.efi");
        let image = osimage::ipxe_arm64(&ipxe, appliance.folder())?;
        let id = appliance.import(&image, "arm64")?;
        let disk = appliance.new_disk("DISK0001", 64 << 20)?.on(DiskBus::Nvme);
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", firmware, disk, "arm64", "flash-once")?;

        machine.power_on()?;
        wait_until_flashed(appliance, &mac, 1, &id)?;
        machine.wait_for(IPXE_ARM64_BANNER, STEP)?;
        // Said where they could not be loaded; this machine could do without.
        ensure!(!machine.console().has("loading drivers")?, "not all drivers were loaded");
        let log = appliance.btyctl(&["dhcp", "log", "--mac", &mac])?.to_string();
        ensure!(log.contains(vendor_class(firmware)), "it came another way: {log}");

        machine.power_cycle()?;
        machine.wait_for(IPXE_ARM64_BANNER, STEP)?;
        ensure_runs(appliance, &mac, 1)
    })
}

#[test]
fn arm64_pxe_beside_a_foreign_dhcp_server() -> Result<()> {
    is_flashed_once_and_then_left_alone(Firmware::Arm64Pxe, DhcpMode::Proxy)
}

#[cfg(feature = "full")]
#[test]
fn arm64_http_boot_with_bty_as_the_dhcp_server() -> Result<()> {
    is_flashed_once_and_then_left_alone(Firmware::Arm64Http, DhcpMode::Full)
}
