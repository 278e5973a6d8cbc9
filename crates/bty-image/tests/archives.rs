//! A disk image that is alone in an archive, made by the tools that make archives, is imported; anything else is refused and named.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod lab;

use std::{
    fs::{self, File},
    io::{self, Cursor},
    path::PathBuf,
    process::Command,
    sync::atomic::AtomicBool,
};

use bty_image::{
    import::{Options, import},
    source,
};
use lab::{Lab, disk};

/// Runs a tool in the lab's folder; what it prints goes to a file.
fn run(lab: &Lab, name: &str, tool: &str, arguments: &[&str]) -> PathBuf {
    let path = lab.folder.path().join(name);
    let status = Command::new(tool)
        .args(arguments)
        .current_dir(lab.folder.path())
        .stdout(File::create(&path).unwrap())
        .status()
        .unwrap_or_else(|problem| panic!("{tool} is needed for this test: {problem}"));
    assert!(status.success(), "{tool} ended with {status}");
    path
}

/// The disk again, with its holes as holes of the file.
fn sparse(lab: &Lab) {
    run(lab, "none", "cp", &["--sparse=always", "disk.raw", "sparse.raw"]);
}

#[test]
fn an_image_alone_in_an_archive_is_imported() {
    let lab = Lab::new();
    sparse(&lab);
    fs::create_dir(lab.folder.path().join("folder")).unwrap();
    let long = format!("folder/{}.raw", "long".repeat(40));
    fs::copy(&lab.raw, lab.folder.path().join(&long)).unwrap();
    for (want, name, tool, arguments) in [
        ("tar", "a.tar", "tar", &["-c", "disk.raw"][..]),
        ("tar", "a.tar", "tar", &["-c", "--format=ustar", "disk.raw"]),
        ("tar", "a.tar", "tar", &["-c", "--format=pax", &long]),
        ("tar", "a.tar", "tar", &["-c", "--format=gnu", "folder"]),
        // What Google's cloud asks for.
        ("tar", "a.tar", "tar", &["-cS", "--format=oldgnu", "sparse.raw"]),
        ("tar", "a.tar", "tar", &["-cS", "--format=gnu", "sparse.raw"]),
        ("tar", "a.tar", "tar", &["-cS", "--format=pax", "sparse.raw"]),
        ("tar", "a.tar.gz", "tar", &["-cz", "disk.raw"]),
        ("tar", "a.tar.xz", "tar", &["-cJ", "disk.raw"]),
        ("tar", "a.tar.bz2", "tar", &["-cj", "disk.raw"]),
        ("tar", "a.tar.zst", "tar", &["-c", "--zstd", "disk.raw"]),
        ("tar", "a.tar.lz4", "tar", &["-c", "-I", "lz4", "disk.raw"]),
        ("zip", "none", "zip", &["-q", "a.zip", "disk.raw"]),
        ("zip", "none", "zip", &["-q", "-0", "a.zip", "disk.raw"]),
        ("zip", "none", "zip", &["-q", "-r", "a.zip", "folder"]),
        // To a pipe: its sizes come behind the data.
        ("zip", "a.zip", "zip", &["-q", "-fz-", "-", "disk.raw"]),
        ("zip", "a.zip", "zip", &["-q", "-fz", "-", "disk.raw"]),
    ] {
        if name == "none" {
            let _ = fs::remove_file(lab.folder.path().join("a.zip"));
        }
        let mut path = run(&lab, name, tool, arguments);
        if name == "none" {
            path = lab.folder.path().join("a.zip");
        }
        let (_, summary) = lab.import(&path, None);
        let summary = summary.unwrap_or_else(|problem| panic!("{arguments:?}: {problem}"));
        assert_eq!(summary.index.id(), lab.id, "{arguments:?}");
        assert_eq!(summary.format.as_str(), want, "{arguments:?}");
        // From the network it comes as a stream.
        let stream = Cursor::new(fs::read(&path).unwrap());
        let source = source::open_stream(stream, None, None).unwrap();
        let summary =
            import(source, &mut io::sink(), &Options::default(), &AtomicBool::new(false), |_| {});
        assert_eq!(summary.unwrap().index.id(), lab.id, "{arguments:?}");
    }
}

