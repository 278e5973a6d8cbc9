//! `cargo xtask live`: the system that machines boot to be flashed. Debian's kernel, unmodified, and an initramfs with busybox, the
//! static bty-flasher and drivers. Needs no root.

mod initramfs;
mod modules;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use xshell::{Shell, cmd};

pub(crate) use self::{initramfs::write as write_initramfs, modules::kernel};
use crate::{debian, workspace};

/// The suite that kernel, busybox and iPXE come from: Debian stable.
const SUITE: &str = "trixie";
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What it is made of beside the kernel.
const PACKAGES: [&str; 4] = ["busybox-static", "grub-efi-amd64-signed", "ipxe", "shim-signed"];
/// The most that a machine should have to load, in bytes.
const MOST_BYTES: u64 = 40 << 20;
/// For how long the package lists are taken as they are, in seconds.
const LISTS_SECONDS: u64 = 24 * 3600;

/// What has been fetched and unpacked.
struct Packages {
    root: PathBuf,
    versions: Vec<(String, String)>,
}

/// Builds the live system into this folder; does nothing where it is there and nothing has changed.
pub(crate) fn build(out: &Path) -> Result<()> {
    let root = workspace::root();
    let shell = Shell::new()?;
    shell.change_dir(&root);
    let flasher = static_flasher(&shell)?;
    let packages = packages(&root.join("target/live-work"))?;
    let recipe = root.join("deploy/live");

    let stamp = stamp(&recipe, &flasher, &packages)?;
    let stamp_path = out.join("stamp");
    if fs::read_to_string(&stamp_path).is_ok_and(|built| built == stamp) {
        return Ok(());
    }
    // Without the stamp the folder counts as unfinished.
    let _ = fs::remove_file(&stamp_path);
    fs::create_dir_all(out.join("boot/x64"))?;
    fs::create_dir_all(out.join("boot/arm64"))?;
    let kernel = kernel(&packages.root)?;
    fs::copy(packages.root.join(format!("boot/vmlinuz-{kernel}")), out.join("vmlinuz"))
        .context("copying the kernel")?;
    let tree = initramfs::tree(&shell, &recipe, &packages.root, &kernel, &flasher)?;
    initramfs::write(&tree, &out.join("initramfs.img"))?;
    let ipxe = packages.root.join("usr/lib/ipxe");
    let programs = [
        ("undionly.kpxe", "undionly.kpxe"),
        ("ipxe.pxe", "ipxe.pxe"),
        ("snponly.efi", "x64/snponly.efi"),
        ("ipxe-amd64.efi", "x64/ipxe.efi"),
        ("ipxe-arm64.efi", "arm64/snponly.efi"),
    ];
    for (from, to) in programs {
        copy_boot_program(&ipxe, &packages.root.join("boot"), from, &out.join("boot").join(to))?;
    }
    signed_chain(&packages.root, &recipe, &out.join("boot"))?;
    describe(out, &packages, &kernel)?;
    fs::write(stamp_path, stamp)?;
    Ok(())
}

/// Where the packages of the live system are unpacked, once it has been built.
pub(crate) fn packages_root() -> PathBuf {
    workspace::root().join("target/live-work/root")
}

/// The agent for the live system: linked statically, since there are no libraries.
fn static_flasher(shell: &Shell) -> Result<PathBuf> {
    cmd!(
        shell,
        "cargo build --release --locked -p bty-flasher --target {TARGET} --target-dir target/static"
    )
    .env("RUSTFLAGS", "-C target-feature=+crt-static")
    .run()
    .context("building the static bty-flasher")?;
    Ok(shell.current_dir().join("target/static").join(TARGET).join("release/bty-flasher"))
}

