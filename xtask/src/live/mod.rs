//! `cargo xtask live`: the systems that machines boot to be flashed, one for each processor. Debian's kernel, unmodified, and an
//! initramfs with busybox, the static bty-flasher and drivers. Needs no root.

mod agent;
mod cpu;
mod drivers;
mod initramfs;
mod modules;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bty_testkit::packages as installed;
use serde_json::json;
use xshell::Shell;

use drivers::Drivers;

pub(crate) use self::{cpu::Cpu, initramfs::write as write_initramfs, modules::kernel};
use crate::{build::Profile, debian, workspace};

/// The suite that kernel, busybox and firmware come from: Debian stable.
const SUITE: &str = "trixie";
/// The suite that iPXE comes from: stable's is older, and lacks what newer firmware and cards need.
const NEWEST_SUITE: &str = "sid";
/// For how long the package lists are taken as they are, in seconds.
const LISTS_SECONDS: u64 = 24 * 3600;

/// What has been fetched and unpacked.
struct Packages {
    root: PathBuf,
    versions: Vec<(String, String)>,
}

/// Which live systems to build, and where.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LiveArgs {
    /// Where to put them.
    #[arg(long, value_name = "DIR", default_value = "target/live")]
    out: PathBuf,
    /// For which processors.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Cpu::ALL)]
    cpu: Vec<Cpu>,
}

/// Builds live systems; installs what that needs.
pub(crate) fn run(args: &LiveArgs) -> Result<()> {
    let cross: &[&str] = if args.cpu.contains(&Cpu::Arm64) { installed::LIVE_ARM64 } else { &[] };
    installed::ensure(&[installed::LIVE, cross].concat())?;
    build(&args.out, Profile::Release, &args.cpu)
}

/// Builds the live systems for these processors into this folder; does nothing where they are there and nothing has changed.
pub(crate) fn build(out: &Path, profile: Profile, cpus: &[Cpu]) -> Result<()> {
    let root = workspace::root();
    let shell = Shell::new()?;
    shell.change_dir(&root);
    for cpu in cpus {
        build_one(&shell, out, profile, *cpu)
            .with_context(|| format!("building the live system for {}", cpu.name()))?;
    }
    Ok(())
}

fn build_one(shell: &Shell, out: &Path, profile: Profile, cpu: Cpu) -> Result<()> {
    let flasher = agent::build(shell, cpu, profile)?;
    let packages = packages(cpu)?;
    let recipe = shell.current_dir().join("deploy/live");
    let into = cpu.below(out);

    let stamp = stamp(&recipe, &flasher, &packages)?;
    let stamp_path = into.join("stamp");
    if fs::read_to_string(&stamp_path).is_ok_and(|built| built == stamp) {
        return Ok(());
    }
    // Without the stamp the folder counts as unfinished.
    let _ = fs::remove_file(&stamp_path);
    fs::create_dir_all(&into)?;
    let kernel = kernel(&packages.root)?;
    fs::copy(packages.root.join(format!("boot/vmlinuz-{kernel}")), into.join("vmlinuz"))
        .context("copying the kernel")?;
    let tree = work(cpu).join("initramfs");
    let parts = initramfs::Parts {
        cpu,
        recipe: &recipe,
        packages: &packages.root,
        kernel: &kernel,
        flasher: &flasher,
        own_busybox: &initramfs::busybox(&self::packages(Cpu::OWN)?.root)?,
    };
    let drivers = initramfs::tree(shell, &parts, &tree)?;
    initramfs::write(&tree, &into.join("initramfs.img"))?;
    initramfs::write_parts(&tree, &drivers, &into)?;
    if cpu == Cpu::X64 {
        boot_programs(&packages.root, &out.join("boot"))?;
        signed_chain(&packages.root, &recipe, &out.join("boot"))?;
    }
    describe(&into, cpu, &packages, &kernel, &drivers)?;
    fs::write(stamp_path, stamp)?;
    Ok(())
}

