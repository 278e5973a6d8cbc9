//! Loads drivers in the live system: of everything that is there, and of what shows up later.
//!
//! busybox's modprobe reads and matches its text lists anew for each start, which takes an emulated processor two seconds and an
//! Atom half a one; here they are read once. What is plugged in or found later, USB and disks behind a host that is still looking,
//! is told by the kernel.
//!
//! All drivers look for their devices at the same time, beside the rest of the start: a SATA host looks at its empty ports for half
//! a second, a network card takes three to find its link.

mod index;
mod uevent;

use std::{
    collections::{BTreeSet, HashSet},
    ffi::{CStr, CString},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use nix::{
    errno::Errno,
    kmod::{DeleteModuleFlags, delete_module, init_module},
};

use index::Index;
use uevent::Uevents;

/// Where the kernel shows devices, by bus.
const BUSES: &str = "/sys/bus";
/// A small module that nothing needs, and that no processor's kernel has built in.
const FENCE: &str = "crc7";
/// Any module takes it (kernel-parameters.txt): its load doesn't wait until its devices are found.
const SIDE_BY_SIDE: &CStr = c"async_probe";

/// Loads the drivers of all devices, makes the file `ready` once those have found what they drive, and goes on with what comes.
/// The file names the modules that devices ask for and that this live system was loaded without, one a line. Returns only where
/// that fails.
pub(crate) fn run(ready: &Path) -> io::Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let modules = Modules::of(&release);
    let loader = Arc::new(Mutex::new(Loader::new(modules.clone())?));
    // Heard from now on, so that nothing falls between looking and listening.
    let uevents = Uevents::open()?;
    let (tell, outcomes) = mpsc::channel();
    thread::spawn({
        let (loader, ready, tell) = (Arc::clone(&loader), ready.to_owned(), tell.clone());
        move || {
            // What is missing is told whatever came of the others: without the list the server can't help.
            let settled = settle(&loader, &modules);
            let told = lock(&loader).tell_missing(&ready);
            let _ = tell.send(settled.and(told));
        }
    });
    thread::spawn(move || {
        let failed = loop {
            match uevents.next_modalias() {
                Ok(Some(alias)) => {
                    if let Err(problem) = lock(&loader).load_late(&alias) {
                        break problem;
                    }
                }
                Ok(None) => {}
                Err(problem) => break problem,
            }
        };
        let _ = tell.send(Err(failed));
    });
    outcomes.into_iter().collect()
}

/// Loads a module that no device asks for, and what it needs. One that the kernel has built in is there already.
pub(crate) fn load(module: &str) -> io::Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let modules = Modules::of(&release);
    let files = Loader::new(modules.clone())?.index.files_of(module);
    files.iter().try_for_each(|file| modules.load(file, c""))
}

/// Buses bring new devices, so until a look after all were found shows no new one.
fn settle(loader: &Mutex<Loader>, modules: &Modules) -> io::Result<()> {
    let mut known = 0;
    loop {
        let now = lock(loader).load_for_all(Path::new(BUSES));
        if now == known {
            return Ok(());
        }
        known = now;
        modules.wait_for_probes()?;
    }
}

fn lock(loader: &Mutex<Loader>) -> std::sync::MutexGuard<'_, Loader> {
    loader.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was loaded, and from where.
struct Loader {
    modules: Modules,
    index: Index,
    /// Modules that were tried, with or without success.
    tried: HashSet<String>,
    /// Devices' aliases that were looked up.
    seen: HashSet<String>,
    /// Modules that are on the lists and not among the files.
    missing: BTreeSet<String>,
    /// The file that names those, once it has been made.
    told: Option<PathBuf>,
}

impl Loader {
    fn new(modules: Modules) -> io::Result<Self> {
        let read = |name: &str| fs::read_to_string(modules.folder.join(name));
        let index =
            Index::parse(&read("modules.alias")?, &read("modules.dep")?, &read("modules.softdep")?);
        Ok(Self {
            modules,
            index,
            tried: HashSet::new(),
            seen: HashSet::new(),
            missing: BTreeSet::new(),
            told: None,
        })
    }

    /// Makes the file of what is missing; from now on it is kept right.
    fn tell_missing(&mut self, file: &Path) -> io::Result<()> {
        let names: String = self.missing.iter().map(|name| format!("{name}\n")).collect();
        // Whoever sees the file sees all of it.
        let whole = file.with_extension("new");
        fs::write(&whole, names)?;
        fs::rename(whole, file)?;
        self.told = Some(file.to_owned());
        Ok(())
    }

    /// Loads what drives a device that has just come.
    fn load_late(&mut self, alias: &str) -> io::Result<()> {
        let before = self.missing.len();
        self.load_for(alias);
        match self.told.take() {
            Some(file) if self.missing.len() > before => self.tell_missing(&file),
            told => {
                self.told = told;
                Ok(())
            }
        }
    }

    /// Loads what drives the devices that are there, and gives how many sorts of devices have been seen so far.
    fn load_for_all(&mut self, buses: &Path) -> usize {
        let mut aliases = aliases(buses);
        aliases.sort_by_key(|alias| Urgency::of(alias));
        for alias in aliases {
            self.load_for(&alias);
        }
        self.seen.len()
    }

