//! Images that aren't Linux: as Debian packages have them, and one that iPXE is the system of.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{cached, layout};
use crate::{child::Program, packages, vm::Screenshot};

/// memtest86+ as a disk image for BIOS and UEFI: a DOS partition table and an ESP. It shows itself on the screen only.
pub const MEMTEST: &str = "/usr/lib/memtest86+/memtest86+x64.iso";
/// GRUB's rescue disk, for BIOS only.
pub const GRUB_RESCUE: &str = "/usr/lib/grub-rescue/grub-rescue-usb.img";
/// What [`GRUB_RESCUE`] prints on the serial port when it starts, where `SeaBIOS` has no graphics.
pub const GRUB_BANNER: &str = "GRUB loading";

const IPXE_X64_BYTES: u64 = 32 << 20;
const EXT4_BYTES: u64 = 64 << 20;

/// [`MEMTEST`], its package installed.
pub fn memtest() -> Result<PathBuf> {
    packages::ensure(packages::IMAGES)?;
    whole_mebibytes(MEMTEST, "memtest86plus.raw")
}

/// [`GRUB_RESCUE`], its package installed.
pub fn grub_rescue() -> Result<PathBuf> {
    packages::ensure(packages::IMAGES)?;
    whole_mebibytes(GRUB_RESCUE, "grub-rescue.raw")
}

/// The line that [`ipxe_arm64`] prints.
pub const IPXE_ARM64_BANNER: &str = "bty-lab image for arm64";

/// An image that 64-bit ARM firmware starts: an ESP with this iPXE and a script that says [`IPXE_ARM64_BANNER`]. A Debian would
/// have to be made by an emulated processor, which takes half an hour. Written to `folder`.
pub fn ipxe_arm64(ipxe: &Path, folder: &Path) -> Result<PathBuf> {
    packages::ensure(packages::IMAGES)?;
    let (image, script) = (folder.join("arm64.raw"), folder.join("autoexec.ipxe"));
    fs::write(&script, looping_script(IPXE_ARM64_BANNER))
        .context("writing the script of the image")?;
    let files = [(ipxe, "BOOTAA64.EFI"), (&*script, "autoexec.ipxe")];
    layout::write_esp_only(&files, &image, folder)?;
    Ok(image)
}

/// The line that [`two_loaders`] prints where its vendor's loader was started.
pub const VENDOR_BANNER: &str = "bty-lab image by the vendor's loader";
/// The line that it prints where the loader was started that firmware finds by itself.
pub const REMOVABLE_BANNER: &str = "bty-lab image by the removable medium's loader";

/// An image that 64-bit x86 UEFI starts, with two loaders: a vendor's, which firmware has to be told of, and the one where it looks by
/// itself, a copy of `removable`. Both are to be this iPXE, or nothing that runs. Written to `folder`.
pub fn two_loaders(ipxe: &Path, removable: Option<&Path>, folder: &Path) -> Result<PathBuf> {
    packages::ensure(packages::IMAGES)?;
    let image = folder.join("x64.raw");
    let script = |name: &str, banner: &str| {
        let script = folder.join(name);
        let text = looping_script(banner);
        fs::write(&script, text).context("writing a script of the image").map(|()| script)
    };
    let by_vendor = script("vendor.ipxe", VENDOR_BANNER)?;
    let by_itself = script("removable.ipxe", REMOVABLE_BANNER)?;
    let mut files = vec![(&*by_itself, "autoexec.ipxe")];
    files.extend(removable.map(|removable| (removable, "BOOTX64.EFI")));
    layout::write_esp_only(&files, &image, folder)?;
    let partition = format!("{}@@{}", image.display(), layout::ESP_START);
    Program::new("mmd").args(["-i", &partition, "::EFI/debian"]).run()?;
    for (from, name) in [(ipxe, "grubx64.efi"), (&by_vendor, "autoexec.ipxe")] {
        let to = format!("::EFI/debian/{name}");
        Program::new("mcopy").args(["-i", &partition]).arg(from).arg(to).run()?;
    }
    Ok(image)
}

