//! Images that aren't Linux: bty writes disks, and knows nothing of what is on them.

use anyhow::Result;
use bty_testkit::{
    Firmware,
    appliance::DhcpMode,
    osimage::{self, shows_memtest},
    wait,
};
use bty_tests::{
    STEP, appliance, assigned_machine, ensure_holds, ensure_runs, wait_until_flashed, with_logs,
};

/// Flashes memtest86+ and waits until its screen shows, twice.
fn memtest_is_flashed_and_starts(firmware: Firmware, dhcp: DhcpMode) -> Result<()> {
    with_logs(appliance(dhcp)?, |appliance| {
        let image = osimage::memtest()?;
        let id = appliance.import(&image, "memtest")?;
        let disk = appliance.new_disk("DISK0001", 64 << 20)?;
        let file = disk.file.clone();
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", firmware, disk, "memtest", "flash-once")?;
        machine.spec_mut().has_screen = true;
        for _ in 0..2 {
            machine.power_cycle()?;
            wait_until_flashed(appliance, &mac, 1, &id)?;
            wait::until_true("memtest86+ on the screen", STEP, || {
                Ok(shows_memtest(&machine.screenshot()?))
            })?;
            // It writes nothing, so every byte must be the image's, and the rest of the disk empty.
            ensure_holds(&file, &image)?;
        }
        ensure_runs(appliance, &mac, 1)
    })
}

#[test]
fn memtest_on_uefi() -> Result<()> {
    memtest_is_flashed_and_starts(Firmware::UefiHttp, DhcpMode::Full)
}

#[cfg(feature = "full")]
#[test]
fn memtest_on_bios() -> Result<()> {
    memtest_is_flashed_and_starts(Firmware::Bios, DhcpMode::Proxy)
}
