//! Images that aren't Linux, as Debian packages have them.

use std::path::PathBuf;

use anyhow::Result;

use super::cached;
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
