//! Machines start the lab's images through real firmware, and keep what a real one keeps.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use bty_testkit::{
    Disk, DiskBus, Firmware, Machine, MachineSpec,
    osimage::{self, GRUB_BANNER, LOGIN_PROMPT, Packing},
    packages, wait,
};

/// From power-on to a login takes 20 s of an emulated processor; the cores may be shared.
const BOOT_TIMEOUT: Duration = Duration::from_mins(3);

/// For what takes a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine with a copy of `image` as its only disk.
fn machine_with(image: &Path, firmware: Firmware, bus: DiskBus, folder: &Path) -> Result<Machine> {
    packages::ensure(packages::LAB)?;
    let file = folder.join("disk.raw");
    osimage::copy_sparse(image, &file)?;
    let spec = MachineSpec::new("test", firmware)
        .with_disk(Disk::new(file, "BTY-TEST").on(bus))
        .with_screen();
    Machine::new(spec, folder, None)
}

fn boots_to_its_login(firmware: Firmware, bus: DiskBus, variant: &str) -> Result<()> {
    let image = osimage::debian(variant)?;
    let folder = tempfile::tempdir()?;
    let mut machine = machine_with(&image, firmware, bus, folder.path())?;
    machine.power_on()?;
    machine.wait_for(LOGIN_PROMPT, BOOT_TIMEOUT)?;
    let seconds = machine.uptime().unwrap_or_default().as_secs_f64();
    eprintln!("{firmware:?} {bus:?}: login after {seconds:.1} s");
    assert!(machine.console().has(&osimage::debian_banner(variant))?);

    // What it is, as it says itself.
    machine.type_text("root\n")?;
    machine.wait_for("# $", PATIENCE)?;
    machine.type_text("echo \"units: $(systemctl is-system-running)\"; cat /etc/bty-lab\n")?;
    machine.wait_for("units: running", PATIENCE)?;
    machine.wait_for(&format!("\n{variant}\n"), PATIENCE)?;
    machine.power_off()
}

#[test]
fn debian_boots_to_its_login_on_bios_and_virtio() -> Result<()> {
    boots_to_its_login(Firmware::Bios, DiskBus::Virtio, "v1")
}

#[test]
fn debian_boots_to_its_login_on_uefi_and_nvme() -> Result<()> {
    boots_to_its_login(Firmware::UefiPxe, DiskBus::Nvme, "v2")
}

#[test]
fn debian_boots_to_its_login_on_bios_and_ahci() -> Result<()> {
    boots_to_its_login(Firmware::Bios, DiskBus::Ahci, "v1")
}

#[test]
fn debian_boots_to_its_login_on_uefi_and_scsi() -> Result<()> {
    boots_to_its_login(Firmware::UefiPxe, DiskBus::Scsi, "v2")
}

#[test]
fn the_variants_are_images_of_their_own() -> Result<()> {
    let (one, two) = (osimage::debian("v1")?, osimage::debian("v2")?);
    assert_ne!(fs::read(&one)?, fs::read(&two)?);
    assert_eq!(fs::metadata(&one)?.len(), fs::metadata(&two)?.len());
    assert!(osimage::debian("../v1").is_err());
    Ok(())
}

#[test]
fn grub_rescue_starts_from_a_disk_and_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = osimage::grub_rescue()?;
    let mut machine = machine_with(&image, Firmware::Bios, DiskBus::Virtio, folder.path())?;
    machine.power_on()?;
    machine.wait_for(GRUB_BANNER, BOOT_TIMEOUT)?;

    machine.power_cycle()?;
    machine.wait_for(GRUB_BANNER, BOOT_TIMEOUT)?;
    assert_eq!(machine.power_cycles(), 2);
    Ok(())
}

fn shows_memtest(firmware: Firmware) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = osimage::memtest()?;
    let mut machine = machine_with(&image, firmware, DiskBus::Virtio, folder.path())?;
    machine.power_on()?;
    wait::until_true("memtest86+'s screen", BOOT_TIMEOUT, || {
        Ok(osimage::shows_memtest(&machine.screenshot()?))
    })
}

#[test]
fn memtest_starts_from_a_disk_on_bios() -> Result<()> {
    shows_memtest(Firmware::Bios)
}

#[test]
fn memtest_starts_from_a_disk_on_uefi() -> Result<()> {
    shows_memtest(Firmware::UefiPxe)
}

#[test]
fn a_packed_image_unpacks_to_the_same_bytes() -> Result<()> {
    let raw = osimage::grub_rescue()?;
    let bytes = fs::read(&raw)?;
    let folder = tempfile::tempdir()?;
    for (packing, unpack) in [
        (Packing::Zstd, "zstd -qdc $1 > $2"),
        (Packing::Gzip, "gzip -dc $1 > $2"),
        (Packing::Xz, "xz -dc $1 > $2"),
        (Packing::Qcow2, "qemu-img convert -O raw $1 $2"),
    ] {
        let packed = osimage::packed(&raw, packing)?;
        let unpacked = folder.path().join("unpacked.raw");
        bty_testkit::Program::new("sh")
            .args(["-ec", unpack, "sh"])
            .arg(&packed)
            .arg(&unpacked)
            .run()?;
        assert!(fs::read(&unpacked)? == bytes, "{} differs", packed.display());
    }
    Ok(())
}
