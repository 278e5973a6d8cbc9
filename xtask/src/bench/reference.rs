//! The peer of the way to the first byte: an initramfs of busybox and zstd that knows its drivers, asks udhcpc for an address, and
//! runs `wget | zstd | dd`. No check of the disk, of the bytes or of the machine, and no report.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::live;

/// What its machine is made of; it looks for nothing else.
const DRIVERS: [&str; 3] = ["virtio_pci", "virtio_net", "virtio_blk"];
/// The first block has a dd of its own, whose end puts it on the disk: with one dd the kernel keeps what was written for seconds,
/// and its first byte would come later.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t devtmpfs devtmpfs /dev
export PATH=/bin
for module in /modules/*; do insmod $module; done
ip link set eth0 up
udhcpc -i eth0 -n -q -f -t 8 -T 2 -s /udhcpc.script > /dev/null 2>&1
wget -q -O - http://10.77.0.1:8098/image.zst | zstd -dcq | {
    dd of=/dev/vda bs=4M count=1 iflag=fullblock 2> /dev/null
    dd of=/dev/vda bs=4M seek=1 iflag=fullblock conv=fsync 2> /dev/null
}
echo reference: done
poweroff -f
";

/// Builds it into `folder` and gives the file.
pub(super) fn build(shell: &Shell, folder: &Path) -> Result<PathBuf> {
    let packages = live::packages_root();
    let tree = folder.join("tree");
    for sub in ["bin", "modules"] {
        fs::create_dir_all(tree.join(sub)).context("making the reference's folders")?;
    }
    let busybox = tree.join("bin/busybox");
    fs::copy(packages.join("usr/bin/busybox"), &busybox).context("copying busybox")?;
    for applet in cmd!(shell, "{busybox} --list").quiet().read()?.lines() {
        if applet != "busybox" {
            symlink("busybox", tree.join("bin").join(applet))?;
        }
    }
    with_libraries(shell, Path::new("/usr/bin/zstd"), &tree)?;
    drivers(shell, &packages, &tree.join("modules"))?;
    fs::copy(shell.current_dir().join("deploy/live/udhcpc.script"), tree.join("udhcpc.script"))?;
    fs::write(tree.join("init"), INIT)?;
    for program in ["init", "udhcpc.script"] {
        fs::set_permissions(tree.join(program), fs::Permissions::from_mode(0o755))?;
    }
    let image = folder.join("reference.img");
    live::write_initramfs(&tree, &image)?;
    Ok(image)
}

/// Copies a program and the libraries that the dynamic linker says it needs.
fn with_libraries(shell: &Shell, program: &Path, tree: &Path) -> Result<()> {
    fs::copy(program, tree.join("bin").join(program.file_name().context("no program")?))?;
    for line in cmd!(shell, "ldd {program}").quiet().read()?.lines() {
        let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) else {
            continue;
        };
        let to = tree.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a library in no folder")?)?;
        fs::copy(library, to).with_context(|| format!("copying {library}"))?;
    }
    Ok(())
}

/// The drivers and what they need, unpacked and numbered in the order in which they load.
fn drivers(shell: &Shell, packages: &Path, into: &Path) -> Result<()> {
    let kernel = live::kernel(packages)?;
    let from = packages.join("usr/lib/modules").join(kernel);
    let lists = fs::read_to_string(from.join("modules.dep")).context("reading modules.dep")?;
    let needs: HashMap<&str, &str> =
        lists.lines().filter_map(|line| line.split_once(':')).collect();
    let mut order: Vec<&str> = Vec::new();
    for driver in DRIVERS {
        let file = needs.keys().find(|file| file.ends_with(&format!("/{driver}.ko.xz")));
        let Some(file) = file else { continue }; // It is part of the kernel.
        // modules.dep(5): each after those to its right.
        let needed = needs.get(file).copied().unwrap_or_default().split_whitespace().rev();
        for module in needed.chain([*file]) {
            if !order.contains(&module) {
                order.push(module);
            }
        }
    }
    for (number, module) in order.iter().enumerate() {
        let (packed, plain) = (from.join(module), into.join(format!("{number:02}.ko")));
        let unpacked = cmd!(shell, "xz -dc {packed}").quiet().output()?.stdout;
        fs::write(plain, unpacked)?;
    }
    Ok(())
}
