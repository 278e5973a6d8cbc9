//! A file system of the image, mounted by the kernel for this process alone.
//!
//! The mount is attached nowhere (fsmount(2)): no other process sees it, and it is gone when its descriptor is closed, also where the
//! process is killed. Nothing in it runs, is a device, or gives rights. Paths are resolved with its root as theirs (openat2(2),
//! `RESOLVE_IN_ROOT`), so no link of the image leads to this machine's own files.

use std::{io, time::Duration};

use bty_disk::device::{BlockDevice, Target};
use bty_sys::LoopDevice;
use bty_types::fix_ups::DroppedFile;
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{
        AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, fsync, mkdirat, openat,
        openat2, renameat, syncfs, unlinkat,
    },
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen,
    },
};

use super::{look::Volume, partition};
use crate::drivers;

/// A file system, mounted until this is dropped.
#[derive(Debug)]
pub(super) struct Mounted {
    root: OwnedFd,
    // After the mount, which it is below.
    _device: LoopDevice,
}

/// A file before it has its name.
const TEMPORARY: &str = ".bty-new-file";
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// udev looks at a device that appears, and XFS and btrfs want it for themselves.
const TRIES: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_millis(50);

impl Mounted {
    /// Mounts a volume for reading and writing; of btrfs this subvolume where one is named.
    pub(super) fn new(
        disk: &BlockDevice,
        volume: &Volume,
        subvolume: Option<&str>,
    ) -> Result<Self, String> {
        let device = partition::device(disk, volume)?;
        let mut tries = 0;
        loop {
            match mount(&device, volume.kind, subvolume) {
                Err((Errno::BUSY, _)) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(TRY_AGAIN);
                }
                Err((_, why)) => return Err(why),
                Ok(root) => return Ok(Self { root, _device: device }),
            }
        }
    }

    /// Its root, open for calls to the file system itself.
    pub(super) fn root(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&self.root, ".", flags, Mode::empty())?)
    }

    /// Whether this is a folder in it.
    pub(super) fn has_folder(&self, path: &str) -> bool {
        folder(self.root.as_fd(), path).is_ok()
    }

    /// Puts a file into it, whole or not at all.
    pub(super) fn put(&self, file: &DroppedFile) -> Result<(), String> {
        put(self.root.as_fd(), file).map_err(|(what, problem)| format!("{what}: {problem}"))
    }

    /// Returns when everything is on the disk.
    pub(super) fn finish(self, disk: &dyn Target) -> Result<(), String> {
        let failed = |problem: io::Error| format!("writing the file system: {problem}");
        let root = self.root().map_err(failed)?;
        syncfs(&root).map_err(|problem| failed(problem.into()))?;
        drop(root);
        drop(self);
        disk.flush().map_err(failed)
    }
}

fn mount(
    device: &LoopDevice,
    kind: &str,
    subvolume: Option<&str>,
) -> Result<OwnedFd, (Errno, String)> {
    let driver = if kind.starts_with("ext") { "ext4" } else { kind };
    let open = || fsopen(driver, FsOpenFlags::FSOPEN_CLOEXEC);
    let opened = open().or_else(|problem| match problem {
        // The live system has nothing that loads it when it is asked for.
        Errno::NODEV if drivers::load(driver).is_ok() => open(),
        other => Err(other),
    });
    let open = opened.map_err(|problem| {
        let why = match problem {
            Errno::NODEV => format!("this kernel has no driver for {driver}"),
            other => format!("fsopen {driver}: {other}"),
        };
        (problem, why)
    })?;
    let made = (|| {
        fsconfig_set_string(&open, "source", device.path())?;
        match driver {
            // A disk with the same image may be mounted on this machine.
            "xfs" => fsconfig_set_flag(&open, "nouuid")?,
            // A damaged file system may ask for a panic of the kernel that finds that out (tune2fs(8), -e).
            "ext4" => fsconfig_set_string(&open, "errors", "remount-ro")?,
            _ => {}
        }
        if let Some(subvolume) = subvolume {
            fsconfig_set_string(&open, "subvol", subvolume)?;
        }
        fsconfig_create(&open)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&open, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    })();
    made.map_err(|problem| (problem, format!("mounting {kind}: {problem}{}", said(&open))))
}

