//! NTFS, by the field's own tools: those of ntfs-3g write to a device, without a mount.

use std::{ffi::OsStr, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use bty_disk::device::{BlockDevice, Target};
use bty_sys::LoopDevice;
use bty_types::fix_ups::DroppedFile;

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
    let failed = |problem| format!("writing a temporary file: {problem}");
    let source = Source::new(file).map_err(failed)?;
    let device = partition::device(disk, volume)?;
    let path = file.at.path.as_str();
    let arguments = [device.path().as_os_str(), source.0.as_os_str(), OsStr::new(path)];
    tool::run(&program, &arguments)?;
    finish(disk, &device)
}

/// The content as a file, for this user alone and until it is dropped.
struct Source(std::path::PathBuf);

impl Source {
    fn new(file: &DroppedFile) -> std::io::Result<Self> {
        let name = format!("bty-{}-{:p}", std::process::id(), file);
        let path = std::env::temp_dir().join(name);
        let mut options = std::fs::File::options();
        let mut open = options.write(true).create_new(true).mode(0o600).open(&path)?;
        let source = Self(path);
        open.write_all(file.content.bytes())?;
        Ok(source)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        // It is for root's eyes only; there is nobody to tell.
        let _ = std::fs::remove_file(path);
    }
}
