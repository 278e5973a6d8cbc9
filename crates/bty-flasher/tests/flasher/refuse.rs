//! The wrong disk: nothing is written, and the disks there are are named.

use std::path::Path;

use bty_testkit::{child::Program, wait};
use std::time::Duration;

use crate::{
    disk::{FLASHER, LoopDisk, failure, flasher, text, write},
    image::Image,
};

const MIB: usize = 1 << 20;

/// Asserts that the write was refused because of this, and that the disk is named with its size.
fn assert_refused(output: &std::process::Output, disk: &LoopDisk, because: &str) {
    let (code, complaint) = failure(output);
    assert_eq!(code, Some(5), "{complaint}");
    assert!(complaint.contains(because), "{complaint}");
    let listed = format!("\n  {} (serial none", disk.node());
    assert!(complaint.contains(&listed), "the disks are not listed: {complaint}");
}

#[test]
fn a_disk_that_is_too_small() {
    let image = Image::new(4 * MIB);
    for path in [image.container().0, image.raw_file(), image.packed("qcow2")] {
        let disk = LoopDisk::new(4 * MIB - 512, 512);
        assert_refused(&write(text(&path), &disk), &disk, "too small");
        disk.assert_untouched();
    }
}

#[test]
fn a_disk_with_other_sectors_than_the_partition_table_counts_in() {
    for (counted, sectors) in [(512, 4096), (4096, 512)] {
        let image = Image::with_table(2 * MIB, counted);
        for path in [image.container().0, image.raw_file(), image.packed("xz")] {
            let disk = LoopDisk::new(4 * MIB, u32::try_from(sectors).unwrap());
            assert_refused(&write(text(&path), &disk), &disk, "it would not boot");
            disk.assert_untouched();
        }
    }
}

#[test]
fn a_disk_that_is_read_only() {
    let disk = LoopDisk::read_only(4 * MIB);
    let image = Image::new(2 * MIB);
    assert_refused(&write(text(&image.raw_file()), &disk), &disk, "is read-only");
    disk.assert_untouched();
}

/// A shell with mounts of its own: makes a file system on the disk, mounts it, and goes on with `then`.
fn mounted(disk: &LoopDisk, folder: &Path, then: &[&str]) -> Program {
    let script = "mkfs.ext4 -q \"$1\" && mount \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    Program::new("unshare")
        .args(["--mount", "--", "sh", "-c", script, "sh", disk.node(), text(folder)])
        .args(then)
}

#[test]
fn a_disk_that_is_mounted() {
    let (disk, folder) = (LoopDisk::new(4 * MIB, 512), tempfile::tempdir().unwrap());
    let image = Image::new(2 * MIB);
    let path = image.raw_file();
    let arguments = [FLASHER, "write", text(&path), disk.node(), "--yes"];
    let output = mounted(&disk, folder.path(), &arguments).output().unwrap();
    assert_refused(&output, &disk, "is mounted; unmount it");
    assert!(failure(&output).1.contains(&format!("is mounted on {}", text(folder.path()))));
}

#[test]
fn a_disk_that_is_mounted_where_we_can_not_see_it() {
    let (disk, folder) = (LoopDisk::new(4 * MIB, 512), tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let at = folder.path().join("mount");
    std::fs::create_dir(&at).unwrap();
    let then = ["sh", "-c", "echo mounted; exec sleep 600"];
    let mut holder = mounted(&disk, &at, &then).spawn(&log).unwrap();
    holder.wait_for_log("mounted", Duration::from_secs(30)).unwrap();
    let before = disk.content();
    let image = Image::new(2 * MIB);
    let (code, complaint) = failure(&write(text(&image.raw_file()), &disk));
    assert_eq!(code, Some(5), "{complaint}");
    assert!(complaint.contains("busy"), "{complaint}");
    assert!(disk.content() == before, "something was written");
    drop(holder);
    // The mount goes with its last process; only then can the loop device.
    wait::until_true("the mount to go", Duration::from_secs(30), || {
        Ok(write(text(&image.raw_file()), &disk).status.success())
    })
    .unwrap();
}

#[test]
fn a_disk_that_is_absent() {
    let image = Image::new(2 * MIB);
    let path = image.raw_file();
    for disk in ["/dev/bty-no-such-disk", "serial:bty-no-such-serial", "wwn:0xb7ffffffffffffff"] {
        let (code, complaint) = failure(&flasher(&["write", text(&path), disk, "--yes"]));
        assert_eq!(code, Some(5), "{complaint}");
        assert!(complaint.contains("there is no disk "), "{complaint}");
        assert!(complaint.contains("this machine"), "the disks are not listed: {complaint}");
    }
}

#[test]
fn what_is_no_disk_at_all() {
    let image = Image::new(2 * MIB);
    let path = image.raw_file();
    for disk in ["", "sda", "serial:", "/etc/passwd", "/dev/../etc/passwd"] {
        let (code, complaint) = failure(&flasher(&["write", text(&path), disk, "--yes"]));
        assert_eq!(code, Some(2), "{disk}: {complaint}");
    }
    let (code, _) = failure(&flasher(&["write", text(&path), "/dev/null", "--yes"]));
    assert_eq!(code, Some(5));
}

#[test]
fn nobody_to_ask_and_no_yes() {
    let disk = LoopDisk::new(4 * MIB, 512);
    let image = Image::new(2 * MIB);
    let (code, complaint) = failure(&flasher(&["write", text(&image.raw_file()), disk.node()]));
    assert_eq!(code, Some(2), "{complaint}");
    assert!(complaint.contains("--yes") && complaint.contains(disk.node()), "{complaint}");
    disk.assert_untouched();
}

#[test]
fn an_image_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let disk = LoopDisk::new(4 * MIB, 512);
    let (code, _) = failure(&write(text(&folder.path().join("nothing.img")), &disk));
    assert_eq!(code, Some(3));
    let tar = folder.path().join("image.tar");
    Program::new("tar").args(["-cf", text(&tar), "-C", "/etc", "hostname"]).run().unwrap();
    let (code, complaint) = failure(&write(text(&tar), &disk));
    assert_eq!(code, Some(2), "{complaint}");
    disk.assert_untouched();
}

#[test]
fn the_list_of_disks_is_json_for_programs() {
    let output = flasher(&["disks", "--output", "json"]);
    let disks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for disk in disks.as_array().unwrap() {
        assert!(disk["path"].as_str().unwrap().starts_with("/dev/"));
        assert!(disk["size_bytes"].as_u64().unwrap() > 0);
        assert!(!disk["path"].as_str().unwrap().contains("loop"), "loop devices are not listed");
    }
}
