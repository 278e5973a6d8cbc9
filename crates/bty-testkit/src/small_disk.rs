//! A file system that is soon full.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{child::Program, require_root};

/// The file that takes up what is free.
const FILLER: &str = "filler";
const PIECE: [u8; 4096] = [0x5a; 4096];

/// A file system of a few MiB in memory, mounted on a folder. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Makes the folder and mounts the file system on it. What it is called says whose it is, so that the next lab sweeps what a
    /// killed test left.
    pub fn mount(folder: &Path, size_bytes: u64) -> Result<Self> {
        require_root()?;
        sweep()?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let options = format!("size={size_bytes},mode=0755");
        let name = format!("bty-{}", std::process::id());
        Program::new("mount").args(["-t", "tmpfs", "-o", &options, &name]).arg(folder).run()?;
        Ok(Self(folder.to_owned()))
    }

    /// Makes it larger or smaller.
    pub fn resize(&self, size_bytes: u64) -> Result<()> {
        let options = format!("remount,size={size_bytes}");
        Program::new("mount").args(["-o", &options]).arg(&self.0).run().map(drop)
    }

    /// Takes up all that is free.
    pub fn fill(&self) -> Result<()> {
        let path = self.0.join(FILLER);
        let mut filler = File::create(&path).context("making what fills the disk")?;
        loop {
            match filler.write(&PIECE) {
                Ok(_) => {}
                Err(problem) if problem.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(problem) => bail!("filling {}: {problem}", self.0.display()),
            }
        }
    }

    /// Gives it back.
    pub fn make_room(&self) -> Result<()> {
        fs::remove_file(self.0.join(FILLER)).context("removing what fills the disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// At once for everybody who looks, and for good when the last file in it is closed.
fn unmount(folder: &Path) {
    let _ = Program::new("umount").arg("--lazy").arg(folder).output();
}

/// Unmounts those whose process is dead.
pub(crate) fn sweep() -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts").context("reading what is mounted")?;
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(folder), Some("tmpfs")) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let owner = name.strip_prefix("bty-").and_then(|owner| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner.to_string()).exists()) {
            unmount(Path::new(folder));
        }
    }
    Ok(())
}
