//! `bty-flasher capture`: a disk becomes an image that is that disk.

use std::{fs, os::unix::fs::FileExt as _};

use bty_testkit::child::Program;

use crate::{
    disk::{FLASHER, LoopDisk, below, failure, flasher, record, text, write},
    image::Image,
};

const MIB: usize = 1 << 20;

#[test]
fn a_disk_that_is_captured_can_be_written_again() {
    let image = Image::new(9 * MIB);
    let disk = LoopDisk::new(9 * MIB, 512);
    record(&write(text(&image.container().0), &disk));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("captured.img.zst");
    let captured = flasher(&["capture", disk.node(), text(&out), "--output", "json"]);
    assert_eq!(record(&captured)["id"], image.id());
    let unpacked = Program::new("zstd").args(["-dqc"]).arg(&out).output().unwrap();
    assert!(unpacked.stdout == image.raw, "zstd unpacks something else");
    let other = LoopDisk::new(12 * MIB, 4096);
    assert_eq!(record(&write(text(&out), &other))["id"], image.id());
    assert!(other.content().starts_with(&image.raw));
    let (code, complaint) = failure(&flasher(&["capture", disk.node(), text(&out)]));
    assert_eq!(code, Some(4), "{complaint}");
    assert!(complaint.contains("exists already"), "{complaint}");
}

