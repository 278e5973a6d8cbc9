//! What a machine must have: 512 MiB of memory are enough for an image of 4 GiB.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use bty_testkit::{
    Firmware,
    appliance::{DhcpMode, wait_for_login},
    osimage,
};
use bty_tests::{CYCLE, appliance, assigned_machine, wait_until_flashed, with_logs};

const MIB: u64 = 1 << 20;
const IMAGE_BYTES: u64 = 4 << 30;
/// One in so many MiB of the image is data that no compression makes smaller, and more than all the machine's memory.
#[cfg(feature = "full")]
const DATA_EVERY: u64 = 4;
#[cfg(not(feature = "full"))]
const DATA_EVERY: u64 = 16;

/// Debian, and behind it data up to 4 GiB.
fn large_image(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("large.raw");
    let debian = osimage::debian("v1")?;
    osimage::copy_sparse(&debian, &path)?;
    let image = File::options().write(true).open(&path).context("opening the large image")?;
    let used = fs::metadata(&debian)?.len();
    image.set_len(IMAGE_BYTES).context("making the image larger")?;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut data = vec![0; usize::try_from(MIB)?];
    for at in (used.next_multiple_of(MIB)..IMAGE_BYTES).step_by(usize::try_from(DATA_EVERY * MIB)?)
    {
        for word in data.chunks_exact_mut(8) {
            // xorshift64: as good as random to a compressor.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        image.write_all_at(&data, at).context("filling the large image")?;
    }
    Ok(path)
}

#[test]
fn a_machine_with_512_mib_flashes_an_image_of_4_gib() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let image = large_image(appliance.folder())?;
        let id = appliance.import(&image, "large")?;
        fs::remove_file(image).context("removing the large image")?;
        let disk = appliance.new_disk("DISK0001", IMAGE_BYTES)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::Bios, disk, "large", "flash-once")?;
        machine.spec_mut().memory_mib = 512;
        machine.power_on()?;
        appliance.wait_for_run(&mac, 1, "RUN_STATE_SUCCEEDED", 2 * CYCLE)?;
        wait_until_flashed(appliance, &mac, 1, &id)?;
        wait_for_login(&mut machine, CYCLE).map(drop)
    })
}
