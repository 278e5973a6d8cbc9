//! Loop devices as disks, and running the program on them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use bty_testkit::{child::Program, small_disk::SmallDisk};
use tempfile::TempDir;

/// The program under test.
pub(crate) const FLASHER: &str = env!("CARGO_BIN_EXE_bty-flasher");
/// What a disk is full of before it is written.
pub(crate) const OLD: u8 = 0xA5;

/// A loop device over a file of its own. Detached when dropped.
pub(crate) struct LoopDisk {
    /// Unmounted before its folder goes.
    small: Option<SmallDisk>,
    folder: TempDir,
    node: String,
}

impl LoopDisk {
    /// A disk full of old data.
    pub(crate) fn new(bytes: usize, sector_bytes: u32) -> Self {
        Self::with(bytes, sector_bytes, &[])
    }

    /// One that the kernel refuses to write.
    pub(crate) fn read_only(bytes: usize) -> Self {
        Self::with(bytes, 512, &["--read-only"])
    }

    fn with(bytes: usize, sector_bytes: u32, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backing = folder.path().join("disk");
        fs::write(&backing, vec![OLD; bytes]).unwrap();
        Self::over(folder, &backing, sector_bytes, more)
    }

    /// A disk without data; takes no room on the machine's own.
    pub(crate) fn sparse(bytes: u64) -> Self {
        Self::sized(bytes, 512)
    }

    /// The same with sectors of this size.
    pub(crate) fn sized(bytes: u64, sector_bytes: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backing = folder.path().join("disk");
        fs::File::create(&backing).unwrap().set_len(bytes).unwrap();
        Self::over(folder, &backing, sector_bytes, &[])
    }

    /// One without data that fails where more than `room_bytes` of it are written.
    pub(crate) fn failing(bytes: u64, sector_bytes: u32, room_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let small = SmallDisk::mount(folder.path(), room_bytes).unwrap();
        let backing = folder.path().join("disk");
        fs::File::create(&backing).unwrap().set_len(bytes).unwrap();
        let mut disk = Self::over(folder, &backing, sector_bytes, &[]);
        disk.small = Some(small);
        disk
    }

    /// Has one that fails fail no more.
    pub(crate) fn mend(&self, room_bytes: u64) {
        self.small.as_ref().unwrap().resize(room_bytes).unwrap();
    }

    fn over(folder: TempDir, backing: &Path, sector_bytes: u32, more: &[&str]) -> Self {
        let node = Program::new("losetup")
            .args(["--find", "--show", "--sector-size", &sector_bytes.to_string()])
            .args(more)
            .arg(backing)
            .run()
            .expect("these tests need losetup (package util-linux), root, and the loop driver");
        Self { small: None, node: node.trim().to_owned(), folder }
    }

    /// Its node, such as `/dev/loop3`.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// What it holds.
    pub(crate) fn content(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("disk")).unwrap()
    }

    /// The file that holds what it holds.
    pub(crate) fn file(&self) -> fs::File {
        fs::File::options().read(true).write(true).open(self.folder.path().join("disk")).unwrap()
    }

    /// Asserts that not a byte was written.
    pub(crate) fn assert_untouched(&self) {
        assert!(self.content().iter().all(|&byte| byte == OLD), "something was written");
    }

    /// Asserts that nothing is where firmware looks for boot code and partition tables.
    pub(crate) fn assert_not_bootable(&self) {
        let content = self.content();
        let (head, tail) = (&content[..64 * 1024], &content[content.len() - 64 * 1024..]);
        assert!(head.iter().all(|&byte| byte == 0), "the disk has a beginning");
        assert!(tail.iter().all(|&byte| byte == 0), "the disk has an end");
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Program::new("losetup").args(["--detach", &self.node]).run();
    }
}

/// Runs `bty-flasher` to its end.
pub(crate) fn flasher(arguments: &[&str]) -> Output {
    Program::new(FLASHER).args(arguments).output().unwrap()
}

/// Runs `bty-flasher write` without asking, with its progress as JSON lines.
pub(crate) fn write(image: &str, disk: &LoopDisk) -> Output {
    flasher(&["write", image, disk.node(), "--yes", "--output", "json"])
}

/// The exit code and what was complained of.
pub(crate) fn failure(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The record: the last line of standard output.
pub(crate) fn record(output: &Output) -> serde_json::Value {
    let (code, complaint) = failure(output);
    assert_eq!(code, Some(0), "{complaint}");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file below a folder, as an owned path.
pub(crate) fn below(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}
