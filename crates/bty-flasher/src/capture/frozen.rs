//! Mounted file systems that stand still while their disk is read, and go on whatever becomes of this process.
//!
//! A process of its own freezes and thaws them ([`guard`]): it waits for the end of a pipe that only the capture holds. So they go on after
//! an error, a signal, and even where the capture is killed (SIGKILL), which no handler would see.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use bty_disk::{Disk, InUse};
use bty_types::ErrorKind;
use nix::sys::signal::SigSet;
use rustix::fs::{AtFlags, CWD, StatxFlags};

/// What the guard says when everything stands still.
const FROZEN: &str = "frozen";

/// Why file systems were not frozen, or not thawed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FreezeError {
    /// Something else uses the disk.
    #[error("{0}: only file systems that are mounted can be frozen; stop it first")]
    OtherUse(String),
    /// A file system that this command needs itself.
    #[error(
        "{} is on the file system that would be frozen ({at}), and the capture would wait for itself: {advice}",
        path.display()
    )]
    Own {
        /// What is there.
        path: PathBuf,
        /// Where it is mounted.
        at: String,
        /// What to do.
        advice: &'static str,
    },
    /// The guard can't be had.
    #[error("starting the process that freezes and thaws")]
    Guard(#[source] io::Error),
    /// The kernel refuses.
    #[error("{0}")]
    Refused(String),
    /// They may stand still yet.
    #[error("thawing {0}: it may stand still yet; try: fsfreeze --unfreeze {0}")]
    Thaw(String),
}

impl FreezeError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::OtherUse(_) | Self::Own { .. } | Self::Refused(_) => ErrorKind::Precondition,
            Self::Guard(_) | Self::Thaw(_) => ErrorKind::Internal,
        }
    }
}

/// File systems that stand still. Dropping it thaws them.
#[derive(Debug)]
pub(crate) struct Frozen {
    guard: Child,
    mounts: Vec<String>,
}

impl Frozen {
    /// Freezes all that is mounted of a disk. `writes_to` is where this command will write.
    pub(crate) fn freeze(disk: &Disk, writes_to: Option<&Path>) -> Result<Self, FreezeError> {
        let mounts = mounts(disk, writes_to)?;
        let mut guard = Command::new("/proc/self/exe")
            .arg("thaw-guard")
            .args(&mounts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What a terminal sends to this process is not for the guard.
            .process_group(0)
            .spawn()
            .map_err(FreezeError::Guard)?;
        let mut said = String::new();
        if let Some(out) = guard.stdout.take() {
            BufReader::new(out).read_line(&mut said).map_err(FreezeError::Guard)?;
        }
        let frozen = Self { guard, mounts };
        match said.trim_end() {
            FROZEN => Ok(frozen),
            "" => Err(FreezeError::Guard(io::ErrorKind::UnexpectedEof.into())),
            problem => Err(FreezeError::Refused(problem.to_owned())),
        }
    }

    /// Thaws them, and says whether they were frozen all the time.
    pub(crate) fn thaw(mut self) -> Result<(), FreezeError> {
        if self.end() { Ok(()) } else { Err(FreezeError::Thaw(self.mounts.join(" "))) }
    }

    fn end(&mut self) -> bool {
        drop(self.guard.stdin.take());
        let is_well = self.guard.wait().is_ok_and(|status| status.success());
        if !is_well {
            // Somebody ended the guard.
            for mount in &self.mounts {
                let _ = File::open(mount).and_then(|folder| bty_sys::thaw(&folder));
            }
        }
        is_well
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if self.guard.stdin.is_some() {
            self.end();
        }
    }
}

/// One mount point of each file system of the disk that is mounted.
fn mounts(disk: &Disk, writes_to: Option<&Path>) -> Result<Vec<String>, FreezeError> {
    let mut mounts = BTreeMap::new();
    let (mut devices, mut places) = (BTreeMap::new(), BTreeMap::new());
    for user in &disk.in_use {
        let InUse::Mounted { device, at } = user else {
            return Err(FreezeError::OtherUse(user.to_string()));
        };
        mounts.entry(device).or_insert_with(|| at.clone());
        if let Ok(metadata) = fs::metadata(at) {
            devices.insert(metadata.dev(), at.clone());
        }
        places.extend(mount_id(Path::new(at)).map(|id| (id, at.clone())));
    }
    let needed = [
        (Some(Path::new("/")), "capture it from a live system, or unmounted"),
        (writes_to, "write to another disk"),
        (Some(Path::new("/proc/self/exe")), "run the program from elsewhere"),
        (Some(Path::new("/proc/self/fd/0")), "send its input and output elsewhere"),
        (Some(Path::new("/proc/self/fd/1")), "send its input and output elsewhere"),
        (Some(Path::new("/proc/self/fd/2")), "send its input and output elsewhere"),
    ];
    for (path, advice) in needed {
        let Some(path) = path else { continue };
        let device = fs::metadata(path).map(|metadata| metadata.dev());
        let at = device.ok().and_then(|device| devices.get(&device));
        // A subvolume of btrfs has another device number than the one that it is in.
        let at = at.or_else(|| mount_id(path).and_then(|id| places.get(&id)));
        if let Some(at) = at {
            return Err(FreezeError::Own { path: path.to_owned(), at: at.clone(), advice });
        }
    }
    Ok(mounts.into_values().collect())
}

/// Which mount a path is in. Links are followed.
fn mount_id(path: &Path) -> Option<u64> {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    let is_told = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    is_told.then_some(found.stx_mnt_id)
}

/// Freezes these, says so on standard output, and thaws them when standard input ends.
pub(crate) fn guard(mounts: &[PathBuf]) -> io::Result<()> {
    // Whatever else is sent here: they have to be thawed first.
    SigSet::all().thread_block()?;
    let mut frozen = Vec::new();
    let mut refused = None;
    for mount in mounts {
        match File::open(mount).and_then(|folder| bty_sys::freeze(&folder).map(|()| folder)) {
            Ok(folder) => frozen.push(folder),
            Err(problem) => {
                refused = Some(format!("freezing {}: {problem}", mount.display()));
                break;
            }
        }
    }
    // Where nobody reads or writes the pipes any more, there is nothing to be frozen for.
    let said = writeln!(io::stdout(), "{}", refused.as_deref().unwrap_or(FROZEN));
    if refused.is_none() && said.is_ok() {
        let _ = io::stdin().read_to_end(&mut Vec::new());
    }
    let mut outcome = Ok(());
    for folder in frozen.iter().rev() {
        // Each, whatever became of the others.
        let thawed = bty_sys::thaw(folder);
        outcome = outcome.and(thawed);
    }
    outcome
}