#[test]
fn a_vhd_of_fixed_size_in_an_archive_is_its_disk() {
    let lab = Lab::new();
    lab.converted("disk.vhd", "vpc", &["-o", "subformat=fixed,force_size=on"]);
    let path = run(&lab, "a.tar.gz", "tar", &["-cz", "disk.vhd"]);
    assert_eq!(lab.import(&path, None).1.unwrap().index.id(), lab.id);
}

#[test]
fn several_files_none_and_others_are_refused_and_named() {
    let lab = Lab::new();
    lab.file("README", b"hello world");
    lab.file("second.raw", &disk());
    lab.converted("disk.qcow2", "qcow2", &[]);
    lab.packed("disk.raw.gz", "gzip", &["-c"]);
    fs::create_dir(lab.folder.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("disk.raw", lab.folder.path().join("link.raw")).unwrap();
    for (files, want) in [
        (&["disk.raw", "README"][..], "README"),
        (&["README", "disk.raw"], "README"),
        (&["disk.raw", "second.raw"], "disk.raw and second.raw"),
        (&["folder"], "no file"),
        (&["README"], "no disk image"),
        (&["disk.qcow2"], "packed twice"),
        (&["disk.raw.gz"], "packed twice"),
    ] {
        let _ = fs::remove_file(lab.folder.path().join("a.zip"));
        let tar = [&["-c"], files].concat();
        let zip = [&["-q", "-r", "a.zip"], files].concat();
        let tar = run(&lab, "a.tar", "tar", &tar);
        run(&lab, "none", "zip", &zip);
        for path in [tar, lab.folder.path().join("a.zip")] {
            let shown = lab.import(&path, None).1.unwrap_err();
            // A packed file of no whole sectors is no disk by that already.
            let is_odd = files == ["disk.raw.gz"] && shown.contains("no disk image");
            assert!(shown.contains(want) || is_odd, "{files:?} in {}: {shown}", path.display());
        }
    }
    let link = run(&lab, "a.tar", "tar", &["-c", "link.raw"]);
    let shown = lab.import(&link, None).1.unwrap_err();
    assert!(shown.contains("link.raw"), "{shown}");
}

#[test]
fn an_archive_that_is_cut_off_is_refused() {
    let lab = Lab::new();
    sparse(&lab);
    let zip = run(&lab, "a.zip", "zip", &["-q", "-fz-", "-", "disk.raw"]);
    for path in [
        run(&lab, "a.tar", "tar", &["-c", "disk.raw"]),
        run(&lab, "b.tar", "tar", &["-cS", "--format=pax", "sparse.raw"]),
        run(&lab, "a.tar.gz", "tar", &["-cz", "disk.raw"]),
        zip,
    ] {
        let bytes = fs::read(&path).unwrap();
        // The directory at the end of a zip isn't read.
        let end = bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap_or(bytes.len());
        let end = if path.ends_with("a.zip") { end } else { bytes.len() - 12_000 };
        for keep in [300, 700, bytes.len() / 2, end - 1] {
            let shown = lab.import(&lab.file("cut", &bytes[..keep]), None).1.unwrap_err();
            let words = ["cut off", "damaged"];
            assert!(words.iter().any(|word| shown.contains(word)), "{keep}: {shown}");
        }
    }
}

#[test]
fn a_file_of_an_archive_that_is_too_large_is_refused_before_it_is_read() {
    let lab = Lab::new();
    let tar = run(&lab, "a.tar", "tar", &["-c", "disk.raw"]);
    let _ = run(&lab, "none", "zip", &["-q", "a.zip", "disk.raw"]);
    for path in [tar, lab.folder.path().join("a.zip")] {
        let source = source::open_file(&path, None).unwrap();
        let limited = Options { max_raw_bytes: 1 << 20, ..Options::default() };
        let mut written = Vec::new();
        let refused =
            import(source, &mut written, &limited, &AtomicBool::new(false), |_| {}).unwrap_err();
        assert!(refused.to_string().contains("the most that is allowed"), "{refused}");
        assert!(written.is_empty());
    }
}
