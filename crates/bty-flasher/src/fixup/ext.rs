//! ext2, ext3 and ext4 by their own tools, unmounted: where the kernel has no driver, or its driver refuses.

use std::ffi::OsStr;

use bty_disk::device::{BlockDevice, Target};

use super::{look::Volume, partition, tool};

/// e2fsck's exit code where it has put something right.
const CORRECTED: i32 = 1;

/// Makes the file system as large as its partition; always says that it has grown.
pub(super) fn grow(disk: &BlockDevice, volume: &Volume) -> Result<bool, String> {
    let find = |name| {
        tool::find(name).ok_or_else(|| format!("{name}, which is in e2fsprogs, is not here"))
    };
    let (check, resize) = (find("e2fsck")?, find("resize2fs")?);
    let device = partition::device(disk, volume)?;
    // resize2fs wants a file system that was looked at since it was used.
    let node = device.path().as_os_str();
    tool::run_to(&check, &[OsStr::new("-f"), OsStr::new("-p"), node], CORRECTED)?;
    tool::run(&resize, &[node])?;
    let flushed = device.flush().and_then(|()| disk.flush());
    flushed.map_err(|problem| format!("writing the file system: {problem}"))?;
    Ok(true)
}
