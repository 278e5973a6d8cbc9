//! Every format that people hold, made by the tools that make it, becomes the same image.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
};

use bty_image::{
    container::Index,
    import::{ImportError, Options, Summary, import},
    source,
};
use bty_types::{Checksum, ImageId};
use tempfile::TempDir;

/// A disk with a bit of everything: text, noise, holes, an odd number of chunks.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0_u8; 5 * 1024 * 1024 + 512 * 3];
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for (at, byte) in bytes.iter_mut().enumerate() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = match at / (512 * 1024) {
            0 => b"all work and no play "[at % 21],
            1 | 4 | 10 => u8::try_from(state & 0xff).unwrap(),
            _ => 0,
        };
    }
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

struct Lab {
    folder: TempDir,
    raw: PathBuf,
    id: ImageId,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let raw = folder.path().join("disk.raw");
        let bytes = disk();
        fs::write(&raw, &bytes).unwrap();
        Self { folder, raw, id: blake3::hash(&bytes).into() }
    }

    /// Runs a tool on the raw disk and keeps what it prints.
    fn packed(&self, name: &str, tool: &str, arguments: &[&str]) -> PathBuf {
        let path = self.folder.path().join(name);
        let status = Command::new(tool)
            .args(arguments)
            .arg(&self.raw)
            .stdout(File::create(&path).unwrap())
            .status()
            .unwrap_or_else(|problem| panic!("{tool} is needed for this test: {problem}"));
        assert!(status.success(), "{tool} ended with {status}");
        path
    }

    fn qcow2(&self, name: &str, options: &[&str]) -> PathBuf {
        let path = self.folder.path().join(name);
        let status = Command::new("qemu-img")
            .args(["convert", "-O", "qcow2"])
            .args(options)
            .arg(&self.raw)
            .arg(&path)
            .status()
            .unwrap_or_else(|problem| panic!("qemu-img (package qemu-utils) is needed: {problem}"));
        assert!(status.success(), "qemu-img ended with {status}");
        path
    }

    fn import(
        &self,
        path: &Path,
        checksum: Option<Checksum>,
    ) -> (PathBuf, Result<Summary, String>) {
        let out = self.folder.path().join("out.img.zst");
        let source = match source::open_file(path, checksum) {
            Ok(source) => source,
            Err(problem) => return (out, Err(chain(&problem))),
        };
        let mut file = File::create(&out).unwrap();
        let options = Options { chunk_bytes: 64 * 1024, ..Options::default() };
        let outcome = import(source, &mut file, &options, &AtomicBool::new(false), |_| {});
        (out, outcome.map_err(|problem| chain(&problem)))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

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
        ("qcow2", lab.qcow2("v3.qcow2", &[])),
        ("qcow2", lab.qcow2("v2.qcow2", &["-o", "compat=0.10"])),
        ("qcow2", lab.qcow2("compressed.qcow2", &["-c"])),
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
        [("gzip", ["-c"]), ("xz", ["-c"]), ("zstd", ["-qc"]), ("bzip2", ["-c"])]
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
fn a_source_that_is_cut_off_is_refused() {
    let lab = Lab::new();
    let whole = [
        lab.packed("disk.gz", "gzip", &["-c"]),
        lab.packed("disk.xz", "xz", &["-c"]),
        lab.packed("disk.zst", "zstd", &["-qc"]),
        lab.packed("disk.bz2", "bzip2", &["-c"]),
    ];
    for path in whole {
        let bytes = fs::read(&path).unwrap();
        for keep in [bytes.len() / 2, bytes.len() - 1] {
            let cut = lab.folder.path().join("cut");
            fs::write(&cut, &bytes[..keep]).unwrap();
            let shown = lab.import(&cut, None).1.unwrap_err();
            assert!(
                shown.contains("cut off") || shown.contains("damaged"),
                "{}: {shown}",
                path.display()
            );
        }
    }
}

#[test]
fn a_source_with_a_changed_byte_is_refused() {
    let lab = Lab::new();
    for path in [lab.packed("disk.gz", "gzip", &["-c"]), lab.packed("disk.xz", "xz", &["-c"])] {
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
    let tar = lab.folder.path().join("disk.tar");
    let status = Command::new("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(lab.folder.path())
        .arg("disk.raw")
        .status();
    assert!(status.unwrap().success());
    let tar_gz = lab.folder.path().join("disk.tar.gz");
    let gzip =
        Command::new("gzip").arg("-c").arg(&tar).stdout(File::create(&tar_gz).unwrap()).status();
    assert!(gzip.unwrap().success());
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
        (&tar, "tar archive"),
        (&tar_gz, "tar archive"),
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
fn zstd_compressed_clusters_are_refused_by_name() {
    let lab = Lab::new();
    let path = lab.qcow2("zstd.qcow2", &["-c", "-o", "compression_type=zstd"]);
    let shown = lab.import(&path, None).1.unwrap_err();
    assert!(
        shown.contains("zstd-compressed clusters") && shown.contains("qemu-img convert"),
        "{shown}"
    );
}

#[test]
fn the_publishers_checksum_is_of_the_file_as_it_is() {
    let lab = Lab::new();
    for path in [lab.packed("disk.gz", "gzip", &["-c"]), lab.qcow2("disk.qcow2", &[])] {
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
fn a_bomb_a_wrong_id_a_cancel_and_a_full_disk_each_end_the_import() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lab = Lab::new();
    let open = || source::open_file(&lab.raw, None).unwrap();
    let go = AtomicBool::new(false);
    let options = Options::default();

    let small = Options { max_raw_bytes: 1 << 20, ..options.clone() };
    let bomb = import(open(), &mut Vec::new(), &small, &go, |_| {});
    assert!(matches!(bomb, Err(ImportError::TooLarge(_))), "{bomb:?}");

    let other = Options { expect_id: Some(ImageId::new([7; 32])), ..options.clone() };
    let wrong = import(open(), &mut Vec::new(), &other, &go, |_| {});
    assert!(matches!(wrong, Err(ImportError::WrongId { .. })), "{wrong:?}");

    let cancelled = import(open(), &mut Vec::new(), &options, &AtomicBool::new(true), |_| {});
    assert!(matches!(cancelled, Err(ImportError::Cancelled)), "{cancelled:?}");

    let full = import(open(), &mut Full, &options, &go, |_| {});
    assert!(matches!(full, Err(ImportError::Write(_))), "{full:?}");
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
