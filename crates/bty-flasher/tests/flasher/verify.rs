//! `bty-flasher verify`, and writing to a disk that holds some of the image already.

use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::{
    disk::{LoopDisk, failure, flasher, record, text, write},
    image::Image,
    server::Server,
};

const MIB: usize = 1 << 20;

/// Exit code and result of a verification.
fn verify(image: &str, disk: &LoopDisk) -> (Option<i32>, Value) {
    let output = flasher(&["verify", image, disk.node(), "--output", "json"]);
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let last = said.lines().last().unwrap_or_default();
    (output.status.code(), serde_json::from_str(last).unwrap_or(Value::Null))
}

#[test]
fn a_disk_is_its_image_until_a_bit_changes() {
    let image = Image::with_table(9 * MIB, 512);
    let container = image.container().0;
    let disk = LoopDisk::new(16 * MIB, 512);
    record(&write(text(&container), &disk));
    let server = Server::new(std::fs::read(&container).unwrap(), Vec::new());
    let (raw, url) = (image.raw_file(), server.url());
    let sources = [text(&container), text(&raw), &url];
    for source in sources {
        let (code, result) = verify(source, &disk);
        assert_eq!((code, &result["is_image"]), (Some(0), &Value::Bool(true)), "{source}");
    }
    let place = 5 * MIB as u64 + 77;
    disk.file().write_all_at(&[image.raw[5 * MIB + 77] ^ 4], place).unwrap();
    for source in sources {
        let (code, result) = verify(source, &disk);
        assert_eq!((code, &result["is_image"]), (Some(8), &Value::Bool(false)), "{source}");
        let ranges = result["ranges"].as_array().unwrap();
        assert_eq!(ranges.len(), 1, "{source}: {ranges:?}");
        let (start, bytes) = (ranges[0][0].as_u64().unwrap(), ranges[0][1].as_u64().unwrap());
        assert!((start..start + bytes).contains(&place) && bytes <= 256 << 10, "{start} {bytes}");
        let differing: u64 = result["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|partition| partition["differing_bytes"].as_u64().unwrap())
            .sum();
        assert_eq!(differing, bytes);
    }
    let output = flasher(&["verify", text(&container), disk.node()]);
    let (said, (_, complaint)) =
        (String::from_utf8(output.stdout.clone()).unwrap(), failure(&output));
    assert!(said.contains("differs from byte 5242880, 65536 bytes"), "{said}");
    assert!(complaint.contains("is not the image"), "{complaint}");
}

#[test]
fn a_disk_that_is_too_small_for_the_image_is_not_it() {
    let image = Image::new(4 * MIB);
    let disk = LoopDisk::new(3 * MIB, 512);
    let (code, result) = verify(text(&image.container().0), &disk);
    assert_eq!(code, Some(8), "{result}");
    disk.assert_untouched();
}

#[test]
fn what_the_disk_has_is_neither_fetched_nor_written() {
    let image = Image::new(24 * MIB);
    let container = std::fs::read(image.container().0).unwrap();
    let disk = LoopDisk::new(32 * MIB, 512);
    let first = record(&write(&Server::new(container.clone(), Vec::new()).url(), &disk));
    let again = record(&write(&Server::new(container.clone(), Vec::new()).url(), &disk));
    // The place behind the image has what was there before; only its end was blanked.
    assert_eq!((&again["written_bytes"], &again["zeroed_bytes"]), (&0.into(), &0.into()));
    assert_eq!(again["proved"], true);
    let fetched = |record: &Value| record["fetched_bytes"].as_u64().unwrap();
    assert!(fetched(&again) < fetched(&first) / 10, "{again}");
    for at in [7 * MIB, 7 * MIB + 512 * 1024, 20 * MIB] {
        disk.file().write_all_at(b"changed", at as u64).unwrap();
    }
    let mended = record(&write(&Server::new(container, Vec::new()).url(), &disk));
    assert_eq!(mended["id"], image.id());
    assert!(disk.content().starts_with(&image.raw));
    assert!(fetched(&mended) < fetched(&first) / 4, "{mended}");
    let written = mended["written_bytes"].as_u64().unwrap();
    assert!(written <= (3 * 256 + 256 + 256) << 10, "{mended}");
}