#[test]
fn a_disk_that_can_not_be_captured_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("captured.img.zst");
    let (code, _) = failure(&flasher(&["capture", "/dev/absent", text(&out)]));
    assert_eq!(code, Some(5));
    let nowhere = folder.path().join("absent/captured.img.zst");
    let disk = LoopDisk::new(MIB, 512);
    let (_, complaint) = failure(&flasher(&["capture", disk.node(), text(&nowhere)]));
    assert!(complaint.contains("absent/captured.img.zst"), "{complaint}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

const SECRET: &[u8] = b"what was deleted must not be in the image ";

fn tool(name: &str, arguments: &[&str]) -> String {
    Program::new(name).args(arguments).run().unwrap_or_else(|problem| {
        panic!("{name} is needed for this test, and has to succeed: {problem}")
    })
}

/// How many blocks of these bytes are what was there before anything was made.
fn old_blocks(bytes: &[u8]) -> usize {
    bytes.chunks(512).filter(|block| block.windows(SECRET.len()).any(|part| part == SECRET)).count()
}

/// A disk with a table, old data everywhere, an ext4 with a file, and swap space; the places of both.
fn system_disk(sector_bytes: u32) -> (LoopDisk, std::ops::Range<usize>, std::ops::Range<usize>) {
    let disk = LoopDisk::new(64 * MIB, sector_bytes);
    disk.file().write_all_at(&SECRET.repeat(64 * MIB / SECRET.len()), 0).unwrap();
    let sectors = |mib: usize| (mib * MIB / sector_bytes as usize).to_string();
    let (first, second) = (format!("1:{}:+40M", sectors(2)), format!("2:{}:+8M", sectors(46)));
    let table = ["--clear", "--set-alignment=1", "--new", &first, "--new", &second, disk.node()];
    tool("sgdisk", &table);
    let folder = tempfile::tempdir().unwrap();
    let part = |name: &str, mib: usize| {
        let path = below(&folder, name);
        fs::write(&path, SECRET.repeat(mib * MIB / SECRET.len() + 1)).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len((mib * MIB) as u64).unwrap();
        path
    };
    let files = below(&folder, "files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("kept"), vec![9; 3 * MIB]).unwrap();
    let ext = part("ext", 40);
    tool("mkfs.ext4", &["-q", "-F", "-E", "nodiscard", "-d", text(&files), text(&ext)]);
    let swap = part("swap", 8);
    tool("mkswap", &["-q", "-L", "pages", text(&swap)]);
    for (path, mib) in [(ext, 2), (swap, 46)] {
        disk.file().write_all_at(&fs::read(path).unwrap(), (mib * MIB) as u64).unwrap();
    }
    (disk, 2 * MIB..42 * MIB, 46 * MIB..54 * MIB)
}

#[test]
fn free_space_is_left_out_and_nothing_else() {
    for sector_bytes in [512, 4096] {
        let (disk, ext, swap) = system_disk(sector_bytes);
        let folder = tempfile::tempdir().unwrap();
        let out = below(&folder, "captured.img.zst");
        let captured = flasher(&["capture", disk.node(), text(&out), "--output", "json"]);
        let told = record(&captured);
        assert_eq!(told["file_systems"][0]["kind"], "ext4", "{told}");
        assert!(told["file_systems"][0]["free_bytes"].as_u64().unwrap() > 20 << 20, "{told}");
        let other = LoopDisk::new(64 * MIB, sector_bytes);
        assert_eq!(record(&write(text(&out), &other))["id"], told["id"]);
        let (before, after) = (disk.content(), other.content());
        assert!(before[..ext.start] == after[..ext.start], "what is before the ext4 was changed");
        assert!(before[ext.end..] == after[ext.end..], "what is behind the ext4 was changed");
        let (old, left) = (old_blocks(&before[ext.clone()]), old_blocks(&after[ext.clone()]));
        assert!(old > 40_000 && left < old / 4, "{left} of {old} old blocks are left");
        let copy = below(&folder, "ext");
        fs::write(&copy, &after[ext.clone()]).unwrap();
        tool("fsck.ext4", &["-f", "-n", text(&copy)]);
        let kept = below(&folder, "kept");
        tool("debugfs", &["-R", &format!("dump kept {}", text(&kept)), text(&copy)]);
        assert!(fs::read(&kept).unwrap() == vec![9; 3 * MIB], "a file was changed");

        let whole = below(&folder, "whole.img.zst");
        let captured =
            flasher(&["capture", disk.node(), text(&whole), "--keep-free", "--output", "json"]);
        let id = blake3::hash(&before).to_hex();
        assert_eq!(record(&captured)["id"], format!("blake3:{id}"), "--keep-free takes the disk");

        let bare = below(&folder, "bare.img.zst");
        let captured = flasher(&["capture", disk.node(), text(&bare), "--leave-out", "swap"]);
        assert_eq!(captured.status.code(), Some(0), "{}", failure(&captured).1);
        record(&write(text(&bare), &other));
        let after = other.content();
        let page = swap.start + 4096;
        assert!(before[swap.start..page] == after[swap.start..page], "the header of swap is gone");
        assert!(after[page..swap.end].iter().all(|&byte| byte == 0), "swap has content");
    }
}

#[test]
fn a_file_is_captured_as_a_disk_is_and_only_where_it_is_one() {
    let image = Image::new(3 * MIB);
    let folder = tempfile::tempdir().unwrap();
    let (raw, out) = (below(&folder, "disk.raw"), below(&folder, "out.img.zst"));
    fs::write(&raw, &image.raw).unwrap();
    let captured = flasher(&["capture", text(&raw), text(&out), "--output", "json"]);
    assert_eq!(record(&captured)["id"], image.id());
    let (code, complaint) =
        failure(&flasher(&["capture", text(&out), text(&below(&folder, "again"))]));
    assert_eq!(code, Some(2), "{complaint}");
    assert!(complaint.contains("is no raw disk (zstd)"), "{complaint}");
}

/// An ext4 on a whole loop device, mounted. Unmounted before the device goes.
struct Mounted {
    at: tempfile::TempDir,
    disk: LoopDisk,
}

impl Mounted {
    fn new() -> Self {
        let disk = LoopDisk::new(64 * MIB, 512);
        tool("mkfs.ext4", &["-q", "-F", disk.node()]);
        let at = tempfile::tempdir().unwrap();
        tool("mount", &["-t", "ext4", disk.node(), text(at.path())]);
        // What no level makes small at once.
        let kept = at.path().join("kept");
        tool("sh", &["-c", &format!("head -c 40M /dev/urandom > {0}; sync -f {0}", text(&kept))]);
        Self { at, disk }
    }

    /// Writes, which waits for as long as the file system stands still.
    fn assert_goes_on(&self) {
        let script = format!("touch {0}/new && sync -f {0}/new", text(self.at.path()));
        tool("timeout", &["20", "sh", "-c", &script]);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg(self.at.path()).run();
    }
}

#[test]
fn a_mounted_disk_is_captured_while_it_stands_still() {
    let mounted = Mounted::new();
    let folder = tempfile::tempdir().unwrap();
    let out = below(&folder, "out.img.zst");
    let node = mounted.disk.node();
    let (code, complaint) = failure(&flasher(&["capture", node, text(&out)]));
    assert_eq!(code, Some(5), "{complaint}");
    assert!(complaint.contains("--frozen"), "{complaint}");
    let within = mounted.at.path().join("out.img.zst");
    let (code, complaint) = failure(&flasher(&["capture", node, text(&within), "--frozen"]));
    assert_eq!(code, Some(5), "{complaint}");
    assert!(complaint.contains("write to another disk"), "{complaint}");
    mounted.assert_goes_on();
    let captured = flasher(&["capture", node, text(&out), "--frozen", "--output", "json"]);
    let told = record(&captured);
    assert!(told["file_systems"][0]["free_bytes"].as_u64().is_some(), "{told}");
    mounted.assert_goes_on();
    let raw = below(&folder, "raw");
    tool("sh", &["-c", &format!("zstd -dqc {} > {}", text(&out), text(&raw))]);
    // As it stood still it is as after an unmount.
    tool("fsck.ext4", &["-f", "-n", text(&raw)]);
}

#[test]
fn a_capture_that_is_killed_leaves_nothing_and_its_disk_goes_on() {
    let mounted = Mounted::new();
    for signal in ["-KILL", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let out = below(&folder, "out.img.zst");
        // At this level it takes long enough to be killed on the way.
        let script = format!(
            "{FLASHER} capture {} {} --frozen --keep-free --level 19 & sleep 0.5; kill {signal} $!; wait $!",
            mounted.disk.node(),
            text(&out)
        );
        let killed = Program::new("bash").args(["-c", &script]).output().unwrap();
        assert!(!killed.status.success(), "{signal}: it was not killed on the way");
        mounted.assert_goes_on();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{signal}");
    }
}
