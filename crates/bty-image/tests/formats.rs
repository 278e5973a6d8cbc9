//! Every format that people hold, made by the tools that make it, becomes the same image.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod lab;

use std::{
    fs::{self, File},
    process::{Command, Stdio},
};

use bty_image::{
    container::Index,
    source::{self, Limits},
};
use bty_types::{Checksum, ErrorKind, ImageId};
use lab::{Lab, chain, disk};

#[test]
fn the_same_disk_has_the_same_id_in_every_format() {
    let lab = Lab::new();
    let packed = [
        ("raw", lab.raw.clone()),
        ("gzip", lab.packed("disk.gz", "gzip", &["-c"])),
        ("xz", lab.packed("disk.xz", "xz", &["-c", "-T2", "--block-size=1MiB"])),
        ("zstd", lab.packed("disk.zst", "zstd", &["-qc"])),
        ("zstd", lab.packed("long.zst", "zstd", &["-qc", "--long=27", "-19"])),
        ("bzip2", lab.packed("disk.bz2", "bzip2", &["-c"])),
        ("lz4", lab.packed("disk.lz4", "lz4", &["-qc"])),
        ("lz4", lab.packed("linked.lz4", "lz4", &["-qc", "-9", "-BD", "-B4", "--content-size"])),
        ("lz4", lab.packed("checked.lz4", "lz4", &["-qc", "-BX", "--no-frame-crc"])),
    ];
    for (format, path) in packed {
        let (out, summary) = lab.import(&path, None);
        let summary = summary.unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        assert_eq!(summary.format.as_str(), format);
        assert_eq!(summary.index.id(), lab.id, "{}", path.display());
        assert_eq!(fs::metadata(&out).unwrap().len(), summary.container_bytes);
    }
}

#[test]
fn several_members_streams_and_frames_are_one_disk() {
    let lab = Lab::new();
    for (tool, arguments) in
        [("gzip", ["-c"]), ("xz", ["-c"]), ("zstd", ["-qc"]), ("bzip2", ["-c"]), ("lz4", ["-qc"])]
    {
        let one = lab.packed("part", tool, &arguments);
        let twice = lab.folder.path().join("twice");
        let bytes = fs::read(one).unwrap();
        fs::write(&twice, [bytes.as_slice(), bytes.as_slice()].concat()).unwrap();
        let raw = disk();
        let want: ImageId = blake3::hash(&[raw.as_slice(), raw.as_slice()].concat()).into();
        let (_, summary) = lab.import(&twice, None);
        assert_eq!(summary.unwrap().index.id(), want, "{tool}");
    }
}

#[test]
fn a_container_is_an_ordinary_zstd_file_and_imports_again() {
    let lab = Lab::new();
    let (out, _) = lab.import(&lab.raw, None);
    let unpacked = Command::new("zstd").arg("-qdc").arg(&out).stderr(Stdio::inherit()).output();
    let unpacked =
        unpacked.unwrap_or_else(|problem| panic!("zstd is needed for this test: {problem}"));
    assert!(unpacked.status.success());
    assert!(unpacked.stdout == fs::read(&lab.raw).unwrap(), "zstd -dc gives another disk");
    assert!(Command::new("zstd").arg("-qt").arg(&out).status().unwrap().success());

    let again = lab.folder.path().join("again.zst");
    fs::rename(&out, &again).unwrap();
    let (_, summary) = lab.import(&again, None);
    assert_eq!(summary.unwrap().index.id(), lab.id);
}

#[test]
fn the_publishers_checksum_is_of_the_file_as_it_is() {
    let lab = Lab::new();
    for path in [lab.packed("disk.gz", "gzip", &["-c"]), lab.converted("disk.qcow2", "qcow2", &[])]
    {
        for tool in ["sha256sum", "sha512sum"] {
            let sum = Command::new(tool).arg(&path).output().unwrap().stdout;
            let digits =
                String::from_utf8(sum).unwrap().split_whitespace().next().unwrap().to_owned();
            let right: Checksum =
                format!("{}:{digits}", tool.trim_end_matches("sum")).parse().unwrap();
            assert!(lab.import(&path, Some(right)).1.is_ok(), "{tool} {}", path.display());
        }
        let wrong: Checksum = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let shown = lab.import(&path, Some(wrong)).1.unwrap_err();
        assert!(shown.contains("not the publisher's file"), "{shown}");
    }
}

