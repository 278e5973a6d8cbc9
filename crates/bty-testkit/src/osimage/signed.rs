//! Signed loaders for the Debian image.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::layout::ESP_START;
use crate::child::Program;

const PACKAGES: [&str; 2] = ["grub-efi-amd64-signed", "shim-signed"];

/// Puts Debian's shim and GRUB into the image's EFI system partition, and this script where that GRUB looks for it. The packages
/// are unpacked and not installed: installing them would set up this machine's own loader.
pub(super) fn put_loaders(image: &Path, grub_script: &str, work: &Path) -> Result<()> {
    Program::new("apt-get")
        .args(["--quiet=2", "download"])
        .args(PACKAGES)
        .current_dir(work)
        .run()?;
    let root = work.join("loaders");
    for entry in fs::read_dir(work).context("listing the packages")? {
        let path = entry.context("listing the packages")?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            Program::new("dpkg-deb").arg("-x").arg(path).arg(&root).run()?;
        }
    }
    let script = work.join("signed.cfg");
    fs::write(&script, grub_script).context("writing GRUB's script")?;
    let partition = format!("{}@@{ESP_START}", image.display());
    Program::new("mmd").args(["-i", &partition, "::EFI/debian"]).run()?;
    let files = [
        (root.join("usr/lib/shim/shimx64.efi.signed"), "::EFI/BOOT/BOOTX64.EFI"),
        (root.join("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"), "::EFI/BOOT/grubx64.efi"),
        (script, "::EFI/debian/grub.cfg"),
    ];
    for (from, to) in files {
        Program::new("mcopy").args(["-o", "-i", &partition]).arg(from).arg(to).run()?;
    }
    Ok(())
}