    fn load_for(&mut self, alias: &str) {
        if !self.seen.insert(alias.to_owned()) {
            return;
        }
        for file in self.index.files_for(alias) {
            if !self.tried.insert(file.clone()) {
                continue;
            }
            // The kernel may say the same of a module that is there, where it does not find what the module needs.
            let loaded = match self.modules.open(&file) {
                Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
                    self.missing.insert(index::name(&file));
                    continue;
                }
                Err(problem) => Err(problem),
                Ok(packed) => self.modules.insert(packed, SIDE_BY_SIDE),
            };
            if let Err(problem) = loaded {
                eprintln!("loading {file} for {alias}: {problem}");
            }
        }
    }
}

/// The modules of the kernel that runs, each packed by itself.
#[derive(Debug, Clone)]
struct Modules {
    folder: PathBuf,
    /// Gives the kernel a module, with its parameters.
    init: fn(&[u8], &CStr) -> nix::Result<()>,
}

impl Modules {
    /// Those of this release.
    fn of(release: &str) -> Self {
        Self { folder: Path::new("/lib/modules").join(release.trim()), init: init_module }
    }

    fn load(&self, file: &str, parameters: &CStr) -> io::Result<()> {
        self.insert(self.open(file)?, parameters)
    }

    fn open(&self, file: &str) -> io::Result<File> {
        File::open(self.folder.join(format!("{file}.zst")))
    }

    fn insert(&self, packed: File, parameters: &CStr) -> io::Result<()> {
        match (self.init)(&zstd::decode_all(packed)?, parameters) {
            // It is there already.
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(problem) => Err(problem.into()),
        }
    }

    /// Waits until no driver looks for its devices any more: a module that is loaded without [`SIDE_BY_SIDE`] waits for all
    /// (`do_init_module` in kernel/module/main.c).
    fn wait_for_probes(&self) -> io::Result<()> {
        self.load(&format!("kernel/lib/{FENCE}.ko"), c"")?;
        Ok(delete_module(&CString::new(FENCE)?, DeleteModuleFlags::O_NONBLOCK)?)
    }
}

/// The aliases of all devices.
fn aliases(buses: &Path) -> Vec<String> {
    let list = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let devices = list(buses.to_owned()).flat_map(|bus| list(bus.path().join("devices")));
    // Not all have one, and a device may go meanwhile.
    let aliases =
        devices.filter_map(|device| fs::read_to_string(device.path().join("modalias")).ok());
    aliases.map(|alias| alias.trim_end().to_owned()).collect()
}

/// In which order drivers are loaded: what takes longest to find its devices, then what is needed next.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Disk,
    Network,
    Other,
}

impl Urgency {
    /// By the base class of a PCI device, or the type of a virtio one.
    fn of(alias: &str) -> Self {
        let class = alias.starts_with("pci:").then(|| alias.split_once("bc")).flatten();
        match class.and_then(|(_, class)| class.get(..2)) {
            Some("01") => Self::Disk,
            Some("02") => Self::Network,
            _ if alias.starts_with("virtio:d00000001v") => Self::Network,
            _ if alias.starts_with("virtio:d00000002v") => Self::Disk,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loader whose lists name three modules, none of which is there, and a kernel that takes none.
    fn loader() -> (tempfile::TempDir, Loader) {
        let folder = tempfile::tempdir().unwrap();
        let modules = Modules { folder: folder.path().to_owned(), init: |_, _| Err(Errno::ENOENT) };
        let lists = [
            ("modules.alias", "alias pci:v1* one-card\nalias usb:v2* two\n"),
            ("modules.dep", "kernel/one-card.ko: kernel/bus.ko\nkernel/two.ko:\nkernel/bus.ko:\n"),
            ("modules.softdep", ""),
        ];
        for (name, text) in lists {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let loader = Loader::new(modules).unwrap();
        (folder, loader)
    }

    #[test]
    fn a_module_that_the_kernel_does_not_take_is_not_missing() {
        let (folder, mut loader) = loader();
        fs::create_dir(folder.path().join("kernel")).unwrap();
        let packed = zstd::encode_all(&b"module"[..], 1).unwrap();
        fs::write(folder.path().join("kernel/two.ko.zst"), packed).unwrap();
        let problem = loader.modules.load("kernel/two.ko", c"").unwrap_err();
        assert_eq!(problem.kind(), io::ErrorKind::NotFound, "a symbol is unknown");
        loader.load_for("usb:v2p3");
        assert!(loader.missing.is_empty(), "{:?}", loader.missing);
    }

    #[test]
    fn what_this_live_system_was_loaded_without_is_told_once_and_kept_right() {
        let (folder, mut loader) = loader();
        let ready = folder.path().join("ready");
        loader.load_for("pci:v1d2");
        loader.tell_missing(&ready).unwrap();
        assert_eq!(fs::read_to_string(&ready).unwrap(), "bus\none_card\n");
        loader.load_late("usb:v2p3").unwrap();
        loader.load_late("usb:v9").unwrap();
        assert_eq!(fs::read_to_string(&ready).unwrap(), "bus\none_card\ntwo\n");
    }

    #[test]
    fn disks_come_first_then_the_network() {
        let mut aliases = [
            "usb:v1D6Bp0002d0612dc09dsc00dp01ic09isc00ip00in00",
            "virtio:d00000004v00001AF4",
            "virtio:d00000001v00001AF4",
            "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
            "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00",
            "virtio:d00000002v00001AF4",
        ];
        aliases.sort_by_key(|alias| Urgency::of(alias));
        let order = aliases.map(|alias| alias.get(..20).unwrap_or(alias));
        assert_eq!(
            order,
            [
                "pci:v00008086d000029",
                "virtio:d00000002v000",
                "virtio:d00000001v000",
                "pci:v00008086d000010",
                "usb:v1D6Bp0002d0612d",
                "virtio:d00000004v000"
            ]
        );
    }
}