fn packages(work: &Path) -> Result<Packages> {
    let root = work.join("root");
    let noted = work.join("versions");
    let fresh = fs::metadata(&noted)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() < LISTS_SECONDS));
    if fresh && let Ok(text) = fs::read_to_string(&noted) {
        let versions = text.lines().filter_map(|line| line.split_once(' '));
        let versions: Vec<(String, String)> =
            versions.map(|(package, version)| (package.to_owned(), version.to_owned())).collect();
        let has = |package: &&str| versions.iter().any(|(known, _)| known == package);
        if PACKAGES.iter().all(|package| has(package)) {
            return Ok(Packages { root, versions });
        }
    }
    eprintln!("fetching kernel, busybox, iPXE, shim and GRUB of Debian {SUITE}");
    let apt = debian::Apt::new(&work.join("apt"), SUITE)?;
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let kernel = apt.first_dependency("linux-image-amd64")?;
    let mut versions = Vec::new();
    for package in [&[kernel.as_str()][..], &PACKAGES].concat() {
        debian::unpack(&apt.download(package)?, &root)?;
        versions.push((package.to_owned(), apt.version(package)?));
    }
    let text: String =
        versions.iter().map(|(package, version)| format!("{package} {version}\n")).collect();
    fs::write(noted, text)?;
    Ok(Packages { root, versions })
}

fn copy_boot_program(ipxe: &Path, boot: &Path, name: &str, to: &Path) -> Result<()> {
    // Some of the package's files are links to /boot, by an absolute path.
    let candidates = [boot.join(name), ipxe.join(name)];
    let from = candidates.iter().find(|path| fs::metadata(path).is_ok());
    let from = from.with_context(|| format!("the package ipxe has no {name}"))?;
    fs::copy(from, to).with_context(|| format!("copying {name}"))?;
    Ok(())
}

/// What machines with Secure Boot start: shim, which names the GRUB beside it, and the configuration that GRUB looks for by TFTP.
fn signed_chain(packages: &Path, recipe: &Path, boot: &Path) -> Result<()> {
    fs::create_dir_all(boot.join("grub"))?;
    let files = [
        (packages.join("usr/lib/shim/shimx64.efi.signed"), "x64/shimx64.efi"),
        (packages.join("usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"), "x64/grubx64.efi"),
        (recipe.join("grub.cfg"), "grub/grub.cfg"),
    ];
    for (from, to) in files {
        fs::copy(&from, boot.join(to)).with_context(|| format!("copying {}", from.display()))?;
    }
    Ok(())
}

/// Changes with everything that the result depends on.
fn stamp(recipe: &Path, flasher: &Path, packages: &Packages) -> Result<String> {
    let mut text = String::from("2\n");
    for file in ["grub.cfg", "init", "udhcpc.script", "modules.list"] {
        let content = fs::read_to_string(recipe.join(file))
            .with_context(|| format!("reading deploy/live/{file}"))?;
        text += &content;
    }
    let metadata = fs::metadata(flasher)?;
    text += &format!("{} {:?}\n{:?}\n", metadata.len(), metadata.modified()?, packages.versions);
    Ok(text)
}

fn describe(out: &Path, packages: &Packages, kernel: &str) -> Result<()> {
    let size = |name: &str| fs::metadata(out.join(name)).map(|metadata| metadata.len());
    let (vmlinuz, initramfs) = (size("vmlinuz")?, size("initramfs.img")?);
    ensure!(
        vmlinuz + initramfs <= MOST_BYTES,
        "kernel and initramfs have {} bytes, over {MOST_BYTES}: drop modules",
        vmlinuz + initramfs
    );
    let versions: serde_json::Map<_, _> = packages
        .versions
        .iter()
        .map(|(package, version)| (package.clone(), json!(version)))
        .collect();
    let live = json!({
        "kernel": kernel,
        "packages": versions,
        "vmlinuz_bytes": vmlinuz,
        "initramfs_bytes": initramfs,
    });
    fs::write(out.join("live.json"), format!("{live:#}\n"))?;
    eprintln!("the live system: kernel {kernel}, {vmlinuz} bytes, initramfs {initramfs} bytes");
    Ok(())
}
