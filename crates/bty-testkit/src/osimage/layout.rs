//! A disk image that BIOS and UEFI both start: GPT with a BIOS boot partition, an ESP and a root file system.
//!
//! Put together on plain files, without mounting or attaching anything, because neither FAT nor partitioned loop devices can
//! be counted on where tests run.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::child::Program;

const MIB: u64 = 1024 * 1024;
const SECTOR_BYTES: u64 = 512;
/// GRUB's core for BIOS lies here, in a partition of its own (GRUB manual, "BIOS installation").
const BIOS_BOOT_START: u64 = MIB;
pub(super) const ESP_START: u64 = 2 * MIB;
const ESP_BYTES: u64 = 8 * MIB;
const ROOT_START: u64 = ESP_START + ESP_BYTES;
/// Room for the second partition table.
const TAIL_BYTES: u64 = MIB;

/// Where GRUB's `boot.img` keeps the sector of the core's first sector, and that one the sector of the rest
/// (grub-core/boot/i386/pc/boot.S and diskboot.S).
const BOOT_IMG_KERNEL_SECTOR: usize = 0x5c;
const CORE_IMG_BLOCKLIST_SECTOR: usize = 0x1f4;
/// What of the first sector is code; the rest is the partition table's.
const BOOT_CODE_BYTES: usize = 440;

/// What goes into an image.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    /// A file system, of whole MiB.
    pub(super) root: &'a Path,
    /// What the root partition is called.
    pub(super) root_label: &'a str,
    /// GRUB's script, which starts the system.
    pub(super) grub_script: &'a str,
}

/// GRUB's modules that the script needs, on both firmwares.
const GRUB_MODULES: &[&str] = &[
    "echo",
    "ext2",
    "linux",
    "normal",
    "part_gpt",
    "search",
    "search_label",
    "serial",
    "terminal",
];

impl Layout<'_> {
    /// Writes the image to `output`, with its pieces in `work`.
    pub(super) fn write(&self, output: &Path, work: &Path) -> Result<()> {
        let root_bytes = fs::metadata(self.root).context("measuring the file system")?.len();
        let total = ROOT_START + root_bytes + TAIL_BYTES;
        File::create(output)
            .and_then(|image| image.set_len(total))
            .with_context(|| format!("making {}", output.display()))?;
        self.write_partition_table(output, root_bytes)?;
        let grub = self.grub_for_uefi(work)?;
        copy_into(output, &make_esp(&[(&grub, "BOOTX64.EFI")], work)?, ESP_START)?;
        copy_into(output, self.root, ROOT_START)?;
        write_bios_boot(output, &self.grub_for_bios(work)?)
    }

    fn write_partition_table(&self, output: &Path, root_bytes: u64) -> Result<()> {
        Program::new("sgdisk")
            .arg("--set-alignment=2048")
            .args(partition(1, BIOS_BOOT_START, ESP_START - BIOS_BOOT_START, "ef02", "bios-boot"))
            .args(partition(2, ESP_START, ESP_BYTES, "ef00", "esp"))
            .args(partition(3, ROOT_START, root_bytes, "8300", self.root_label))
            .arg(output)
            .run()
            .map(drop)
    }

    fn grub_for_bios(&self, work: &Path) -> Result<PathBuf> {
        self.grub("i386-pc", &["biosdisk"], &work.join("core.img"), work)
    }

    fn grub_for_uefi(&self, work: &Path) -> Result<PathBuf> {
        self.grub("x86_64-efi", &["fat"], &work.join("BOOTX64.EFI"), work)
    }

    fn grub(&self, format: &str, modules: &[&str], output: &Path, work: &Path) -> Result<PathBuf> {
        let script = work.join("grub.cfg");
        fs::write(&script, self.grub_script).context("writing GRUB's script")?;
        Program::new("grub-mkimage")
            .args(["--format", format, "--prefix", "/boot/grub", "--config"])
            .arg(script)
            .arg("--output")
            .arg(output)
            .args(GRUB_MODULES)
            .args(modules)
            .run()?;
        Ok(output.to_owned())
    }
}