/// Where the packages of the x64 live system are unpacked, once it has been built.
pub(crate) fn packages_root() -> PathBuf {
    work(Cpu::X64).join("root")
}

/// Where a live system is made.
fn work(cpu: Cpu) -> PathBuf {
    cpu.below(&workspace::root().join("target/live-work"))
}

fn packages(cpu: Cpu) -> Result<Packages> {
    let work = work(cpu);
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
        if cpu.packages().iter().chain(cpu.newest_packages()).all(has) {
            return Ok(Packages { root, versions });
        }
    }
    eprintln!("fetching the packages of Debian {SUITE} for {}", cpu.name());
    let apt = debian::Apt::new(&work.join("apt"), SUITE, cpu.debian())?;
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let kernel = apt.first_dependency(&format!("linux-image-{}", cpu.debian()))?;
    let mut versions = Vec::new();
    let mut take = |apt: &debian::Apt, package: &str| -> Result<()> {
        debian::unpack(&apt.download(package)?, &root)?;
        versions.push((package.to_owned(), apt.version(package)?));
        Ok(())
    };
    take(&apt, &kernel)?;
    for package in cpu.packages() {
        take(&apt, package)?;
    }
    if !cpu.newest_packages().is_empty() {
        let newest = debian::Apt::new(&work.join("apt-newest"), NEWEST_SUITE, cpu.debian())?;
        for package in cpu.newest_packages() {
            take(&newest, package)?;
        }
    }
    let text: String =
        versions.iter().map(|(package, version)| format!("{package} {version}\n")).collect();
    fs::write(noted, text)?;
    Ok(Packages { root, versions })
}

/// The first programs that firmware loads, for every processor: one package has them all.
fn boot_programs(packages: &Path, into: &Path) -> Result<()> {
    let programs = [
        ("undionly.kpxe", "undionly.kpxe"),
        ("ipxe.pxe", "ipxe.pxe"),
        ("snponly.efi", "x64/snponly.efi"),
        ("ipxe-amd64.efi", "x64/ipxe.efi"),
        // Debian builds none that uses the firmware's driver alone; this one does where it has no own for the card.
        ("ipxe-arm64.efi", "arm64/snponly.efi"),
    ];
    for (from, to) in programs {
        let to = into.join(to);
        fs::create_dir_all(to.parent().context("a boot program in no folder")?)?;
        copy_boot_program(&packages.join("usr/lib/ipxe"), &packages.join("boot"), from, &to)?;
    }
    Ok(())
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
    let mut text = String::from("3\n");
    for file in ["grub.cfg", "init", "udhcpc.script", "modules.list"] {
        let content = fs::read_to_string(recipe.join(file))
            .with_context(|| format!("reading deploy/live/{file}"))?;
        text += &content;
    }
    let metadata = fs::metadata(flasher)?;
    text += &format!("{} {:?}\n{:?}\n", metadata.len(), metadata.modified()?, packages.versions);
    Ok(text)
}

fn describe(
    out: &Path,
    cpu: Cpu,
    packages: &Packages,
    kernel: &str,
    drivers: &Drivers,
) -> Result<()> {
    let size = |name: &str| fs::metadata(out.join(name)).map(|metadata| metadata.len());
    let (vmlinuz, initramfs, base) = (size("vmlinuz")?, size("initramfs.img")?, size("base.img")?);
    let (bytes, most) = (vmlinuz + base, cpu.most_bytes());
    ensure!(bytes <= most, "kernel and base have {bytes} bytes, over {most}: drop modules");
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
        "base_bytes": base,
        "firmware_absent": drivers.absent,
    });
    fs::write(out.join("live.json"), format!("{live:#}\n"))?;
    eprintln!(
        "the live system for {}: kernel {kernel}, {vmlinuz} bytes, initramfs {initramfs} bytes, of which every machine gets {base}",
        cpu.name()
    );
    if !drivers.absent.is_empty() {
        eprintln!("no package has this firmware: {}", drivers.absent.join(", "));
    }
    Ok(())
}
