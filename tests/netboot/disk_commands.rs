//! Health and erase on disks that have commands for it: the live system's kernel and flasher on emulated NVMe and ATA disks, with a script
//! in the agent's place.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{Disk, DiskBus, Firmware, Machine, MachineSpec, vm::DirectKernel};
use bty_tests::{STEP, content, live};

const DISK_BYTES: usize = 16 << 20;

/// What runs in the machine instead of the live system's own first program.
const SCRIPT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
export PATH=/bin
mount -t tmpfs tmpfs /run
exec > /dev/ttyS0 2>&1
bty-flasher drivers /run/drivers &
until [ -e /run/drivers ] && [ -b /dev/nvme1n1 ] && [ -b /dev/sda ]; do sleep 1; done
run() { bty-flasher "$@"; echo "== $1 $2 ended with $?"; }
run health --output json
run health serial:NVME1
run health serial:NVME2
dd if=/bin/busybox of=/tmp/image bs=64k count=2 2>/dev/null
run write /tmp/image serial:NVME2 --yes
run write /tmp/image serial:NVME2 --yes --failing-disk-ok
run erase serial:ATA1 --how ata-secure-erase --yes
run erase serial:ATA1 --yes --output json
run erase serial:NVME1 --yes --output json
run erase serial:NVME2 --how nvme-sanitize --yes
echo "== the script is done"
poweroff -f
"#;

/// The live system's initramfs with the script in it: the kernel unpacks one archive after the other, and the last file counts.
fn initramfs(folder: &Path) -> Result<PathBuf> {
    let mut whole = fs::read(live()?.join("initramfs.img")).context("reading the live system")?;
    add_file(&mut whole, "init", 0o100_755, SCRIPT);
    add_file(&mut whole, "TRAILER!!!", 0, "");
    let path = folder.join("initramfs.img");
    fs::write(&path, whole).context("writing the initramfs")?;
    Ok(path)
}

/// A file of a cpio archive (kernel doc driver-api/early-userspace/buffer-format), each part of which begins at a multiple of four bytes.
fn add_file(archive: &mut Vec<u8>, name: &str, mode: usize, content: &str) {
    let align = |archive: &mut Vec<u8>| archive.resize(archive.len().next_multiple_of(4), 0);
    align(archive);
    let mut fields = [0; 13];
    (fields[1], fields[4]) = (mode, 1);
    (fields[6], fields[11]) = (content.len(), name.len() + 1);
    archive.extend_from_slice(b"070701");
    archive.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
    archive.extend(name.bytes().chain([0]));
    align(archive);
    archive.extend(content.bytes());
    align(archive);
}

#[test]
fn disks_say_how_they_are_and_are_erased_by_their_own_commands() -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let folder = folder.path();
    let disk = |serial: &str, bus| -> Result<Disk> {
        let disk = Disk::new(folder.join(serial), serial).on(bus);
        fs::write(&disk.file, content(DISK_BYTES)).context("filling a disk")?;
        Ok(disk)
    };
    let (nvme, ata, failing) = (
        disk("NVME1", DiskBus::Nvme)?,
        disk("ATA1", DiskBus::Ahci)?,
        disk("NVME2", DiskBus::Nvme)?,
    );
    let mut spec =
        MachineSpec::new("m", Firmware::Bios).with_disk(nvme.clone()).with_disk(ata.clone());
    // One whose reliability is degraded (bit 2).
    spec.more_arguments = [
        "-drive",
        &format!("if=none,id=failing,format=raw,cache=unsafe,file={}", failing.file.display()),
        "-device",
        "nvme,drive=failing,serial=NVME2,smart_critical_warning=4",
    ]
    .map(str::to_owned)
    .to_vec();
    spec.direct_kernel = Some(DirectKernel {
        kernel: live()?.join("vmlinuz"),
        initramfs: initramfs(folder)?,
        command_line: "quiet console=ttyS0,115200 panic=5".to_owned(),
    });
    let mut machine = Machine::new(spec, folder, None)?;
    machine.power_on()?;
    machine.wait_for("== the script is done", STEP)?;
    let said = machine.console().text()?;
    for expected in [
        r#""health": "good""#,
        r#""health": "failing""#,
        "its reliability is degraded by errors",
        "== health serial:NVME1 ended with 0",
        "== health serial:NVME2 ended with 5",
        "is about to fail",
        "--failing-disk-ok",
        "== write /tmp/image ended with 5",
        "== write /tmp/image ended with 0",
        "the disk has no security commands",
        r#""way":"nvme-format""#,
        "the controller has no crypto sanitize",
        "== erase serial:ATA1 ended with 5",
        "== erase serial:ATA1 ended with 0",
        "== erase serial:NVME1 ended with 0",
        "== erase serial:NVME2 ended with 5",
    ] {
        ensure!(said.contains(expected), "{expected:?} was not said:\n{said}");
    }
    machine.power_off()?;
    for disk in [nvme, ata] {
        let bytes = fs::read(&disk.file).context("reading a disk")?;
        ensure!(bytes.iter().all(|byte| *byte == 0), "{} is not erased", disk.serial);
    }
    // Its beginning was written in between; nothing that a failed erase left behind.
    let mut kept = vec![0; 4096];
    File::open(&failing.file)?.read_exact_at(&mut kept, (DISK_BYTES / 2) as u64)?;
    ensure!(kept == content(DISK_BYTES)[DISK_BYTES / 2..][..4096], "a refused erase wrote");
    Ok(())
}
