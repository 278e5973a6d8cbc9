//! What fails in the middle: a device that takes no more, and a way on which bytes change.

use std::fs;

use crate::{
    disk::{LoopDisk, OLD, failure, record, write},
    image::Image,
    server::Server,
};

const MIB: usize = 1 << 20;
/// What is blanked at a disk's beginning while it is not the image.
const EDGE: usize = 128 << 10;
/// Places at which a byte is wrong.
const PLACES: usize = 20;
/// How often a chunk is asked for: once, and again three times.
const ASKED: usize = 4;

#[test]
fn a_disk_that_fails_in_the_middle_does_not_boot_and_is_finished_once_it_is_mended() {
    let image = Image::new(100 * MIB);
    let container = fs::read(image.container().0).unwrap();
    for sector_bytes in [512, 4096] {
        let disk = LoopDisk::failing(104 << 20, sector_bytes, 40 << 20);
        let before = vec![OLD; MIB];
        std::os::unix::fs::FileExt::write_all_at(&disk.file(), &before, 0).unwrap();
        let server = Server::new(container.clone(), Vec::new());
        let (code, complaint) = failure(&write(&server.url(), &disk));
        assert_eq!(code, Some(7), "{complaint}");
        let is_named = complaint.contains("writing the disk at byte")
            || complaint.contains("flushing the disk");
        assert!(is_named && complaint.contains("is it failing?"), "{complaint}");
        assert!(disk.content()[..EDGE].iter().all(|&byte| byte == 0), "it has a beginning");
        disk.assert_not_bootable();
        disk.mend(120 << 20);
        let again = record(&write(&server.url(), &disk));
        assert_eq!((&again["id"], &again["proved"]), (&image.id().into(), &true.into()));
        assert!(disk.content().starts_with(&image.raw), "the disk is not the image");
        let sent = server.sent();
        assert!(sent * 10 <= container.len() * 11, "{sent} of {}: {again}", container.len());
    }
}

/// Places in a file of so many bytes, in no order, and the same in each run.
fn places(bytes: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 20).unwrap() % bytes
    })
    .take(PLACES)
}

/// Asserts that each block of the disk is the image's, or what was there before, or zeros.
fn assert_nothing_wrong(disk: &LoopDisk, image: &Image, place: usize) {
    let content = disk.content();
    for (number, (found, wanted)) in content.chunks(512).zip(image.raw.chunks(512)).enumerate() {
        let is_known = found == wanted || [0, OLD].iter().any(|old| found.iter().all(|b| b == old));
        assert!(is_known, "block {number} is wrong where byte {place} was");
    }
}

#[test]
fn a_byte_that_changes_on_the_way_once_is_fetched_again() {
    let image = Image::new(9 * MIB);
    let (path, index) = image.container();
    let container = fs::read(path).unwrap();
    for place in places(container.len()) {
        let server = Server::lying(container.clone(), place, 1);
        let disk = LoopDisk::new(12 * MIB, 512);
        let output = write(&server.url(), &disk);
        let (code, complaint) = failure(&output);
        assert_eq!(server.lies(), 1, "byte {place} was not asked for");
        if code == Some(0) {
            let record = record(&output);
            assert_eq!((&record["id"], &record["proved"]), (&image.id().into(), &true.into()));
            assert!(disk.content().starts_with(&image.raw), "byte {place}");
            let is_data = |at: u64| {
                index.chunks().any(|chunk| {
                    (chunk.frame_offset..chunk.frame_offset + u64::from(chunk.frame_bytes))
                        .contains(&at)
                })
            };
            assert!(is_data(place as u64), "byte {place} is of the index: {record}");
        } else {
            // The index is what everything is measured by: it is not tried again, and nothing is done.
            assert_eq!(code, Some(8), "byte {place}: {complaint}");
            disk.assert_untouched();
        }
    }
}

#[test]
fn a_byte_that_is_always_wrong_is_named_given_up_and_never_written() {
    let image = Image::new(9 * MIB);
    let (path, index) = image.container();
    let container = fs::read(path).unwrap();
    for place in places(container.len()) {
        let server = Server::lying(container.clone(), place, usize::MAX);
        let disk = LoopDisk::new(12 * MIB, 512);
        let (code, complaint) = failure(&write(&server.url(), &disk));
        assert_eq!(code, Some(8), "byte {place}: {complaint}");
        let hurt = index.chunks().find(|chunk| {
            let end = chunk.frame_offset + u64::from(chunk.frame_bytes);
            (chunk.frame_offset..end).contains(&(place as u64))
        });
        match hurt {
            Some(chunk) => {
                let offsets = [
                    format!("chunk {}", chunk.number),
                    format!("disk offset {}", chunk.raw_offset),
                    format!("container offset {}", chunk.frame_offset),
                ];
                let is_named = offsets.iter().all(|offset| complaint.contains(offset));
                assert!(is_named, "byte {place}: {complaint}");
                // Where the tail that the index came with has it too, once more.
                assert!(
                    server.lies() <= ASKED + 1,
                    "byte {place} was sent {} times",
                    server.lies()
                );
            }
            None => disk.assert_untouched(),
        }
        assert_nothing_wrong(&disk, &image, place);
        assert!(disk.content()[..512] != image.raw[..512], "byte {place}: it boots");
    }
}
