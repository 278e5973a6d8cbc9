//! What is no image, not whole, or not read is refused, and the error says what it is.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod lab;

use std::{fs, io, process::Command, sync::atomic::AtomicBool};

use bty_image::{
    container::Index,
    import::{Options, import},
    source,
};
use lab::Lab;

#[test]
fn a_source_that_is_cut_off_is_refused() {
    let lab = Lab::new();
    // A qcow2 may end with a cluster that the disk needs only the beginning of.
    let (stream, cluster) = (1, 64 << 10);
    for (path, last) in [
        (lab.packed("disk.gz", "gzip", &["-c"]), stream),
        (lab.packed("disk.xz", "xz", &["-c"]), stream),
        (lab.packed("disk.zst", "zstd", &["-qc"]), stream),
        (lab.packed("disk.bz2", "bzip2", &["-c"]), stream),
        (lab.packed("disk.lz4", "lz4", &["-qc"]), stream),
        (lab.converted("disk.qcow2", "qcow2", &[]), cluster),
        (lab.converted("packed.qcow2", "qcow2", &["-c"]), cluster),
    ] {
        let bytes = fs::read(&path).unwrap();
        for keep in [40, bytes.len() / 2, bytes.len() - last] {
            let shown = lab.import(&lab.file("cut", &bytes[..keep]), None).1.unwrap_err();
            assert!(
                shown.contains("cut off") || shown.contains("damaged"),
                "{} bytes of {}: {shown}",
                keep,
                path.display()
            );
        }
    }
}

#[test]
fn a_source_with_a_changed_byte_is_refused() {
    let lab = Lab::new();
    for path in [
        lab.packed("disk.gz", "gzip", &["-c"]),
        lab.packed("disk.xz", "xz", &["-c"]),
        lab.packed("disk.lz4", "lz4", &["-qc"]),
    ] {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        assert!(lab.import(&path, None).1.is_err(), "{}", path.display());
    }
}

#[test]
fn what_is_no_disk_image_is_refused_by_name() {
    let lab = Lab::new();
    let odd = lab.folder.path().join("odd.raw");
    fs::write(&odd, [1; 1000]).unwrap();
    let empty = lab.folder.path().join("empty.raw");
    fs::write(&empty, []).unwrap();
    let backing = lab.folder.path().join("backing.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(&lab.raw)
        .arg(&backing)
        .status();
    assert!(made.unwrap().success());
    for (path, want) in [
        (&lab.packed("old.lz4", "lz4", &["-qcl"]), "lz4 -l"),
        (&odd, "1000 bytes"),
        (&empty, "empty"),
        (&backing, "backing file"),
        (&lab.folder.path().join("missing"), "missing"),
        (&lab.folder.path().to_owned(), "directory"),
    ] {
        let shown = lab.import(path, None).1.unwrap_err();
        assert!(shown.contains(want), "{}: {shown}", path.display());
    }
}

#[test]
fn rubbish_after_the_end_is_refused() {
    let lab = Lab::new();
    for (tool, arguments) in
        [("gzip", ["-c"]), ("xz", ["-c"]), ("zstd", ["-qc"]), ("bzip2", ["-c"]), ("lz4", ["-qc"])]
    {
        let mut bytes = fs::read(lab.packed("good", tool, &arguments)).unwrap();
        bytes.extend(b"and some more that nobody packed");
        let shown = lab.import(&lab.file("bad", &bytes), None).1.unwrap_err();
        assert!(shown.contains("damaged") || shown.contains("cut off"), "{tool}: {shown}");
    }
}

#[test]
fn a_container_cut_between_two_frames_is_no_smaller_disk() {
    let lab = Lab::new();
    let (out, _) = lab.import(&lab.raw, None);
    let whole = fs::read(&out).unwrap();
    let index = Index::read(whole.as_slice()).unwrap();
    for chunk in index.chunks().skip(2) {
        let end = usize::try_from(chunk.frame_offset).unwrap();
        let shown = lab.import(&lab.file("cut.zst", &whole[..end]), None).1.unwrap_err();
        assert!(shown.contains("cut off"), "before chunk {}: {shown}", chunk.number);
    }
}

#[test]
fn two_disks_of_a_format_in_another_are_refused() {
    let lab = Lab::new();
    lab.converted("disk.qcow2", "qcow2", &[]);
    let inner = lab.folder.path().join("disk.qcow2");
    let packed = Command::new("xz").arg("-c").arg(inner).output().unwrap().stdout;
    let shown = lab.import(&lab.file("disk.qcow2.xz", &packed), None).1.unwrap_err();
    assert!(shown.contains("packed twice"), "{shown}");
}

#[test]
fn a_damaged_qcow2_is_read_or_refused() {
    let lab = Lab::new();
    for options in [&["-c", "-o", "compression_type=zstd"][..], &["-o", "extended_l2=on"]] {
        let good = fs::read(lab.converted("good.qcow2", "qcow2", options)).unwrap();
        let path = lab.folder.path().join("bad.qcow2");
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for round in 0..60_u64 {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(round | 1);
            let mut bad = good.clone();
            // The header's fields, then anything in the tables, which are in the first clusters.
            let most = if round < 30 { 112 } else { 6 << 16 };
            let at = usize::try_from((state >> 16) % most).unwrap() % bad.len();
            bad[at] = u8::try_from(state >> 56).unwrap();
            fs::write(&path, bad).unwrap();
            let Ok(source) = source::open_file(&path, None) else { continue };
            let limited = Options { max_raw_bytes: 32 << 20, ..Options::default() };
            let _ = import(source, &mut io::sink(), &limited, &AtomicBool::new(false), |_| {});
        }
    }
}
