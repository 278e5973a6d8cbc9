//! Making the last partition's file system as large as the partition: ext4, XFS and btrfs by the kernel's own drivers, on a mount that
//! nobody sees; ext4 where the kernel refuses by resize2fs, and NTFS by ntfsresize.

use std::io;

use bty_disk::device::BlockDevice;
use rustix::fd::AsFd;

use super::{
    FixUpResult, ext,
    look::{Volume, look},
    mounted::Mounted,
    ntfs,
};

const NAME: &str = "grow-file-system";
/// The largest block that ext4 has.
const EXT4_MOST_BLOCK: u64 = 65536;

pub(super) fn fix(disk: &BlockDevice) -> FixUpResult {
    let volume = match look(disk) {
        Ok(volumes) => last(volumes),
        Err(problem) => return FixUpResult::failed(NAME, format!("reading the disk: {problem}")),
    };
    let Some(volume) = volume else {
        return FixUpResult::failed(NAME, "the disk has no partition");
    };
    let number = volume.number();
    let called = if volume.kind.is_empty() { "nothing that is known" } else { volume.kind };
    let grown = match volume.kind {
        "ntfs" => ntfs::grow(disk, &volume).map(|()| true),
        kind if kind.starts_with("ext") => grow(disk, &volume)
            .or_else(|why| ext::grow(disk, &volume).map_err(|none| format!("{why}; {none}"))),
        _ if volume.is_linux() => grow(disk, &volume),
        _ => Err(format!("partition {number} holds {called}, which is not grown")),
    };
    match grown {
        Ok(true) => FixUpResult::done(NAME, format!("the {called} of partition {number} fills it")),
        Ok(false) => FixUpResult::not_needed(
            NAME,
            format!("the {called} of partition {number} fills it already"),
        ),
        Err(why) => FixUpResult::failed(NAME, why),
    }
}

/// The partition whose end comes last, but the seed's.
fn last(volumes: Vec<Volume>) -> Option<Volume> {
    let is_seed = |volume: &Volume| volume.label.eq_ignore_ascii_case(super::cidata::LABEL);
    let end = |volume: &Volume| volume.partition.start_bytes + volume.partition.size_bytes;
    volumes.into_iter().filter(|volume| !is_seed(volume)).max_by_key(end)
}

fn grow(disk: &BlockDevice, volume: &Volume) -> Result<bool, String> {
    let mounted = Mounted::new(disk, volume, None)?;
    let bytes = volume.partition.size_bytes;
    let failed = |problem: io::Error| format!("growing the {}: {problem}", volume.kind);
    let root = mounted.root().map_err(failed)?;
    let grown = match volume.kind {
        "xfs" => bty_sys::grow_xfs(root.as_fd(), bytes),
        "btrfs" => bty_sys::grow_btrfs(root.as_fd()).map(|()| true),
        _ => grow_ext4(root.as_fd(), bytes),
    };
    drop(root);
    let grown = grown.map_err(failed)?;
    mounted.finish(disk)?;
    Ok(grown)
}

fn grow_ext4(root: rustix::fd::BorrowedFd<'_>, bytes: u64) -> io::Result<bool> {
    let now = rustix::fs::fstatvfs(root)?;
    let block = now.f_frsize.clamp(1024, EXT4_MOST_BLOCK);
    bty_sys::grow_ext4(root, bytes / block)?;
    let then = rustix::fs::fstatvfs(root)?;
    Ok(then.f_blocks > now.f_blocks)
}
