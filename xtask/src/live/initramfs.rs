//! The initramfs: a folder of files, packed as the kernel unpacks it (cpio newc, zstd), the same bytes for the same files.
//!
//! Modules are packed one by one and stand in an archive of their own that is not packed again: the kernel then copies 7 MB that
//! few machines need a tenth of, instead of unpacking 32.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use super::{
    Cpu,
    drivers::{self, Drivers},
};

/// zstd's level: slow to pack, once; small to load, each boot.
pub(super) const LEVEL: &str = "-19";

/// What an initramfs is made of.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// The processor that it is for.
    pub(super) cpu: Cpu,
    /// deploy/live.
    pub(super) recipe: &'a Path,
    /// Where the packages are unpacked.
    pub(super) packages: &'a Path,
    /// The kernel's version.
    pub(super) kernel: &'a str,
    /// The agent.
    pub(super) flasher: &'a Path,
    /// A busybox of the same suite that runs on this machine, to be asked for its applets: Debian builds it alike for all.
    pub(super) own_busybox: &'a Path,
}

/// Lays the files out in this folder, anew, and says which of them are drivers'.
pub(super) fn tree(shell: &Shell, parts: &Parts<'_>, tree: &Path) -> Result<Drivers> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    fs::create_dir_all(tree.join("bin"))?;
    fs::copy(busybox(parts.packages)?, tree.join("bin/busybox")).context("copying busybox")?;
    let own = parts.own_busybox;
    let applets =
        cmd!(shell, "{own} --list").quiet().read().context("asking busybox for its applets")?;
    for needed in ["sh", "mount", "udhcpc", "wget", "ip", "usleep", "reboot"] {
        ensure!(applets.lines().any(|applet| applet == needed), "this busybox has no {needed}");
    }
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet))?;
    }
    let agent = tree.join("bin/bty-flasher");
    fs::copy(parts.flasher, &agent).context("copying the agent")?;
    let strip = format!("{}strip", parts.cpu.tools());
    cmd!(shell, "{strip} {agent}")
        .quiet()
        .run()
        .context("stripping the agent (package binutils)")?;
    for file in ["init", "udhcpc.script"] {
        fs::copy(parts.recipe.join(file), tree.join(file))
            .with_context(|| format!("copying deploy/live/{file}"))?;
        fs::set_permissions(tree.join(file), fs::Permissions::from_mode(0o755))?;
    }
    drivers::lay_out(shell, parts, tree)
}

/// The busybox among these packages.
pub(super) fn busybox(packages: &Path) -> Result<PathBuf> {
    first_of(packages, &["usr/bin/busybox", "bin/busybox"])
}

fn first_of(root: &Path, names: &[&str]) -> Result<PathBuf> {
    let found = names.iter().map(|name| root.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("none of {} is in the packages", names.join(", ")))
}

/// Packs the folder.
pub(crate) fn write(tree: &Path, image: &Path) -> Result<()> {
    let (packed, plain): (Vec<_>, Vec<_>) =
        paths_below(tree)?.into_iter().partition(|path| is_packed(path));
    pack(tree, &packed, &plain, image)
}

/// Packs it in parts: one with all that every machine needs, and one for each driver, which a server puts together.
pub(super) fn write_parts(tree: &Path, drivers: &Drivers, into: &Path) -> Result<()> {
    let plain: Vec<_> = paths_below(tree)?.into_iter().filter(|path| !is_packed(path)).collect();
    pack(tree, &drivers.of_every_machine(), &plain, &into.join("base.img"))?;
    let modules = into.join("modules");
    if modules.exists() {
        fs::remove_dir_all(&modules)?;
    }
    fs::create_dir_all(&modules)?;
    for driver in &drivers.all {
        let part = modules.join(format!("{}.img", driver.name));
        let mut file = BufWriter::new(fs::File::create(part).context("making a driver's part")?);
        archive(tree, &with_folders(tree, &driver.files), &mut file)?;
        file.flush()?;
    }
    Ok(())
}

