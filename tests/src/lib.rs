//! What the black-box tests share: the appliance of this build, its images, and what is expected of a machine's runs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Disk, Firmware, Machine,
    appliance::{Appliance, ApplianceSpec, DhcpMode, text},
    daemon,
    osimage::{self, Packing},
};
use serde_json::Value;

/// The longest that a power-on may take to its end, with two machines emulated at a time on two busy cores.
pub const CYCLE: Duration = Duration::from_mins(8);
/// The longest that anything short of that may take.
pub const STEP: Duration = Duration::from_mins(4);
/// Disks of machines that get the Debian image, in bytes.
pub const DISK_BYTES: u64 = 4 << 30;

/// Where the live system is that `cargo xtask test` has built.
pub fn live() -> Result<PathBuf> {
    let named = env::var_os("BTY_LIVE");
    named.map(PathBuf::from).context("BTY_LIVE is not set: run these tests by cargo xtask test")
}

/// An appliance of the programs and the live system that `cargo xtask test` has built.
pub fn appliance(dhcp: DhcpMode) -> Result<Appliance> {
    appliance_with(dhcp, live()?)
}

/// As [`appliance`], with another live system.
pub fn appliance_with(dhcp: DhcpMode, live: PathBuf) -> Result<Appliance> {
    let binaries = daemon::binaries()?;
    Appliance::start(ApplianceSpec::new(binaries, live, dhcp))
}

/// Imports the Debian of this variant as `debian:VARIANT` and gives its id.
pub fn import_debian(appliance: &Appliance, variant: &str) -> Result<String> {
    let packed = osimage::packed(&osimage::debian(variant)?, Packing::Zstd)?;
    appliance.import(&packed, &format!("debian:{variant}"))
}

/// A machine that is switched off, has an empty disk, and is to get `image` on it.
pub fn assigned_machine(
    appliance: &mut Appliance,
    name: &str,
    firmware: Firmware,
    disk: Disk,
    image: &str,
    policy: &str,
) -> Result<(Machine, String)> {
    let serial = format!("serial:{}", disk.serial);
    let machine = appliance.add_machine(name, firmware, vec![disk])?;
    let mac = machine.spec().nics.first().context("the machine has no card")?.mac.clone();
    let set = ["machine", "set", &mac, "--name", name, "--image", image, "--disk", &serial];
    appliance.btyctl(&[&set[..], &["--policy", policy]].concat())?;
    Ok((machine, mac))
}

/// Waits for the success of the machine's run number `count`, which must have proved the disk to be the image `id`.
pub fn wait_until_flashed(
    appliance: &Appliance,
    mac: &str,
    count: usize,
    id: &str,
) -> Result<Value> {
    let run = appliance.wait_for_run(mac, count, "RUN_STATE_SUCCEEDED", STEP)?;
    let proved = text(&run, "/record/proved_id")?;
    ensure!(proved == id, "the disk was proved to be {proved}, not {id}");
    Ok(run)
}

/// Waits for the failure of the machine's run number `count`, and gives it whole.
pub fn wait_until_failed(appliance: &Appliance, mac: &str, count: usize) -> Result<Value> {
    appliance.wait_for_run(mac, count, "RUN_STATE_FAILED", STEP)
}

/// An error unless the machine has had exactly so many runs.
pub fn ensure_runs(appliance: &Appliance, mac: &str, count: usize) -> Result<()> {
    let runs = appliance.runs(mac)?;
    ensure!(runs.len() == count, "{} runs where {count} should be: {runs:#?}", runs.len());
    Ok(())
}

/// An error unless the disk is the image and zeros after it.
pub fn ensure_holds(disk: &Path, image: &Path) -> Result<()> {
    let mut wanted = fs::read(image).with_context(|| format!("reading {}", image.display()))?;
    let found = fs::read(disk).with_context(|| format!("reading {}", disk.display()))?;
    wanted.resize(found.len(), 0);
    ensure!(wanted == found, "the disk's bytes are not the image's");
    Ok(())
}

/// Runs a test on an appliance; where it fails, its error comes with everything that the daemons said.
pub fn with_logs(
    mut appliance: Appliance,
    test: impl FnOnce(&mut Appliance) -> Result<()>,
) -> Result<()> {
    test(&mut appliance).map_err(|error| {
        let logs = appliance.logs();
        error.context(logs)
    })
}

/// GRUB's rescue disk, and behind it so much that no compression makes smaller that writing it takes seconds; written to `folder`.
pub fn slow_image(folder: &Path) -> Result<PathBuf> {
    let mut image = fs::read(osimage::grub_rescue()?).context("reading GRUB's rescue disk")?;
    image.extend(content(48 << 20));
    let path = folder.join("slow.raw");
    fs::write(&path, image).context("writing the image")?;
    Ok(path)
}

/// Bytes of which no two blocks are alike.
pub fn content(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