/// The line that [`ipxe_x64`] prints.
pub const IPXE_X64_BANNER: &str = "bty-lab image for x64";

/// An image for a disk with sectors of this size that UEFI starts: one FAT file system without a partition table, with this iPXE
/// and a script that says [`IPXE_X64_BANNER`]. Written to `folder`.
pub fn ipxe_x64(ipxe: &Path, sector_bytes: u32, folder: &Path) -> Result<PathBuf> {
    packages::ensure(packages::IMAGES)?;
    let (image, script) = (folder.join("x64.raw"), folder.join("x64.ipxe"));
    fs::write(&script, looping_script(IPXE_X64_BANNER)).context("writing the image's script")?;
    File::create(&image).and_then(|file| file.set_len(IPXE_X64_BYTES)).context("making it")?;
    Program::new("mkfs.vfat")
        .args(["-S", &sector_bytes.to_string(), "-n", "BTY-X64"])
        .arg(&image)
        .run()?;
    Program::new("mmd").arg("-i").arg(&image).args(["::EFI", "::EFI/BOOT"]).run()?;
    for (file, name) in [(ipxe, "BOOTX64.EFI"), (&*script, "autoexec.ipxe")] {
        let to = format!("::EFI/BOOT/{name}");
        Program::new("mcopy").arg("-i").arg(&image).arg(file).arg(to).run()?;
    }
    Ok(image)
}

/// iPXE's script that says this again and again: the first time may come before anybody listens.
fn looping_script(banner: &str) -> String {
    format!("#!ipxe\n:again\necho {banner}\nsleep 1\ngoto again\n")
}

/// What the last partition of [`grub_on_ext4`] and its file system are called.
pub const EXT4_LABEL: &str = "bty-ext4";
/// The line that [`grub_on_ext4`] prints, which it reads from its ext4.
pub const EXT4_BANNER: &str = "bty-lab image on ext4";

/// An image that BIOS starts, with a GUID partition table and an ext4 in its last partition, from which GRUB loads a module and the line
/// that it prints. Written to `folder`.
pub fn grub_on_ext4(folder: &Path) -> Result<PathBuf> {
    packages::ensure(packages::IMAGES)?;
    let (image, files, root) =
        (folder.join("ext4.raw"), folder.join("ext4"), folder.join("root.ext4"));
    fs::create_dir(&files).context("making a folder for its files")?;
    fs::write(files.join("banner"), format!("{EXT4_BANNER}\n")).context("writing the banner")?;
    fs::copy("/usr/lib/grub/i386-pc/cat.mod", files.join("cat.mod"))
        .context("copying GRUB's module")?;
    File::create(&root).and_then(|file| file.set_len(EXT4_BYTES)).context("making the ext4")?;
    Program::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-L", EXT4_LABEL, "-d"])
        .args([&files, &root])
        .run()?;
    let grub_script = format!(
        "serial --unit=0 --speed=115200\nterminal_output serial\nsearch --no-floppy --label {EXT4_LABEL} --set=root\n\
         insmod /cat.mod\ncat /banner\n"
    );
    let layout = layout::Layout { root: &root, root_label: EXT4_LABEL, grub_script: &grub_script };
    layout.write(&image, folder)?;
    Ok(image)
}

/// Whether a screen is memtest86+'s: mostly its blue, which neither firmware paints.
pub fn shows_memtest(screen: &Screenshot) -> bool {
    let is_blue = |[red, green, blue]: [u8; 3]| blue > 0x80 && red < 0x40 && green < 0x40;
    screen.share_of(is_blue) > 0.5
}

/// A copy that is padded to whole MiB, as a disk is, since what isn't of whole sectors can't be one.
fn whole_mebibytes(image: &str, name: &str) -> Result<PathBuf> {
    cached(name, |output, _| {
        Program::new("cp").arg(image).arg(output).run()?;
        Program::new("truncate").arg("--size=%1M").arg(output).run().map(drop)
    })
}
