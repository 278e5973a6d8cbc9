//! NTFS, by the field's own tools: those of ntfs-3g write to a device, without a mount.

use std::{ffi::OsStr, fs::File, io::Write, os::fd::AsRawFd, path::PathBuf};

use bty_disk::device::{BlockDevice, Target};
use bty_sys::LoopDevice;
use bty_types::fix_ups::DroppedFile;
use rustix::fs::{MemfdFlags, memfd_create};

use super::{look::Volume, partition, tool};

const PACKAGE: &str = "which is in ntfs-3g, is not here";

fn finish(disk: &dyn Target, device: &LoopDevice) -> Result<(), String> {
    device
        .flush()
        .and_then(|()| disk.flush())
        .map_err(|problem| format!("writing the file system: {problem}"))
}

/// Makes the file system as large as its partition. Windows checks it at its next start.
pub(super) fn grow(disk: &BlockDevice, volume: &Volume) -> Result<(), String> {
    let program = tool::find("ntfsresize").ok_or_else(|| format!("ntfsresize, {PACKAGE}"))?;
    let device = partition::device(disk, volume)?;
    // Once for the question, once for a file system that was resized and not checked since.
    let arguments = ["--force", "--force", "--no-progress-bar"].map(OsStr::new);
    let all = [&arguments[..], &[device.path().as_os_str()]].concat();
    tool::run(&program, &all)?;
    finish(disk, &device)
}

/// Puts a file into a folder that is there.
pub(super) fn put(disk: &BlockDevice, volume: &Volume, file: &DroppedFile) -> Result<(), String> {
    let program = tool::find("ntfscp").ok_or_else(|| format!("ntfscp, {PACKAGE}"))?;
    let failed = |problem| format!("keeping the content in memory: {problem}");
    let source = Source::new(file).map_err(failed)?;
    let device = partition::device(disk, volume)?;
    let path = file.at.path.as_str();
    let arguments = [device.path().as_os_str(), source.path.as_os_str(), OsStr::new(path)];
    tool::run(&program, &arguments)?;
    finish(disk, &device)
}

/// The content as a file that is in memory alone: on no disk, and gone with this process however it ends.
struct Source {
    path: PathBuf,
    _file: File,
}

impl Source {
    fn new(file: &DroppedFile) -> std::io::Result<Self> {
        let mut open = File::from(memfd_create("bty", MemfdFlags::CLOEXEC)?);
        open.write_all(file.content.bytes())?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), open.as_raw_fd()).into();
        Ok(Self { path, _file: open })
    }
}
