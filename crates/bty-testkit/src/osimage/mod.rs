//! Operating system images for the lab: a real Debian with systemd, and images that aren't Linux.
//!
//! Building a Debian takes a minute and needs the network, so what is built is kept below `target/lab` under a name that is a
//! hash of the recipe: an edited recipe builds anew, everything else finds it there. Builders exclude each other by a lock, and
//! a file appears under its name only when it is complete.

mod debian;
mod foreign;
mod layout;
mod signed;

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

pub use foreign::{
    EXT4_BANNER, EXT4_LABEL, GRUB_BANNER, GRUB_RESCUE, IPXE_ARM64_BANNER, IPXE_X64_BANNER, MEMTEST,
    REMOVABLE_BANNER, VENDOR_BANNER, grub_on_ext4, grub_rescue, ipxe_arm64, ipxe_x64, memtest,
    shows_memtest, two_loaders,
};

use crate::{child::Program, packages};

/// What the Debian image prints before its login prompt.
pub const LOGIN_PROMPT: &str = "bty-lab login:";

/// A Debian stable with systemd that BIOS and UEFI start from any disk bus of the lab, as a raw disk. `variant` (`v1`, `v2`)
/// makes images that differ: it prints [`debian_banner`] before its login prompt on the serial port. Root has no password.
/// Built on first use, which needs root, the network and a minute or two.
pub fn debian(variant: &str) -> Result<PathBuf> {
    if variant.is_empty() || !variant.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("a variant is called by letters and digits, not {variant:?}");
    }
    packages::ensure(packages::IMAGES)?;
    let name = format!("debian-{}-{variant}.raw", debian::recipe_hash());
    cached(&name, |output, work| {
        let base_name = format!("debian-{}.ext4", debian::recipe_hash());
        let base = cached_while_locked(&base_name, debian::build_file_system)?;
        debian::build_disk(variant, &base, output, work)
    })
}

/// As [`debian`], with the signed loaders of Debian (shim and GRUB) in place of an unsigned GRUB, for machines with Secure Boot.
pub fn debian_signed(variant: &str) -> Result<PathBuf> {
    let unsigned = debian(variant)?;
    let name = format!("debian-{}-{variant}-signed.raw", debian::recipe_hash());
    cached(&name, |output, work| {
        copy_sparse(&unsigned, output)?;
        signed::put_loaders(output, &debian::grub_script(variant), work)
    })
}

/// The Debian image's root file system, unpacked into `folder`, for a container.
pub fn debian_root(folder: &Path) -> Result<()> {
    packages::ensure(packages::IMAGES)?;
    let name = format!("debian-{}.ext4", debian::recipe_hash());
    let file_system = cached(&name, debian::build_file_system)?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let dump = format!("rdump / {}", folder.display());
    Program::new("debugfs").args(["-R", &dump]).arg(file_system).run().map(drop)
}

/// The line that the Debian image of this variant prints before its login prompt.
pub fn debian_banner(variant: &str) -> String {
    format!("bty-lab image {variant}")
}

/// How an image is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// zstd, `.zst`.
    Zstd,
    /// gzip, `.gz`.
    Gzip,
    /// xz, `.xz`.
    Xz,
    /// QEMU's format with compressed clusters, `.qcow2`.
    Qcow2,
}

/// The raw image packed, kept beside it.
pub fn packed(raw: &Path, packing: Packing) -> Result<PathBuf> {
    packages::ensure(packages::IMAGES)?;
    let (suffix, program) = match packing {
        Packing::Zstd => {
            ("zst", Program::new("zstd").args(["-q", "-3", "-T0", "--stdout"]).arg(raw))
        }
        Packing::Gzip => ("gz", Program::new("gzip").args(["-1", "--stdout"]).arg(raw)),
        Packing::Xz => ("xz", Program::new("xz").args(["-1", "-T0", "--stdout"]).arg(raw)),
        Packing::Qcow2 => (
            "qcow2",
            Program::new("qemu-img").args(["convert", "-c", "-f", "raw", "-O", "qcow2"]).arg(raw),
        ),
    };
    let name = raw.file_name().context("the image has no name")?.to_string_lossy();
    cached(&format!("{name}.{suffix}"), |output, _| {
        if packing == Packing::Qcow2 {
            return program.arg(output).run().map(drop);
        }
        program.run_into(output)
    })
}

/// Where built images are kept: `BTY_LAB_CACHE`, or `target/lab` of this workspace.
pub fn cache_folder() -> PathBuf {
    match env::var_os("BTY_LAB_CACHE") {
        Some(named) => named.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/lab"),
    }
}

/// The cached file `name`, built by `build` (which gets the output's path and a folder to work in) where it isn't there.
fn cached(name: &str, build: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<PathBuf> {
    let folder = cache_folder();
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let folder = folder.canonicalize().context("resolving the cache's folder")?;
    let finished = folder.join(name);
    if finished.exists() {
        return Ok(finished);
    }
    let lock = File::create(folder.join("lock")).context("opening the cache's lock")?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("locking the cache")?;
    cached_while_locked(name, build)
}

/// As [`cached`], for a builder that holds the lock already.
fn cached_while_locked(
    name: &str,
    build: impl FnOnce(&Path, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let folder = cache_folder().canonicalize().context("resolving the cache's folder")?;
    let finished = folder.join(name);
    if finished.exists() {
        return Ok(finished);
    }
    eprintln!("building {name}");
    let work = tempfile::tempdir_in(&folder).context("making a folder to build in")?;
    let output = work.path().join("output");
    build(&output, work.path()).with_context(|| format!("building {name}"))?;
    fs::rename(&output, &finished).with_context(|| format!("keeping {name}"))?;
    Ok(finished)
}

/// A copy of an image to be changed by a machine, which shares no bytes with the cached one but keeps its holes.
pub fn copy_sparse(image: &Path, to: &Path) -> Result<()> {
    Program::new("cp")
        .args(["--sparse=always", "--reflink=auto"])
        .arg(image)
        .arg(to)
        .run()
        .map(drop)
}