/// Writes an image with nothing but an ESP to `output`, with its pieces in `work`. The files are in the folder where firmware looks.
pub(super) fn write_esp_only(files: &[(&Path, &str)], output: &Path, work: &Path) -> Result<()> {
    File::create(output)
        .and_then(|image| image.set_len(ESP_START + ESP_BYTES + TAIL_BYTES))
        .with_context(|| format!("making {}", output.display()))?;
    Program::new("sgdisk")
        .arg("--set-alignment=2048")
        .args(partition(1, ESP_START, ESP_BYTES, "ef00", "esp"))
        .arg(output)
        .run()?;
    copy_into(output, &make_esp(files, work)?, ESP_START)
}

/// What `sgdisk` is told of a partition.
fn partition(number: u32, start: u64, bytes: u64, kind: &str, label: &str) -> [String; 3] {
    let first = start / SECTOR_BYTES;
    let last = (start + bytes) / SECTOR_BYTES - 1;
    [
        format!("--new={number}:{first}:{last}"),
        format!("--typecode={number}:{kind}"),
        format!("--change-name={number}:{label}"),
    ]
}

/// An ESP with these files in `EFI/BOOT`.
fn make_esp(files: &[(&Path, &str)], work: &Path) -> Result<PathBuf> {
    let esp = work.join("esp.img");
    File::create(&esp).and_then(|file| file.set_len(ESP_BYTES)).context("making the ESP")?;
    Program::new("mkfs.vfat").args(["-n", "BTY-ESP"]).arg(&esp).run()?;
    Program::new("mmd").arg("-i").arg(&esp).args(["::EFI", "::EFI/BOOT"]).run()?;
    for (file, name) in files {
        let to = format!("::EFI/BOOT/{name}");
        Program::new("mcopy").arg("-i").arg(&esp).arg(file).arg(to).run()?;
    }
    Ok(esp)
}

/// Copies a file into another at `offset`, leaving holes where it has zeros.
fn copy_into(output: &Path, input: &Path, offset: u64) -> Result<()> {
    Program::new("dd")
        .arg(format!("if={}", input.display()))
        .arg(format!("of={}", output.display()))
        .args(["bs=1M", "conv=notrunc,sparse", "oflag=seek_bytes", "status=none"])
        .arg(format!("seek={offset}"))
        .run()
        .map(drop)
}

/// Writes GRUB's first sector and its core, each told where the next part lies.
fn write_bios_boot(output: &Path, core: &Path) -> Result<()> {
    let mut boot = fs::read("/usr/lib/grub/i386-pc/boot.img").context("reading GRUB's boot.img")?;
    let mut core = fs::read(core).context("reading GRUB's core")?;
    let room = usize::try_from(ESP_START - BIOS_BOOT_START).unwrap_or(usize::MAX);
    ensure!(core.len() <= room, "GRUB's core of {} bytes is too large", core.len());
    let core_sector = BIOS_BOOT_START / SECTOR_BYTES;
    put(&mut boot, BOOT_IMG_KERNEL_SECTOR, core_sector)?;
    put(&mut core, CORE_IMG_BLOCKLIST_SECTOR, core_sector + 1)?;
    let image = File::options().write(true).open(output).context("opening the image")?;
    let boot_code = boot.get(..BOOT_CODE_BYTES).context("GRUB's boot.img is cut off")?;
    image.write_all_at(boot_code, 0).context("writing the boot code")?;
    image.write_all_at(&core, BIOS_BOOT_START).context("writing GRUB's core")
}

fn put(bytes: &mut [u8], at: usize, value: u64) -> Result<()> {
    let place = bytes.get_mut(at..at + 8).context("GRUB's image is cut off")?;
    place.copy_from_slice(&value.to_le_bytes());
    Ok(())
}
