//! The formats of virtual machines, made by qemu-img, become the disk that qemu-img reads in them; what needs other files, is cut
//! off or damaged is refused.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod lab;

use std::{
    fs::{self, File},
    io::{self, Cursor, Read},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    sync::atomic::AtomicBool,
};

use bty_image::{
    import::{Options, import},
    source,
};
use bty_types::{ErrorKind, ImageId};
use lab::{Lab, chain, disk};

/// What there is: our name, qemu-img's, and its options.
const KINDS: [(&str, &str, &[&str]); 19] = [
    ("vhd", "vpc", &[]),
    ("vhd", "vpc", &["-o", "force_size=on"]),
    ("vhd", "vpc", &["-o", "subformat=fixed"]),
    ("vhd", "vpc", &["-o", "subformat=fixed,force_size=on"]),
    ("vhdx", "vhdx", &[]),
    ("vhdx", "vhdx", &["-o", "block_size=1M"]),
    ("vhdx", "vhdx", &["-o", "block_size=16M"]),
    ("vhdx", "vhdx", &["-o", "subformat=fixed"]),
    ("vhdx", "vhdx", &["-o", "block_state_zero=off"]),
    ("vhdx", "vhdx", &["-S", "0"]),
    ("vmdk", "vmdk", &[]),
    ("vmdk", "vmdk", &["-o", "compat6=on"]),
    ("vmdk", "vmdk", &["-o", "zeroed_grain=on"]),
    ("vmdk", "vmdk", &["-o", "zeroed_grain=on", "-S", "0"]),
    ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
    ("vmdk", "vmdk", &["-o", "subformat=streamOptimized,compat6=on", "-S", "0"]),
    ("vdi", "vdi", &[]),
    ("vdi", "vdi", &["-o", "static=on"]),
    ("vdi", "vdi", &["-S", "0"]),
];

/// The disk that qemu-img reads: some formats round its size up.
fn as_qemu_reads(lab: &Lab, path: &Path, format: &str) -> Vec<u8> {
    let out = lab.folder.path().join("qemu.raw");
    let status = Command::new("qemu-img")
        .args(["convert", "-f", format, "-O", "raw"])
        .arg(path)
        .arg(&out)
        .status();
    assert!(status.unwrap().success());
    fs::read(out).unwrap()
}

#[test]
fn every_kind_is_the_disk_that_qemu_reads() {
    let lab = Lab::new();
    for (name, format, options) in KINDS {
        let path = lab.converted("disk", format, options);
        let want = as_qemu_reads(&lab, &path, format);
        assert!(want.starts_with(&disk()), "{format} {options:?}: qemu-img reads another disk");
        let stated = source::open_file(&path, None).unwrap().raw_bytes();
        assert_eq!(stated, Some(want.len() as u64), "{format} {options:?}");
        let summary = lab.import(&path, None).1;
        let summary = summary.unwrap_or_else(|problem| panic!("{format} {options:?}: {problem}"));
        assert_eq!(summary.format.as_str(), name, "{options:?}");
        assert_eq!(summary.index.id(), ImageId::from(blake3::hash(&want)), "{format} {options:?}");
    }
}

#[test]
fn a_size_that_fits_no_block_is_read_to_its_end() {
    let lab = Lab::new();
    for bytes in [512, 64 * 1024 + 512, (2 << 20) + 512, (4 << 20) - 512] {
        let raw = &disk()[..bytes];
        fs::write(&lab.raw, raw).unwrap();
        for (_, format, options) in KINDS.into_iter().filter(|(name, ..)| *name != "vhd") {
            let path = lab.converted("disk", format, options);
            let summary = lab.import(&path, None).1;
            let summary =
                summary.unwrap_or_else(|problem| panic!("{bytes} {format} {options:?}: {problem}"));
            let want = ImageId::from(blake3::hash(raw));
            assert_eq!(summary.index.id(), want, "{bytes} {format} {options:?}");
        }
    }
}

#[test]
fn a_vhd_of_fixed_size_is_a_vhd_also_as_a_stream_and_packed() {
    let lab = Lab::new();
    let path = lab.converted("disk.vhd", "vpc", &["-o", "subformat=fixed,force_size=on"]);
    let bytes = fs::read(&path).unwrap();
    let source = source::open_stream(Cursor::new(bytes.clone()), None, None).unwrap();
    let summary =
        import(source, &mut io::sink(), &Options::default(), &AtomicBool::new(false), |_| {});
    let summary = summary.unwrap();
    assert_eq!((summary.index.id(), summary.format.as_str()), (lab.id, "vhd"));

    let packed = Command::new("xz").arg("-c").arg(&path).output().unwrap().stdout;
    let summary = lab.import(&lab.file("disk.vhd.xz", &packed), None).1.unwrap();
    assert_eq!((summary.index.id(), summary.format.as_str()), (lab.id, "xz"));

    // The footer is there, and some of the disk before it is not.
    let cut = [&bytes[..1 << 20], &bytes[bytes.len() - 512..]].concat();
    let shown = lab.import(&lab.file("cut.vhd", &cut), None).1.unwrap_err();
    assert!(shown.contains("cut off or damaged"), "{shown}");
}

