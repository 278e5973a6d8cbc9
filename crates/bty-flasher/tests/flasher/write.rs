//! `bty-flasher write`: the disk becomes the image, whatever the image comes in.

use std::{fs, os::unix::fs::FileExt, time::Duration};

use bty_testkit::{child::Program, wait};
use bty_types::receipt::Receipt;
use nix::sys::signal::Signal;

use crate::{
    disk::{FLASHER, LoopDisk, OLD, failure, flasher, record, text, write},
    image::Image,
};

const MIB: usize = 1 << 20;

#[test]
fn the_disk_becomes_the_image_from_any_format() {
    let image = Image::new(5 * MIB + 512);
    for suffix in ["raw", "container", "xz", "gz", "bz2", "zst", "qcow2"] {
        let path = match suffix {
            "raw" => image.raw_file(),
            "container" => image.container().0,
            packed => image.packed(packed),
        };
        let disk = LoopDisk::new(8 * MIB, 512);
        let record = record(&write(text(&path), &disk));
        assert_eq!(record["id"], image.id(), "{suffix}");
        assert_eq!(record["proved"], true, "{suffix}");
        let (content, size) = (disk.content(), image.raw.len());
        assert!(content[..size] == image.raw, "the disk is not the image: {suffix}");
        assert!(content[size..6 * MIB].iter().all(|&byte| byte == OLD), "{suffix}");
        assert!(
            content[8 * MIB - 128 * 1024..].iter().all(|&byte| byte == 0),
            "an old table stays: {suffix}"
        );
    }
}

#[test]
fn sectors_of_4096_bytes_and_an_image_that_ends_within_one() {
    let image = Image::with_table(3 * MIB + 512, 4096);
    for path in [image.container().0, image.raw_file()] {
        let disk = LoopDisk::new(8 * MIB, 4096);
        assert_eq!(record(&write(text(&path), &disk))["id"], image.id());
        assert!(disk.content().starts_with(&image.raw));
    }
}

#[test]
fn an_image_as_large_as_the_disk_fits() {
    let image = Image::new(4 * MIB);
    let disk = LoopDisk::new(4 * MIB, 512);
    record(&write(text(&image.container().0), &disk));
    assert!(disk.content() == image.raw);
}

#[test]
fn a_disk_smaller_than_what_is_blanked_is_written() {
    let image = Image::new(100 * 1024);
    let disk = LoopDisk::new(100 * 1024, 512);
    record(&write(text(&image.raw_file()), &disk));
    assert!(disk.content() == image.raw);
}

#[test]
fn every_step_is_told_and_the_record_comes_last() {
    let image = Image::new(2 * MIB);
    let output = write(text(&image.container().0), &LoopDisk::new(4 * MIB, 512));
    let record = record(&output);
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut steps: Vec<String> = lines
        .lines()
        .filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["step"].as_str().map(str::to_owned)
        })
        .collect();
    steps.dedup();
    assert_eq!(steps, ["write", "flush", "prove", "first-chunk"]);
    let timed: Vec<&str> = record["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(timed, ["gate", "write", "flush", "prove", "first-chunk"]);
    assert_eq!(record["raw_bytes"], 2 * MIB);
    let moved =
        record["written_bytes"].as_u64().unwrap() + record["zeroed_bytes"].as_u64().unwrap();
    // The edges are blanked first.
    assert_eq!(moved, u64::try_from(2 * MIB + 2 * 128 * 1024).unwrap());
    assert!(record["zeroed_bytes"].as_u64().unwrap() > 0, "holes were written as data");
}

