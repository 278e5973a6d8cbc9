//! What headers may say, and that nothing in an archive makes the reader panic.

use flate2::{Compression, read::DeflateEncoder};
use proptest::prelude::*;

use super::*;

/// A file's header, and its data.
fn file(name: &str, flags: u16, packing: u16, data: &[u8], raw: &[u8], extra: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(raw);
    let (sum, packed, bytes) = match flags & SIZES_BEHIND {
        0 => (crc.sum(), data.len(), raw.len()),
        _ => (0, 0, 0),
    };
    let mut out = FILE.to_vec();
    for number in [20, flags, packing, 0, 0] {
        out.extend(number.to_le_bytes());
    }
    for number in [sum, u32::try_from(packed).unwrap(), u32::try_from(bytes).unwrap()] {
        out.extend(number.to_le_bytes());
    }
    for length in [name.len(), extra.len()] {
        out.extend(u16::try_from(length).unwrap().to_le_bytes());
    }
    out.extend(name.as_bytes());
    out.extend(extra);
    out.extend(data);
    out
}

fn deflated(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    DeflateEncoder::new(raw, Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

fn read(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    Member::open(archive)?.take(1 << 20).read_to_end(&mut raw)?;
    Ok(raw)
}

const RAW: [u8; 1024] = [7; 1024];

#[test]
fn the_only_file_is_read_however_its_sizes_are_said() {
    let packed = deflated(&RAW);
    let mut crc = Crc::new();
    crc.update(&RAW);
    let (packed_bytes, bytes) = (packed.len() as u64, RAW.len() as u64);
    let small = |number: u64| u32::try_from(number).unwrap().to_le_bytes();
    let descriptor32 = [crc.sum().to_le_bytes(), small(packed_bytes), small(bytes)].concat();
    let large = [packed_bytes.to_le_bytes(), bytes.to_le_bytes()].concat();
    let descriptor64 = [crc.sum().to_le_bytes().as_slice(), &large].concat();
    let zip64 = [1, 0, 16, 0].into_iter().chain([0; 16]).collect::<Vec<u8>>();
    let behind = |extra: &[u8]| file("a", SIZES_BEHIND, DEFLATED, &packed, &RAW, extra);
    for archive in [
        file("a", 0, STORED, &RAW, &RAW, &[]),
        file("a", 0, DEFLATED, &packed, &RAW, &[5, 0, 1, 0, 9]),
        [behind(&[]), DESCRIPTOR.to_vec(), descriptor32.clone()].concat(),
        [behind(&[]), descriptor32].concat(),
        [behind(&zip64), DESCRIPTOR.to_vec(), descriptor64].concat(),
    ] {
        let folder = file("folder/", 0, STORED, &[], &[], &[]);
        for archive in [
            [archive.as_slice(), DIRECTORY].concat(),
            [&folder, archive.as_slice(), &folder, DIRECTORY].concat(),
        ] {
            assert_eq!(read(&archive).unwrap(), RAW);
            let shown = read(&archive[..archive.len() - 2]).unwrap_err().to_string();
            assert!(shown.contains("cut off"), "{shown}");
        }
    }
}

#[test]
fn what_else_is_in_an_archive_is_named() {
    let image = file("a.img", 0, DEFLATED, &deflated(&RAW), &RAW, &[]);
    let end = DIRECTORY.to_vec();
    for (archive, want) in [
        ([file("folder/", 0, STORED, &[], &[], &[]), end.clone()].concat(), "no file"),
        ([image.clone(), file("b.img", 0, STORED, &RAW, &RAW, &[])].concat(), "a.img and b.img"),
        (file("README", 0, STORED, b"hello", b"hello", &[]), "README"),
        (file("a.img", ENCRYPTED, STORED, &RAW, &RAW, &[]), "encrypted"),
        (file("a.img", 0, 9, &RAW, &RAW, &[]), "not read"),
        (file("a.img", SIZES_BEHIND, STORED, &RAW, &RAW, &[]), "not read"),
        ([image.clone(), vec![0; 4]].concat(), "damaged"),
        (
            [file("a.img", 0, DEFLATED, &deflated(&RAW), &[8; 1024], &[]), end.clone()].concat(),
            "checksum",
        ),
        (
            [file("a.img", 0, DEFLATED, &deflated(&RAW), &[7; 512], &[]), end].concat(),
            "another size",
        ),
        (image[..image.len() - 4].to_vec(), "cut off"),
    ] {
        let shown = read(&archive).unwrap_err().to_string();
        assert!(shown.contains(want), "{want}: {shown}");
    }
}

proptest! {
    #[test]
    fn any_bytes_behind_a_header_are_read_or_refused(flags: u16, packing in 0..10_u16, data in proptest::collection::vec(any::<u8>(), 0..600), extra in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = read(&file("a", flags & !ENCRYPTED, packing, &data, &RAW, &extra));
    }
}