#[test]
fn a_cut_file_is_refused() {
    let lab = Lab::new();
    for (_, format, options) in KINDS {
        if options.iter().any(|option| option.contains("subformat=fixed")) && format == "vpc" {
            // What is left is a raw disk, as any prefix of one is.
            continue;
        }
        let bytes = fs::read(lab.converted("disk", format, options)).unwrap();
        // Our disk ends with noise, so this is some of it; behind it a VHD has a footer.
        let data = bytes[..bytes.len() - 1024].iter().rposition(|&byte| byte != 0).unwrap();
        for keep in [100, 600, 70_000, data / 2, data - 500] {
            let Err(shown) = lab.import(&lab.file("cut", &bytes[..keep]), None).1 else {
                panic!("{keep} of {} bytes, {format} {options:?}", bytes.len())
            };
            assert!(
                ["cut off", "damaged", "number of 512"].iter().any(|word| shown.contains(word)),
                "{keep} bytes of {format} {options:?}: {shown}"
            );
        }
    }
}

#[test]
fn a_damaged_file_is_read_or_refused() {
    let lab = Lab::new();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for (_, format, options) in KINDS {
        let path = lab.converted("disk", format, options);
        let good = fs::read(&path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        for round in 0..40_u64 {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(round | 1);
            // The header's fields, then anything.
            let most = if round < 20 { 1536 } else { good.len() as u64 };
            let at = (state >> 16) % most;
            let byte = usize::try_from(at).unwrap();
            file.write_all_at(&[u8::try_from(state >> 56).unwrap()], at).unwrap();
            if let Ok(source) = source::open_file(&path, None) {
                let limited = Options { max_raw_bytes: 32 << 20, ..Options::default() };
                let _ = import(source, &mut io::sink(), &limited, &AtomicBool::new(false), |_| {});
            }
            file.write_all_at(&good[byte..=byte], at).unwrap();
        }
    }
}

#[test]
fn what_needs_other_files_is_refused_by_name() {
    let lab = Lab::new();
    let at = lab.folder.path();
    for (subformat, file) in [
        ("monolithicFlat", "disk.vmdk"),
        ("twoGbMaxExtentSparse", "disk.vmdk"),
        ("twoGbMaxExtentSparse", "disk-s001.vmdk"),
        ("twoGbMaxExtentFlat", "disk.vmdk"),
    ] {
        lab.converted("disk.vmdk", "vmdk", &["-o", &format!("subformat={subformat}")]);
        let shown = lab.import(&at.join(file), None).1.unwrap_err();
        assert!(shown.contains("in other files") || shown.contains("another file"), "{shown}");
    }
    let base = lab.converted("base.vmdk", "vmdk", &[]);
    let overlay = at.join("overlay.vmdk");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "vmdk", "-F", "vmdk", "-b"])
        .arg(&base)
        .arg(&overlay)
        .status();
    assert!(made.unwrap().success());
    let shown = lab.import(&overlay, None).1.unwrap_err();
    assert!(shown.contains("a parent"), "{shown}");

    // qemu-img makes no others with a parent; these bytes say that they have one.
    let vdi = fs::read(lab.converted("disk.vdi", "vdi", &[])).unwrap();
    let vhdx = fs::read(lab.converted("disk.vhdx", "vhdx", &[])).unwrap();
    let facts = vhdx.windows(8).position(|bytes| bytes == b"metadata").unwrap();
    for (mut bytes, at, value) in
        [(vdi.clone(), 0x1a8, 1), (vdi, 0x4c, 4), (vhdx, facts + 0x10004, 2)]
    {
        bytes[at] = value;
        let shown = lab.import(&lab.file("child", &bytes), None).1.unwrap_err();
        assert!(shown.contains("a parent"), "{at:#x}: {shown}");
    }
}

#[test]
fn a_stream_is_refused_where_a_file_is_needed() {
    let lab = Lab::new();
    for (_, format, options) in KINDS {
        let bytes = fs::read(lab.converted("disk", format, options)).unwrap();
        let is_fixed = format == "vpc" && options.iter().any(|option| option.contains("fixed"));
        assert_eq!(source::needs_file(&bytes[..512]), !is_fixed, "{format} {options:?}");
        if is_fixed {
            continue;
        }
        let problem = source::open_stream(Cursor::new(bytes), None, None).unwrap_err();
        assert_eq!(problem.kind(), ErrorKind::InvalidInput);
        assert!(chain(&problem).contains("has to be a file"), "{}", chain(&problem));
    }
}

#[test]
fn nothing_is_read_of_a_disk_of_an_absurd_size() {
    let lab = Lab::new();
    let vdi = fs::read(lab.converted("disk.vdi", "vdi", &[])).unwrap();
    let vmdk = fs::read(lab.converted("disk.vmdk", "vmdk", &[])).unwrap();
    for (mut bytes, size_at) in [(vdi, 0x170), (vmdk, 12)] {
        for size in [0, u64::MAX, 1 << 60] {
            bytes[size_at..size_at + 8].copy_from_slice(&size.to_le_bytes());
            let problem = source::open_file(&lab.file("absurd", &bytes), None).unwrap_err();
            assert_eq!(problem.kind(), ErrorKind::InvalidInput, "{}", chain(&problem));
        }
    }
    // A size that a disk may have, and an operator doesn't allow.
    let path = lab.converted("disk.vhdx", "vhdx", &[]);
    let source = source::open_file(&path, None).unwrap();
    let limited = Options { max_raw_bytes: 1 << 20, ..Options::default() };
    let mut read = Vec::new();
    let refused = import(source, &mut read, &limited, &AtomicBool::new(false), |_| {});
    assert!(refused.unwrap_err().to_string().contains("the most that is allowed"));
    assert_eq!(read.bytes().count(), 0);
}