#[test]
fn the_index_is_read_with_the_end_of_the_file() {
    let lab = Lab::new();
    let (out, summary) = lab.import(&lab.raw, None);
    let index = Index::read(&File::open(out).unwrap()).unwrap();
    assert_eq!(index, summary.unwrap().index);
    assert_eq!(index.raw_bytes(), disk().len() as u64);
    assert!(index.chunks().any(|chunk| chunk.is_hole));
}

#[test]
fn every_kind_of_qcow2_is_the_same_disk() {
    let lab = Lab::new();
    for options in [
        &[][..],
        &["-o", "compat=0.10"],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "compression_type=zstd,cluster_size=2M"],
        &["-c", "-o", "cluster_size=512"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-o", "extended_l2=on"],
        &["-o", "extended_l2=on,cluster_size=128k"],
        &["-c", "-o", "extended_l2=on"],
        &["-o", "lazy_refcounts=on"],
        &["-o", "preallocation=metadata"],
        &["-o", "preallocation=falloc"],
        &["-S", "0"],
    ] {
        let path = lab.converted("disk.qcow2", "qcow2", options);
        assert_eq!(source::open_file(&path, None).unwrap().raw_bytes(), Some(disk().len() as u64));
        let summary = lab.import(&path, None).1;
        let summary = summary.unwrap_or_else(|problem| panic!("{options:?}: {problem}"));
        assert_eq!(summary.index.id(), lab.id, "{options:?}");
    }
}

#[test]
fn a_size_is_known_where_the_format_states_it() {
    let lab = Lab::new();
    let size = disk().len() as u64;
    let (container, _) = lab.import(&lab.raw, None);
    let xz = lab.packed("disk.xz", "xz", &["-c", "-T2", "--block-size=1MiB"]);
    let one = fs::read(&xz).unwrap();
    let padded = lab.file("padded.xz", &[&one, [0; 8].as_slice(), &one, &[0; 4]].concat());
    for (path, known, at_least) in [
        (lab.raw.clone(), Some(size), Some(size)),
        (xz, Some(size), Some(size)),
        (padded, Some(2 * size), Some(2 * size)),
        (container, Some(size), Some(size)),
        (lab.packed("disk.zst", "zstd", &["-qc"]), None, Some(size)),
        (lab.packed("disk.gz", "gzip", &["-c"]), None, None),
        (lab.packed("disk.bz2", "bzip2", &["-c"]), None, None),
    ] {
        let source = source::open_file(&path, None).unwrap();
        let got = (source.raw_bytes(), source.raw_bytes_at_least());
        assert_eq!(got, (known, at_least), "{}", path.display());
    }
}

#[test]
fn a_window_of_2_gib_is_read_unless_memory_is_limited() {
    let lab = Lab::new();
    let path = lab.folder.path().join("long.zst");
    // From a pipe, so that zstd can't know that the disk is smaller than the window.
    let status = Command::new("zstd")
        .args(["-qc", "-1", "--long=31"])
        .stdin(File::open(&lab.raw).unwrap())
        .stdout(File::create(&path).unwrap())
        .status()
        .unwrap_or_else(|problem| panic!("zstd is needed for this test: {problem}"));
    assert!(status.success());
    assert_eq!(lab.import(&path, None).1.unwrap().index.id(), lab.id);
    let xz = lab.packed("disk.xz", "xz", &["-c"]);
    for (path, memory_bytes) in [(path, 128 << 20), (xz, 4 << 20)] {
        let limits = Limits { memory_bytes };
        let problem = source::open_file_within(&path, None, limits).unwrap_err();
        let shown = chain(&problem);
        assert!(shown.contains("more memory than is allowed"), "{shown}");
        assert_eq!(problem.kind(), ErrorKind::InvalidInput);
    }
}
