//! A disk that is slow to read: the kernel holds back those who read it (cgroup v1 `blkio.throttle`, cgroup v2 `io.max`).

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

const V1: &str = "/sys/fs/cgroup/blkio";
const V2: &str = "/sys/fs/cgroup";

/// A group of processes that may read a device at this rate only.
#[derive(Debug)]
pub(super) struct SlowDisk {
    group: PathBuf,
    bytes_per_second: u64,
    is_v1: bool,
}

impl SlowDisk {
    pub(super) fn new(bytes_per_second: u64) -> Result<Self> {
        let is_v1 = PathBuf::from(V1).is_dir();
        let name = format!("bty-bench-{}", std::process::id());
        let group = PathBuf::from(if is_v1 { V1 } else { V2 }).join(name);
        fs::create_dir(&group)
            .with_context(|| format!("making the control group {}", group.display()))?;
        Ok(Self { group, bytes_per_second, is_v1 })
    }

    /// What a shell does so that it, and what it starts, reads this device slowly.
    pub(super) fn enter(&self) -> String {
        let (group, rate) = (self.group.display(), self.bytes_per_second);
        let number = "$(lsblk --nodeps --noheadings --output MAJ:MIN $D | tr -d \" \")";
        let limit = if self.is_v1 {
            format!("echo \"{number} {rate}\" > {group}/blkio.throttle.read_bps_device")
        } else {
            format!("echo \"{number} rbps={rate}\" > {group}/io.max")
        };
        format!("{limit}; echo $$ > {group}/cgroup.procs")
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.group);
    }
}
