//! The Debian packages that the lab needs, installed where they are missing.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How often an installation is tried: mirrors fail now and then.
const ATTEMPTS: u32 = 3;

/// What the namespaces, the daemons' peers and the virtual machines need.
pub const LAB: &[&str] = &[
    "busybox-static",
    "curl",
    "dnsmasq-base",
    "iproute2",
    "iputils-ping",
    "ipxe",
    "libfaketime",
    "nftables",
    "ovmf",
    "qemu-system-x86",
    "systemd-container",
    "util-linux",
];

/// What building the operating system images needs.
pub const IMAGES: &[&str] = &[
    "cpio",
    "debian-archive-keyring",
    "dosfstools",
    "e2fsprogs",
    "gdisk",
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "grub-rescue-pc",
    "memtest86+",
    "mmdebstrap",
    "mtools",
    "qemu-utils",
    "xz-utils",
    "zstd",
];

/// What virtual machines with 64-bit ARM processors need beside [`LAB`].
pub const LAB_ARM64: &[&str] = &["qemu-efi-aarch64", "qemu-system-arm"];

/// What building a live system needs.
pub const LIVE: &[&str] = &["apt", "cpio", "dpkg", "kmod", "xz-utils", "zstd"];

/// What building the one for 64-bit ARM needs beside [`LIVE`].
pub const LIVE_ARM64: &[&str] = &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];

/// What makes the file systems that images are looked into with.
pub const FILE_SYSTEMS: &[&str] = &[
    "btrfs-progs",
    "dosfstools",
    "e2fsprogs",
    "exfatprogs",
    "fdisk",
    "gdisk",
    "mtools",
    "ntfs-3g",
    "util-linux",
    "xfsprogs",
];

/// Which of these packages aren't installed.
pub fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let found = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\n"])
        .args(wanted)
        .stderr(Stdio::null())
        .output()
        .context("running dpkg-query: the lab is made for Debian and its relatives")?;
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let is_there = |name: &str| found.lines().any(|line| line == format!("{name} installed"));
    Ok(wanted.iter().copied().filter(|name| !is_there(name)).collect())
}

/// Installs those of these packages that are missing, through sudo where this process isn't root. Says on standard error what
/// it does; does and says nothing where all are there. Removes nothing; but where QEMU is missing, and qemu-utils is there from another
/// release and excludes it, qemu-utils goes back to this release's version.
pub fn ensure(wanted: &[&str]) -> Result<()> {
    let missing = missing(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing Debian packages: {}", missing.join(", "));
    let mut last_words = String::new();
    for attempt in 1..=ATTEMPTS {
        // Nothing of the machine's own is removed for it. (One package may be put back to an older version: `foreign_tools`.)
        let mut arguments =
            vec!["install", "--quiet", "--yes", "--no-remove", "--no-install-recommends"];
        arguments.extend(&missing);
        let tools;
        // The lists may be fine already; updating them costs more than failing once.
        if attempt > 1 {
            apt_get(&["update", "--quiet"])?;
            tools = foreign_tools(&missing)?;
            if let Some(tools) = &tools {
                eprintln!(
                    "going back to {tools}: that of another release excludes this one's QEMU"
                );
                arguments.extend(["--allow-downgrades", tools.as_str()]);
            }
        }
        let done = apt_get(&arguments)?;
        if done.status.success() {
            return Ok(());
        }
        String::from_utf8_lossy(&done.stderr).trim().clone_into(&mut last_words);
        eprintln!("apt-get failed ({attempt} of {ATTEMPTS}): {last_words}");
    }
    bail!("installing {}: {last_words}", missing.join(" "))
}

/// This release's `qemu-utils=VERSION`, where QEMU is to be installed beside those of another release, such as backports'.
fn foreign_tools(missing: &[&str]) -> Result<Option<String>> {
    const TOOLS: &str = "qemu-utils";
    if !missing.iter().any(|package| package.starts_with("qemu-system"))
        || !self::missing(&[TOOLS])?.is_empty()
    {
        return Ok(None);
    }
    let ask = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program).args(arguments).output();
        let output = output.with_context(|| format!("running {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let installed = ask("dpkg-query", &["--show", "--showformat=${Version}", TOOLS])?;
    Ok(offered_instead(&ask("apt-cache", &["madison", TOOLS])?, &installed)
        .map(|version| format!("{TOOLS}={version}")))
}

/// The newest version in the lines of `apt-cache madison`, where the installed one is not among them.
fn offered_instead<'a>(madison: &'a str, installed: &str) -> Option<&'a str> {
    let mut offered = madison.lines().filter_map(|line| line.split('|').nth(1).map(str::trim));
    let newest = offered.clone().next()?;
    (!offered.any(|version| version == installed)).then_some(newest)
}

fn apt_get(arguments: &[&str]) -> Result<Output> {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "env"]);
        sudo
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
    command.stdin(Stdio::null()).output().with_context(|| {
        let list = arguments.join(" ");
        format!("running apt-get (neither root nor sudo here? As root, run: apt-get {list})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_release_here_offers_is_of_another() {
        let madison =
            "qemu-utils | 1:7.2-7 | http://x bookworm/main\n qemu-utils | 1:7.1-1 | http://x y\n";
        assert_eq!(offered_instead(madison, "1:10.0.2~bpo12+1"), Some("1:7.2-7"));
        assert_eq!(offered_instead(madison, "1:7.1-1"), None);
        assert_eq!(offered_instead("", "1:7.1-1"), None);
    }

    #[test]
    fn what_is_installed_is_not_missing() {
        assert_eq!(missing(&["dpkg", "no-such-package-bty"]).unwrap(), ["no-such-package-bty"]);
        assert!(missing(&["dpkg"]).unwrap().is_empty());
    }
}
