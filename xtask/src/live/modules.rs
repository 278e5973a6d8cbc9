//! Which kernel modules go along: the listed ones and what they depend on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};

use super::Cpu;

/// The version of the one kernel below this root.
pub(crate) fn kernel(root: &Path) -> Result<String> {
    let modules = root.join("usr/lib/modules");
    let mut versions: Vec<String> = fs::read_dir(&modules)
        .with_context(|| format!("reading {}", modules.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let version = versions.pop().context("the kernel package has no modules")?;
    ensure!(versions.is_empty(), "the kernel package has modules of several kernels");
    Ok(version)
}

/// What a line of the list is for, where it isn't for all.
const EVERY: &str = "every";

/// The names in a list for this processor: words, without what follows a `#`; a line that begins with a processor's name and a
/// colon is for that one only.
pub(super) fn names(list: &str, cpu: Cpu) -> Vec<String> {
    tagged(list)
        .filter(|(tag, _)| tag.is_none_or(|tag| tag == EVERY || tag == cpu.name()))
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Those that stand behind `every:`.
pub(super) fn every(list: &str) -> Vec<String> {
    tagged(list).filter(|(tag, _)| *tag == Some(EVERY)).map(|(_, name)| name.to_owned()).collect()
}

/// Each name with the word before the colon of its line.
fn tagged(list: &str) -> impl Iterator<Item = (Option<&str>, &str)> {
    let plain = list.lines().map(|line| line.split('#').next().unwrap_or_default());
    plain.flat_map(|line| {
        let (tag, names) = match line.split_once(':') {
            Some((tag, names)) => (Some(tag.trim()), names),
            None => (None, line),
        };
        names.split_whitespace().map(move |name| (tag, name))
    })
}

/// The files of these modules and of all that they depend on, relative to the modules' folder; by `modules.dep` and
/// `modules.builtin` of the kernel package's own depmod.
pub(super) fn closure(
    names: &[String],
    files: &[String],
    dependencies: &str,
    builtin: &str,
) -> Result<BTreeSet<String>> {
    let by_name: BTreeMap<String, &str> =
        files.iter().map(|file| (name(file), file.as_str())).collect();
    let builtin: BTreeSet<String> = builtin.lines().map(name).collect();
    let needs: BTreeMap<&str, Vec<&str>> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (file, needs.split_whitespace().collect()))
        .collect();
    let mut taken = BTreeSet::new();
    let mut missing = Vec::new();
    let mut pending = Vec::new();
    for wanted in names {
        match by_name.get(&name(wanted)) {
            Some(file) => pending.push(*file),
            None if builtin.contains(&name(wanted)) => {}
            None => missing.push(wanted.as_str()),
        }
    }
    if !missing.is_empty() {
        bail!(
            "this kernel has no modules {}: correct deploy/live/modules.list, or name the processor that has them",
            missing.join(", ")
        );
    }
    while let Some(file) = pending.pop() {
        if taken.insert(file.to_owned()) {
            pending.extend(needs.get(file).into_iter().flatten());
        }
    }
    Ok(taken)
}

/// A module's name from its path or as it is written: without folders and endings, and with `_` for `-`.
pub(super) fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<String> {
        ["kernel/a/virtio-net.ko.xz", "kernel/b/failover.ko.xz", "kernel/b/other.ko.xz"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn what_a_module_depends_on_comes_along() {
        let dependencies =
            "kernel/a/virtio-net.ko.xz: kernel/b/failover.ko.xz\nkernel/b/failover.ko.xz:\n";
        let names = names("# cards\nvirtio_net # dash or not\next4\n", Cpu::X64);
        let got = closure(&names, &files(), dependencies, "kernel/fs/ext4.ko\n").unwrap();
        assert_eq!(
            got.into_iter().collect::<Vec<_>>(),
            ["kernel/a/virtio-net.ko.xz", "kernel/b/failover.ko.xz"]
        );
    }

    #[test]
    fn a_line_for_one_processor_is_not_for_the_other() {
        let list = "nvme ahci\nx64: vmd # Intel's\narm64: genet macb\nevery: crc7 uas\n";
        assert_eq!(names(list, Cpu::X64), ["nvme", "ahci", "vmd", "crc7", "uas"]);
        assert_eq!(names(list, Cpu::Arm64), ["nvme", "ahci", "genet", "macb", "crc7", "uas"]);
        assert_eq!(every(list), ["crc7", "uas"]);
    }

    #[test]
    fn a_module_that_is_not_there_is_named() {
        let shown = closure(&["gone".to_owned()], &files(), "", "").unwrap_err().to_string();
        assert!(shown.contains("gone"), "{shown}");
    }
}
