//! `bty-flasher capture`: a disk becomes an image that is that disk.

use std::fs;

use crate::{
    disk::{LoopDisk, failure, flasher, record, text, write},
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
    let unpacked = bty_testkit::Program::new("zstd").args(["-dqc"]).arg(&out).output().unwrap();
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