#[test]
fn what_was_done_is_written_down_where_that_is_asked_for() {
    let image = Image::new(2 * MIB);
    let disk = LoopDisk::new(4 * MIB, 512);
    let (folder, path) = (tempfile::tempdir().unwrap(), image.container().0);
    let file = folder.path().join("receipt.json");
    let option = format!("--receipt={}", file.display());
    let output = flasher(&["write", text(&path), disk.node(), "--yes", &option]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let body = Receipt::parse(&fs::read(&file).unwrap()).unwrap().body;
    assert_eq!(body.proved_id.map(|id| id.to_string()), Some(image.id()));
    assert_eq!((body.run, body.disk.path.as_str()), (None, disk.node()));
    assert_eq!((body.bytes.raw, body.disk.size_bytes), (2 << 20, 4 << 20));
    let disk = LoopDisk::new(4 * MIB, 512);
    let before = disk.content();
    let option = format!("--receipt={}/none/r.json", folder.path().display());
    let (code, complaint) =
        failure(&flasher(&["write", text(&path), disk.node(), "--yes", &option]));
    assert_eq!(code, Some(3));
    assert!(complaint.contains("nothing was written: there is no folder"), "{complaint}");
    assert!(disk.content() == before, "it was written all the same");
}

#[test]
fn what_was_not_read_back_is_not_called_proved() {
    let image = Image::new(2 * MIB);
    let disk = LoopDisk::new(4 * MIB, 512);
    let path = image.container().0;
    let output = flasher(&["write", text(&path), disk.node(), "--yes", "--verify=stream"]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("not proved to hold"), "{shown}");
    assert!(disk.content().starts_with(&image.raw));
}

#[test]
fn a_damaged_container_leaves_a_disk_that_does_not_boot() {
    let image = Image::new(5 * MIB);
    let (path, index) = image.container();
    let mut bytes = fs::read(&path).unwrap();
    // The last chunk with data.
    let hurt = index.chunks().filter(|chunk| !chunk.is_hole).last().unwrap();
    let middle = usize::try_from(hurt.frame_offset).unwrap() + hurt.frame_bytes as usize / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let disk = LoopDisk::new(8 * MIB, 512);
    // Without a comparison the disk is blanked first.
    let arguments = ["write", text(&path), disk.node(), "--yes", "--compare", "off"];
    let (code, complaint) = failure(&flasher(&arguments));
    assert_eq!(code, Some(8), "{complaint}");
    assert!(complaint.contains(&format!("chunk {}", hurt.number)), "{complaint}");
    let told = format!("writing {} to {}", text(&path), disk.node());
    assert!(complaint.contains(&told) && complaint.contains("Get the image anew"), "{complaint}");
    disk.assert_not_bootable();
}

#[test]
fn an_image_that_ends_too_early_leaves_a_disk_that_does_not_boot() {
    let image = Image::new(5 * MIB);
    let path = image.packed("gz");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let disk = LoopDisk::new(8 * MIB, 512);
    let (code, complaint) = failure(&write(text(&path), &disk));
    assert!(!matches!(code, None | Some(0)), "{complaint}");
    disk.assert_not_bootable();
}

#[test]
fn a_stream_that_turns_out_larger_than_the_disk_leaves_it_not_bootable() {
    // A gzip stream does not say its size beforehand.
    let image = Image::new(5 * MIB);
    let disk = LoopDisk::new(4 * MIB, 512);
    let (code, complaint) = failure(&write(text(&image.packed("gz")), &disk));
    assert_eq!(code, Some(5), "{complaint}");
    disk.assert_not_bootable();
}

#[test]
fn a_writer_that_is_killed_leaves_a_disk_that_does_not_boot_and_can_be_written_again() {
    let (folder, size) = (tempfile::tempdir().unwrap(), 8_u64 << 30);
    let path = folder.path().join("large.img");
    let file = fs::File::create(&path).unwrap();
    file.set_len(size).unwrap();
    for at in [0, size - (1 << 20)] {
        file.write_all_at(&Image::new(MIB).raw, at).unwrap();
    }
    let disk = LoopDisk::sparse(size);
    let edges = [0, size - 16384];
    for at in edges {
        disk.file().write_all_at(&[OLD; 16384], at).unwrap();
    }
    let arguments = ["write", text(&path), disk.node(), "--yes", "--output", "json"];
    let log = folder.path().join("log");
    let mut writer = Program::new(FLASHER).args(arguments).spawn(&log).unwrap();
    // A report of something that was done.
    wait::until_true("the first bytes", Duration::from_mins(1), || {
        let log = writer.log()?;
        let is_done = |line: &str| line.contains("write") && !line.contains("\"done_bytes\":0,");
        Ok(log.lines().any(is_done))
    })
    .unwrap();
    writer.signal(Signal::SIGKILL).unwrap();
    assert!(!writer.wait(Duration::from_mins(1)).unwrap().success(), "it ended too early");
    for at in edges {
        let mut edge = [OLD; 16384];
        disk.file().read_exact_at(&mut edge, at).unwrap();
        assert!(edge.iter().all(|&byte| byte == 0), "at {at}");
    }
    let image = Image::new(2 * MIB);
    assert_eq!(record(&write(text(&image.container().0), &disk))["id"], image.id());
}

#[test]
fn a_large_image_is_written_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.img");
    let file = fs::File::create(&path).unwrap();
    file.set_len(1 << 30).unwrap();
    for at in 0..48_u64 {
        let noise = Image::new(MIB);
        file.write_all_at(&noise.raw, at * (20 << 20)).unwrap();
    }
    let disk = LoopDisk::sparse(1 << 30);
    // Everything that a process may write to: heap, stacks, buffers.
    let output = Program::new("prlimit")
        .args(["--data=134217728", FLASHER, "write", text(&path), disk.node(), "--yes"])
        .output()
        .expect("this test needs prlimit (package util-linux)");
    assert_eq!(failure(&output).0, Some(0), "{}", failure(&output).1);
}
