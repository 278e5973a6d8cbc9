//! Images that aren't Linux: as Debian packages have them, and one that iPXE is the system of.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{cached, layout};
use crate::{child::Program, packages, vm::Screenshot};

/// memtest86+ as a disk image for BIOS and UEFI: a DOS partition table and an ESP. It shows itself on the screen only.
pub const MEMTEST: &str = "/usr/lib/memtest86+/memtest86+x64.iso";
/// GRUB's rescue disk, for BIOS only. It prints `GRUB loading` on the serial port where `SeaBIOS` has no graphics.
pub const GRUB_RESCUE: &str = "/usr/lib/grub-rescue/grub-rescue-usb.img";

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
    fs::write(&script, format!("#!ipxe\n:again\necho {IPXE_ARM64_BANNER}\nsleep 1\ngoto again\n"))
        .context("writing the script of the image")?;
    let files = [(ipxe, "BOOTAA64.EFI"), (&*script, "autoexec.ipxe")];
    layout::write_esp_only(&files, &image, folder)?;
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
