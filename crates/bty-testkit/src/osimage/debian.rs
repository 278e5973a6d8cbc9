//! The recipe of the Debian image.
//!
//! An unmodified Debian stable with systemd, udev and Debian's cloud kernel (which has drivers for all the lab's disk buses:
//! virtio, `NVMe`, AHCI and SCSI), made by mmdebstrap. Its boot is paid for dozens of times in a test run, and an emulated
//! processor takes a second for what a real one does in thirty milliseconds; so units that nothing here needs are
//! masked, udev looks at disks, network cards and the serial port only, and a small initramfs stands in for a general one.

use std::{
    fmt::Write as _,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{debian_banner, layout::Layout};
use crate::{child::Program, require_root};

const SUITE: &str = "trixie";
const PACKAGES: &str =
    "busybox-static,iproute2,kmod,linux-image-cloud-amd64,login,systemd-sysv,udev";
const HOSTNAME: &str = "bty-lab";
const MIB: u64 = 1024 * 1024;

/// What nobody reads in an image that is booted by tests.
const LEFT_OUT: &[&str] =
    &["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"];

/// Drivers of the initramfs, each after those that it needs.
const DRIVERS: &[&str] = &[
    "virtio_blk",
    "scsi_common",
    "scsi_mod",
    "sd_mod",
    "virtio_scsi",
    "libata",
    "libahci",
    "ahci",
];

/// `nokaslr`, `mitigations`, `audit`, `cryptomgr` and `lsm` each spare an emulated processor up to a second. With the serial
/// port's size given, systemd doesn't wait for a terminal that would tell it. After a panic the machine says so and resets at once.
const KERNEL_ARGUMENTS: &str = "console=ttyS0,115200 quiet loglevel=3 panic=-1 net.ifnames=0 nokaslr \
    mitigations=off audit=0 cryptomgr.notests lsm=capability systemd.tty.rows.console=25 \
    systemd.tty.columns.console=80 systemd.tty.rows.ttyS0=25 systemd.tty.columns.ttyS0=80";

/// Units that cost time at each boot and that a machine of the lab has no use for.
const MASKED_UNITS: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@.service",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-creds.socket",
    "systemd-hostnamed.socket",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-pcrextend.socket",
    "systemd-pcrlock.socket",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-sysext.socket",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-udev-load-credentials.service",
];

/// Generators that have something to say in a machine of the lab; the others are masked.
const KEPT_GENERATORS: &[&str] = &["systemd-fstab-generator", "systemd-getty-generator"];

/// Only the serial port's device is waited for; disks and cards are for whoever looks at them later.
const UDEV_TRIGGER: &str = "[Service]\nExecStart=\n\
    ExecStart=-udevadm trigger --action=add --subsystem-match=tty --sysname-match=ttyS0\n\
    ExecStart=-udevadm trigger --action=add --subsystem-match=block --subsystem-match=net\n";

const INIT: &str = include_str!("debian/init.sh");

/// A name for the recipe: another recipe has another. FNV-1a, which stays the same from release to release.
pub(super) fn recipe_hash() -> String {
    let sources = [include_str!("debian.rs"), include_str!("layout.rs"), INIT];
    let hash =
        sources.iter().flat_map(|text| text.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3_u64)
        });
    format!("{hash:016x}")
}

/// Makes the root file system that all variants share.
pub(super) fn build_file_system(output: &Path, work: &Path) -> Result<()> {
    require_root()?;
    let root = work.join("root");
    install(&root)?;
    write_initramfs(&root, work)?;
    configure(&root)?;
    // Room for what a running system writes, so that it is as large as it must be and no larger: every byte is flashed.
    let used = Program::new("du").args(["-s", "-B1M"]).arg(&root).run()?;
    let used: u64 =
        used.split_whitespace().next().unwrap_or_default().parse().context("du's answer")?;
    let size = (used + used / 8 + 40) * MIB;
    File::create(output).and_then(|file| file.set_len(size)).context("making the file system")?;
    Program::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-J", "size=4", "-m", "0", "-d"])
        .arg(&root)
        .arg(output)
        .run()
        .map(drop)
}

/// Makes the disk of one variant, from a copy of the shared file system.
pub(super) fn build_disk(variant: &str, base: &Path, output: &Path, work: &Path) -> Result<()> {
    let label = label(variant);
    let root = work.join("root.ext4");
    super::copy_sparse(base, &root)?;
    Program::new("tune2fs").args(["-L", &label]).arg(&root).run()?;
    let banner = debian_banner(variant);
    write_into(&root, work, "issue", &format!("\n{banner}\n\n"))?;
    write_into(&root, work, "bty-lab", &format!("{variant}\n"))?;
    let layout = Layout { root: &root, root_label: &label, grub_script: &grub_script(variant) };
    layout.write(output, work)
}

/// GRUB's script, which starts the system of this variant.
pub(super) fn grub_script(variant: &str) -> String {
    let label = label(variant);
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_output serial\n\
         echo {HOSTNAME}: loading {variant}\n\
         search --no-floppy --label {label} --set=root\n\
         linux /boot/vmlinuz root=PARTLABEL={label} {KERNEL_ARGUMENTS}\n\
         initrd /boot/initrd.img\n\
         boot\n"
    )
}

fn label(variant: &str) -> String {
    format!("bty-{variant}")
}

fn install(root: &Path) -> Result<()> {
    let mut program = Program::new("mmdebstrap")
        .args(["--mode=root", "--variant=minbase", "--dpkgopt=force-unsafe-io"])
        .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\""])
        .arg(format!("--include={PACKAGES}"));
    for path in LEFT_OUT {
        program = program.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    program = program.arg(SUITE).arg(root);
    if let Some(mirror) = mirror()? {
        program = program.arg(mirror);
    }
    program.run().map(drop)
}