/// What the file system's driver says of its failure (fsopen(2) gives it a line a read).
fn said(open: &OwnedFd) -> String {
    let mut text = String::new();
    let mut room = [0; 512];
    for _ in 0..8 {
        let Ok(count) = rustix::io::read(open, &mut room) else { break };
        let line = room.get(..count).unwrap_or_default();
        text += "; ";
        text += String::from_utf8_lossy(line).trim().trim_start_matches(['e', 'w', 'i', ' ']);
    }
    text
}

fn folder(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), RESOLVE)
}

/// Puts a file below a root; its folders are made where they are missing, and what had its name before is replaced, not followed.
fn put(root: BorrowedFd<'_>, file: &DroppedFile) -> Result<(), (String, Errno)> {
    let (folders, name) = file.at.path.parts();
    let doing = |what: String| move |problem: Errno| (what, problem);
    let mut at = folder(root, ".").map_err(doing("opening the root".into()))?;
    let mut path = String::from(".");
    for part in folders {
        path += "/";
        path += part;
        at = match folder(root, &path) {
            Err(Errno::NOENT) => {
                let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
                mkdirat(&at, part, mode).map_err(doing(format!("making the folder {path}")))?;
                folder(root, &path)
            }
            found => found,
        }
        .map_err(doing(format!("opening the folder {path}")))?;
    }
    let _ = unlinkat(&at, TEMPORARY, AtFlags::empty());
    let written = write(at.as_fd(), file).and_then(|()| renameat(&at, TEMPORARY, &at, name));
    if written.is_err() {
        let _ = unlinkat(&at, TEMPORARY, AtFlags::empty());
    }
    written.map_err(doing(format!("writing {}", file.at.path)))
}

fn write(folder: BorrowedFd<'_>, file: &DroppedFile) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = openat(folder, TEMPORARY, flags, Mode::RUSR | Mode::WUSR)?;
    let (uid, gid) = file.owner;
    fchown(&open, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(&open, Mode::from_raw_mode(file.mode))?;
    let mut rest = file.content.bytes();
    while !rest.is_empty() {
        let count = rustix::io::write(&open, rest)?;
        rest = rest.get(count..).unwrap_or_default();
    }
    fsync(&open)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
    };

    use bty_types::fix_ups::Content;

    use super::*;

    fn drop_into(root: &std::path::Path, at: &str) -> Result<(), String> {
        let root = fs::File::open(root).unwrap();
        let own = fs::metadata("/proc/self").unwrap();
        let owner = (own.uid(), own.gid());
        let file = DroppedFile {
            at: at.parse().unwrap(),
            content: Content::new(b"new".to_vec()),
            mode: 0o640,
            owner,
        };
        put(root.as_fd(), &file).map_err(|(what, problem)| format!("{what}: {problem}"))
    }

    #[test]
    fn no_link_of_the_image_leads_to_a_file_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("real")).unwrap();
        fs::write(folder.path().join("own"), "own").unwrap();
        let outside = folder.path().display().to_string();
        for (to, name) in [
            (outside.as_str(), "all"),
            ("../..", "up"),
            ("/real", "inner"),
            ("../own", "own"),
            ("/nowhere", "loose"),
        ] {
            symlink(to, root.join(name)).unwrap();
        }
        // An absolute link is one within the image.
        drop_into(&root, "1:/inner/a").unwrap();
        assert_eq!(fs::read_to_string(root.join("real/a")).unwrap(), "new");
        // One that leads up ends at the image's root.
        drop_into(&root, "1:/up/own2").unwrap();
        assert_eq!(fs::read_to_string(root.join("own2")).unwrap(), "new");
        assert!(drop_into(&root, "1:/all/x").is_err());
        assert!(drop_into(&root, "1:/loose/x").is_err());
        // The link is replaced, not what it leads to.
        drop_into(&root, "1:/own").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("own")).unwrap(), "own");
        assert_eq!(fs::read_to_string(root.join("own")).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something is outside");
    }

    #[test]
    fn folders_are_made_and_a_folder_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        drop_into(folder.path(), "1:/a/b/c").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("a/b/c")).unwrap(), "new");
        let shown = drop_into(folder.path(), "1:/a/b").unwrap_err();
        assert!(shown.contains("writing /a/b"), "{shown}");
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1, "a piece is left");
    }
}
