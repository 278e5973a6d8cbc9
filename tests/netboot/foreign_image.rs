//! Images that aren't Linux: bty writes disks, and knows nothing of what is on them.

use std::{fs::File, io::Read, path::Path};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Firmware,
    appliance::DhcpMode,
    osimage::{self, shows_memtest},
    wait,
};
use bty_tests::{STEP, appliance, assigned_machine, ensure_runs, wait_until_flashed, with_logs};

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
            ensure_same(&image, &file)?;
        }
        ensure_runs(appliance, &mac, 1)
    })
}

/// An error unless the disk is the image and zeros after it.
fn ensure_same(image: &Path, disk: &Path) -> Result<()> {
    let mut wanted = std::fs::read(image).context("reading the image")?;
    let mut found = Vec::new();
    File::open(disk)
        .and_then(|mut disk| disk.read_to_end(&mut found))
        .context("reading the disk")?;
    wanted.resize(found.len(), 0);
    ensure!(wanted == found, "the disk's bytes are not the image's");
    Ok(())
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
