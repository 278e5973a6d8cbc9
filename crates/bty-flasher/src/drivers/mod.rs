//! Loads drivers in the live system: of everything that is there, and of what shows up later.
//!
//! busybox's modprobe reads and matches its text lists anew for each start, which takes an emulated processor two seconds and an
//! Atom half a one; here they are read once. What is plugged in or found later, USB and disks behind a host that is still looking,
//! is told by the kernel.

mod index;
mod uevent;

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
};

use index::Index;
use uevent::Uevents;

/// Where the kernel shows devices.
const DEVICES: &str = "/sys/devices";
/// Deeper than any device hangs.
const MOST_LEVELS: usize = 32;

/// Loads the drivers of all devices, makes the file `ready`, and goes on with what comes. Returns only where that fails.
pub(crate) fn run(ready: &Path) -> io::Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let folder = Path::new("/lib/modules").join(release.trim());
    let mut loader = Loader::new(&folder)?;
    // Heard from now on, so that nothing falls between looking and listening.
    let uevents = Uevents::open()?;
    loader.load_for_all(Path::new(DEVICES));
    fs::write(ready, "")?;
    loop {
        if let Some(alias) = uevents.next_modalias()? {
            loader.load_for(&alias);
        }
    }
}

/// What was loaded, and from where.
struct Loader {
    folder: PathBuf,
    index: Index,
    /// Modules that were tried, with or without success.
    tried: HashSet<String>,
    /// Devices' aliases that were looked up.
    seen: HashSet<String>,
}

impl Loader {
    fn new(folder: &Path) -> io::Result<Self> {
        let read = |name: &str| fs::read_to_string(folder.join(name));
        let index =
            Index::parse(&read("modules.alias")?, &read("modules.dep")?, &read("modules.softdep")?);
        Ok(Self { folder: folder.to_owned(), index, tried: HashSet::new(), seen: HashSet::new() })
    }

    /// Buses bring new devices, so until a round finds nothing new.
    fn load_for_all(&mut self, devices: &Path) {
        loop {
            let before = self.seen.len();
            let mut aliases = Vec::new();
            collect(devices, 0, &mut aliases);
            for alias in aliases {
                self.load_for(&alias);
            }
            if self.seen.len() == before {
                return;
            }
        }
    }

    fn load_for(&mut self, alias: &str) {
        if !self.seen.insert(alias.to_owned()) {
            return;
        }
        for file in self.index.files_for(alias) {
            if self.tried.insert(file.clone())
                && let Err(problem) = load(&self.folder.join(&file))
            {
                eprintln!("loading {file} for {alias}: {problem}");
            }
        }
    }
}

fn load(module: &Path) -> io::Result<()> {
    match finit_module(File::open(module)?, c"", ModuleInitFlags::empty()) {
        // It is there already.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(problem) => Err(problem.into()),
    }
}

/// The aliases of all devices beneath a folder of `/sys`.
fn collect(folder: &Path, level: usize, aliases: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return }; // The device has gone.
    for entry in entries.filter_map(Result::ok) {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && level < MOST_LEVELS {
            collect(&entry.path(), level + 1, aliases);
        } else if kind.is_file() && entry.file_name() == "modalias" {
            let alias = fs::read_to_string(entry.path()).unwrap_or_default();
            aliases.push(alias.trim_end().to_owned());
        }
    }
}