/// An archive of the files that are packed already, and a packed one of the others.
fn pack(tree: &Path, packed: &[PathBuf], plain: &[PathBuf], image: &Path) -> Result<()> {
    let mut file = BufWriter::new(fs::File::create(image).context("making the initramfs")?);
    if !packed.is_empty() {
        archive(tree, &with_folders(tree, packed), &mut file)?;
    }
    file.flush()?;
    let mut zstd = Command::new("zstd")
        .args(["--quiet", "--stdout", "-T0", LEVEL])
        .stdin(Stdio::piped())
        .stdout(file.into_inner().context("writing the initramfs")?)
        .spawn()
        .context("starting zstd")?;
    let mut input = BufWriter::new(zstd.stdin.take().context("zstd without an input")?);
    archive(tree, plain, &mut input)?;
    drop(input);
    let status = zstd.wait()?;
    ensure!(status.success(), "zstd ended with {status}");
    Ok(())
}

/// These paths and the folders that they are in, sorted.
fn with_folders(tree: &Path, paths: &[PathBuf]) -> Vec<PathBuf> {
    let above = |path: &'_ PathBuf| {
        path.ancestors().take_while(|above| *above != tree).map(Path::to_owned).collect::<Vec<_>>()
    };
    let wanted: BTreeSet<PathBuf> = paths.iter().flat_map(above).collect();
    wanted.into_iter().collect()
}

fn is_packed(path: &Path) -> bool {
    path.extension() == Some("zst".as_ref())
}

/// Everything below a folder, sorted.
pub(super) fn paths_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if fs::symlink_metadata(&path)?.is_dir() {
                pending.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// These paths below the folder as a cpio archive of the format that the kernel reads
/// (Documentation/driver-api/early-userspace/buffer-format.rst): owned by root, without times, in whole blocks of four bytes.
fn archive(tree: &Path, paths: &[PathBuf], out: &mut impl Write) -> Result<()> {
    for (number, path) in (1_u32..).zip(paths) {
        let name = path.strip_prefix(tree)?.to_string_lossy().into_owned();
        let metadata = fs::symlink_metadata(path)?;
        let (kind, content) = if metadata.is_dir() {
            (0o040_000, Vec::new())
        } else if metadata.is_symlink() {
            (0o120_000, fs::read_link(path)?.to_string_lossy().into_owned().into_bytes())
        } else {
            (0o100_000, fs::read(path)?)
        };
        let permissions =
            if metadata.is_symlink() { 0o777 } else { metadata.permissions().mode() & 0o777 };
        record(out, number, &name, kind | permissions, &content)?;
    }
    record(out, 0, "TRAILER!!!", 0, &[])
}

fn record(out: &mut impl Write, inode: u32, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let name_bytes = u32::try_from(name.len() + 1)?;
    let content_bytes = u32::try_from(content.len())?;
    // Fields: inode, mode, uid, gid, links, time, size, four device numbers, length of the name, checksum.
    let fields = [inode, mode, 0, 0, 1, 0, content_bytes, 0, 0, 0, 0, name_bytes, 0];
    let mut head = String::from("070701");
    for field in fields {
        head += &format!("{field:08X}");
    }
    head += name;
    head.push('\0');
    out.write_all(head.as_bytes())?;
    out.write_all(padding(head.len()))?;
    out.write_all(content)?;
    out.write_all(padding(content.len()))?;
    Ok(())
}

fn padding(length: usize) -> &'static [u8] {
    let zeros = &[0; 3];
    zeros.get(..(4 - length % 4) % 4).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_are_the_same_archive_and_cpio_reads_it() {
        let folder = std::env::temp_dir().join(format!("bty-xtask-{}", std::process::id()));
        fs::create_dir_all(folder.join("tree/bin")).unwrap();
        fs::write(folder.join("tree/bin/one"), "first").unwrap();
        std::os::unix::fs::symlink("one", folder.join("tree/bin/two")).unwrap();
        let tree = folder.join("tree");
        let pack = || {
            let mut out = Vec::new();
            archive(&tree, &paths_below(&tree).unwrap(), &mut out).unwrap();
            out
        };
        let once = pack();
        assert_eq!(once, pack());
        fs::write(folder.join("archive"), &once).unwrap();
        let listed = Command::new("cpio")
            .arg("-t")
            .stdin(fs::File::open(folder.join("archive")).unwrap())
            .output()
            .expect("cpio is needed for this test");
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "bin\nbin/one\nbin/two\n");
    }
}