/// The Debian mirror that this machine's apt uses; `None`, which is mmdebstrap's own default, where it uses none.
fn mirror() -> Result<Option<String>> {
    let targets = Program::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN)/$(LABEL)/$(COMPONENT) $(REPO_URI)"])
        .run()?;
    let found = targets.lines().find_map(|line| line.strip_prefix("Debian/Debian/main "));
    Ok(found.map(str::to_owned))
}

/// Replaces the initramfs of Debian's tools, 10 MB and four seconds of an emulated processor, by one that only mounts the root.
fn write_initramfs(root: &Path, work: &Path) -> Result<()> {
    let content = work.join("initramfs");
    for folder in ["bin", "dev", "modules", "proc", "root", "sys"] {
        let folder = content.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::copy(root.join("usr/bin/busybox"), content.join("bin/busybox"))
        .context("copying busybox")?;
    fs::write(content.join("init"), INIT).context("writing init")?;
    fs::set_permissions(content.join("init"), PermissionsExt::from_mode(0o755))
        .context("making init a program")?;
    let modules = root.join("usr/lib/modules");
    for driver in DRIVERS {
        let found =
            Program::new("find").arg(&modules).args(["-name", &format!("{driver}.ko.xz")]).run()?;
        let packed = found.lines().next().with_context(|| format!("no driver {driver}"))?;
        let module = content.join("modules").join(format!("{driver}.ko"));
        Program::new("xz").args(["-dc", packed]).run_into(&module)?;
    }
    let boot = root.join("boot");
    let kernel = find_and_remove_initrd(&boot)?;
    symlink(kernel, boot.join("vmlinuz")).context("naming the kernel")?;
    Program::new("sh")
        .args([
            "-ec",
            "find . | sort | cpio -o -H newc -R 0:0 --quiet | zstd -q -19 -o \"$1\"",
            "sh",
        ])
        .arg(boot.join("initrd.img"))
        .current_dir(content)
        .run()
        .map(drop)
}

/// The kernel's file name; removes the initramfs that came with it.
fn find_and_remove_initrd(boot: &Path) -> Result<String> {
    let mut kernel = None;
    for entry in fs::read_dir(boot).context("listing /boot")? {
        let name = entry.context("listing /boot")?.file_name().to_string_lossy().into_owned();
        if name.starts_with("initrd.img") {
            fs::remove_file(boot.join(&name)).context("removing the initramfs")?;
        } else if name.starts_with("vmlinuz-") {
            kernel = Some(name);
        }
    }
    kernel.context("there is no kernel")
}

fn configure(root: &Path) -> Result<()> {
    let etc = root.join("etc");
    let write = |name: &str, text: &str| {
        let path = etc.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&etc))
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("writing {}", path.display()))
    };
    write("hostname", &format!("{HOSTNAME}\n"))?;
    write("hosts", &format!("127.0.0.1 localhost {HOSTNAME}\n"))?;
    write("fstab", "")?;
    // A machine without an id counts as booted for the first time, which costs seconds.
    write("machine-id", "5b1ab5b1ab5b1ab5b1ab5b1ab5b1ab00\n")?;
    write("systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=volatile\n")?;
    write("systemd/system/systemd-udev-trigger.service.d/lab.conf", UDEV_TRIGGER)?;
    for unit in MASKED_UNITS {
        replace_by_link("/dev/null", &etc.join("systemd/system").join(unit))?;
    }
    mask_generators(root)?;
    let default = etc.join("systemd/system/default.target");
    replace_by_link("/usr/lib/systemd/system/multi-user.target", &default)?;
    // The shell expands what is there; none of it is needed to boot, and all of it would be flashed.
    let clean = "passwd -q -d root; rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
                 /usr/lib/udev/hwdb.bin /usr/lib/udev/hwdb.d; rm -f /etc/issue; touch /etc/.updated /var/.updated";
    Program::new("chroot").arg(root).args(["sh", "-ec", clean]).run().map(drop)
}

fn mask_generators(root: &Path) -> Result<()> {
    let masked = root.join("etc/systemd/system-generators");
    fs::create_dir_all(&masked).context("making the generators' folder")?;
    let generators = root.join("usr/lib/systemd/system-generators");
    for entry in fs::read_dir(generators).context("listing the generators")? {
        let name = entry.context("listing the generators")?.file_name();
        if !KEPT_GENERATORS.iter().any(|kept| name == *kept) {
            replace_by_link("/dev/null", &masked.join(name))?;
        }
    }
    Ok(())
}

fn replace_by_link(target: &str, link: &Path) -> Result<()> {
    if link.symlink_metadata().is_ok() {
        fs::remove_file(link).with_context(|| format!("removing {}", link.display()))?;
    }
    symlink(target, link).with_context(|| format!("linking {}", link.display()))
}

/// Writes `/etc/NAME` into a file system that isn't mounted.
fn write_into(file_system: &Path, work: &Path, name: &str, text: &str) -> Result<()> {
    let source: PathBuf = work.join(name);
    fs::write(&source, text).with_context(|| format!("writing {}", source.display()))?;
    let mut commands = String::new();
    let _ = write!(commands, "cd /etc\nwrite {} {name}\n", source.display());
    let script = work.join("debugfs.commands");
    fs::write(&script, commands).context("writing debugfs's commands")?;
    Program::new("debugfs").args(["-w", "-f"]).arg(script).arg(file_system).run().map(drop)
}
