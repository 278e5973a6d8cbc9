//! The drivers of a live system: kernel modules, and the firmware that they ask for, each packed by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use super::{
    initramfs::{LEVEL, Parts},
    modules,
};

/// The drivers of a live system.
#[derive(Debug)]
pub(super) struct Drivers {
    /// All of them.
    pub(super) all: Vec<Driver>,
    /// Firmware that modules ask for and that no package has.
    pub(super) absent: Vec<String>,
}

/// A kernel module.
#[derive(Debug)]
pub(super) struct Driver {
    /// Its name, as the kernel shows it.
    pub(super) name: String,
    /// Its file and its firmware's, in the tree.
    pub(super) files: Vec<PathBuf>,
    /// Whether every machine gets it.
    is_for_every: bool,
}

impl Drivers {
    /// The files that every machine gets.
    pub(super) fn of_every_machine(&self) -> Vec<PathBuf> {
        let every = self.all.iter().filter(|driver| driver.is_for_every);
        every.flat_map(|driver| driver.files.iter().cloned()).collect()
    }
}

/// Lays out the modules of the recipe's list with what they need.
pub(super) fn lay_out(shell: &Shell, parts: &Parts<'_>, tree: &Path) -> Result<Drivers> {
    let Parts { cpu, recipe, packages, kernel, .. } = *parts;
    let from = packages.join("usr/lib/modules").join(kernel);
    // The package is unpacked, not installed: its lists are made here.
    let usr = packages.join("usr");
    cmd!(shell, "/sbin/depmod -b {usr} {kernel}")
        .quiet()
        .run()
        .context("running depmod (package kmod)")?;
    let read =
        |name: &str| fs::read_to_string(from.join(name)).with_context(|| format!("reading {name}"));
    let (dependencies, builtin) = (read("modules.dep")?, read("modules.builtin")?);
    let files: Vec<String> =
        dependencies.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect();
    let list = fs::read_to_string(recipe.join("modules.list"))
        .context("reading deploy/live/modules.list")?;
    let closure = |names: &[String]| modules::closure(names, &files, &dependencies, &builtin);
    let every = closure(&modules::every(&list))?;
    let into = tree.join("lib/modules").join(kernel);
    let mut laid = BTreeMap::new();
    for file in closure(&modules::names(&list, cpu))? {
        let module = copy_module(&from, &file, &into)?;
        laid.insert(module, every.contains(&file));
    }
    lists(shell, &from, &into, tree, kernel)?;
    with_firmware(shell, packages, tree, laid)
}

/// Copies a module, unpacked, and says where it is.
fn copy_module(from: &Path, file: &str, into: &Path) -> Result<PathBuf> {
    let unpacked = file.strip_suffix(".xz");
    let plain = into.join(unpacked.unwrap_or(file));
    fs::create_dir_all(plain.parent().context("a module in no folder")?)?;
    let packed = from.join(file);
    if unpacked.is_some() {
        let module = Command::new("xz").arg("-dc").arg(&packed).output().context("starting xz")?;
        ensure!(module.status.success(), "unpacking {file} ended with {}", module.status);
        fs::write(&plain, module.stdout)?;
    } else {
        fs::copy(&packed, &plain)?;
    }
    Ok(plain)
}

/// The lists by which the agent finds the modules of a device.
fn lists(shell: &Shell, from: &Path, into: &Path, tree: &Path, kernel: &str) -> Result<()> {
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(from.join(list), into.join(list)).with_context(|| format!("copying {list}"))?;
    }
    cmd!(shell, "/sbin/depmod -b {tree} {kernel}")
        .quiet()
        .run()
        .context("running depmod (package kmod)")?;
    // The agent reads the text lists; the binary ones are kmod's.
    for entry in fs::read_dir(into)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            fs::remove_file(path)?;
        }
    }
    for done in ["modules.builtin.modinfo", "modules.order", "modules.symbols"] {
        fs::remove_file(into.join(done))?;
    }
    Ok(())
}

/// Adds the firmware that the modules ask for, and packs everything. The kernel unpacks zstd itself (`CONFIG_FW_LOADER_COMPRESS_ZSTD`).
fn with_firmware(
    shell: &Shell,
    packages: &Path,
    tree: &Path,
    modules: BTreeMap<PathBuf, bool>,
) -> Result<Drivers> {
    let mut drivers = Drivers { all: Vec::new(), absent: Vec::new() };
    let mut plain: BTreeSet<PathBuf> = BTreeSet::new();
    for (module, is_for_every) in modules {
        let mut files = vec![module.clone()];
        let asked = cmd!(shell, "/sbin/modinfo -F firmware {module}")
            .quiet()
            .read()
            .context("running modinfo (package kmod)")?;
        for name in asked.lines() {
            let into = tree.join("lib/firmware").join(name);
            let found = ["usr/lib/firmware", "lib/firmware"]
                .iter()
                .map(|folder| packages.join(folder).join(name))
                .find(|path| path.is_file());
            let Some(found) = found else {
                drivers.absent.push(format!(
                    "{} ({})",
                    name,
                    modules::name(&module.to_string_lossy())
                ));
                continue;
            };
            fs::create_dir_all(into.parent().context("firmware in no folder")?)?;
            fs::copy(&found, &into).with_context(|| format!("copying {}", found.display()))?;
            files.push(into);
        }
        plain.extend(files.iter().cloned());
        let packed = |path: PathBuf| PathBuf::from(format!("{}.zst", path.display()));
        drivers.all.push(Driver {
            name: modules::name(&module.to_string_lossy()),
            files: files.into_iter().map(packed).collect(),
            is_for_every,
        });
    }
    cmd!(shell, "zstd --quiet --rm {LEVEL} {plain...}")
        .quiet()
        .run()
        .context("packing modules and firmware")?;
    Ok(drivers)
}
