//! What other people's tools make is understood, and told as blkid tells it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use bty_image::inspect::{Contents, FileSystem, HEAD_BYTES, contents, inspect};

const MIB: u64 = 1 << 20;

fn run(tool: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(tool)
        .args(arguments)
        .arg(file)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|problem| panic!("{tool} is needed for this test: {problem}"));
    let words = [output.stdout.as_slice(), &output.stderr].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    assert!(output.status.success(), "{tool} ended with {}: {words}", output.status);
    words
}

/// A file of so many bytes, of which none takes room.
fn blank(folder: &Path, bytes: u64) -> PathBuf {
    let path = folder.join("blank.img");
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

fn look(path: &Path) -> Contents {
    let file = File::open(path).unwrap();
    let mut head = fs::read(path).unwrap();
    head.truncate(HEAD_BYTES);
    contents(&file, &inspect(&head))
}

/// What a tool makes of an empty disk.
fn made(bytes: u64, tool: &str, arguments: &[&str]) -> (FileSystem, BTreeMap<String, String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = blank(folder.path(), bytes);
    run(tool, arguments, &path);
    let told = run("blkid", &["--probe", "--output", "export"], &path);
    let told = told.lines().filter_map(|line| line.split_once('='));
    let told = told.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    (look(&path).whole.unwrap_or_else(|| panic!("what {tool} made is unknown")), told)
}

#[test]
fn each_kind_is_told_as_blkid_tells_it() {
    // Kind, blkid's kind, MiB, tool, arguments.
    let rows: [(&str, &str, u64, &str, &[&str]); 12] = [
        ("ext2", "ext2", 16, "mkfs.ext2", &["-q", "-L", "label"]),
        ("ext3", "ext3", 16, "mkfs.ext3", &["-q", "-L", "label"]),
        ("ext4", "ext4", 16, "mkfs.ext4", &["-q", "-L", "label"]),
        ("ext4", "ext4", 16, "mkfs.ext4", &["-q", "-L", "label", "-O", "^has_journal"]),
        ("xfs", "xfs", 320, "mkfs.xfs", &["-q", "-L", "label"]),
        ("btrfs", "btrfs", 128, "mkfs.btrfs", &["-q", "-L", "label"]),
        ("fat12", "vfat", 2, "mkfs.vfat", &["-F", "12", "-n", "LABEL"]),
        ("fat16", "vfat", 32, "mkfs.vfat", &["-F", "16", "-n", "LABEL"]),
        ("fat32", "vfat", 64, "mkfs.vfat", &["-F", "32", "-n", "LABEL"]),
        ("ntfs", "ntfs", 16, "mkfs.ntfs", &["-q", "-F", "-L", "label"]),
        ("exfat", "exfat", 16, "mkfs.exfat", &[]),
        ("swap", "swap", 4, "mkswap", &["-q", "-L", "label"]),
    ];
    for (kind, theirs, mib, tool, arguments) in rows {
        let (found, told) = made(mib * MIB, tool, arguments);
        let shown = format!("{tool} {arguments:?}: {found:?}, {told:?}");
        assert_eq!(found.kind, kind, "{shown}");
        assert_eq!(told.get("TYPE").map(String::as_str), Some(theirs), "{shown}");
        assert_eq!(told.get("UUID"), Some(&found.uuid), "{shown}");
        assert_eq!(told.get("LABEL").cloned().unwrap_or_default(), found.label, "{shown}");
        let slack = MIB.max(found.size_bytes / 16);
        assert!(found.size_bytes <= mib * MIB && found.size_bytes + slack >= mib * MIB, "{shown}");
        let used = found.used_bytes.unwrap_or_else(|| panic!("nothing is known used: {shown}"));
        // Metadata takes a part of even an empty one, and never all.
        assert!(used <= found.size_bytes * 3 / 4, "{shown}");
        assert_eq!(used == 0, matches!(kind, "swap" | "fat12" | "fat16" | "exfat"), "{shown}");
    }
}

#[test]
fn what_is_put_in_counts_as_used() {
    let folder = tempfile::tempdir().unwrap();
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), vec![7; 3 << 20]).unwrap();
    let path = blank(folder.path(), 16 * MIB);
    run("mkfs.ext4", &["-q"], &path);
    let before = look(&path).used_bytes().unwrap();
    run("mkfs.ext4", &["-q", "-F", "-d", full.to_str().unwrap()], &path);
    let after = look(&path).used_bytes().unwrap();
    assert!((3 * MIB..3 * MIB + 64 * 1024).contains(&(after - before)), "{before} to {after}");

    let path = blank(folder.path(), 64 * MIB);
    run("mkfs.vfat", &["-F", "32"], &path);
    let before = look(&path).used_bytes().unwrap();
    let file = full.join("file");
    let source = path.to_str().unwrap();
    run("mcopy", &["-i", source, file.to_str().unwrap()], Path::new("::/"));
    let after = look(&path).used_bytes().unwrap();
    assert!((3 * MIB..3 * MIB + 64 * 1024).contains(&(after - before)), "{before} to {after}");
}

/// A disk with an ESP that holds these programs, and a partition of this type.
fn disk(folder: &Path, programs: &[&str], kind: &str) -> PathBuf {
    let path = blank(folder, 48 * MIB);
    let typed = format!("2:{kind}");
    let arguments = ["-n", "1:1M:+36M", "-t", "1:ef00", "-c", "1:ESP", "-n", "2:0:0", "-t", &typed];
    run("sgdisk", &arguments, &path);
    let esp = folder.join("esp.img");
    File::create(&esp).unwrap().set_len(36 * MIB).unwrap();
    run("mkfs.vfat", &["-F", "32", "-s", "1"], &esp);
    let image = esp.to_str().unwrap().to_owned();
    let program = folder.join("program");
    fs::write(&program, "MZ").unwrap();
    for name in programs {
        let mut made = String::from("::");
        let (folders, _) = name.rsplit_once('/').unwrap();
        for part in folders.split('/') {
            made = format!("{made}/{part}");
            // It may be there already.
            let _ = Command::new("mmd").args(["-D", "s", "-i", &image, &made]).output();
        }
        let to = format!("::/{name}");
        run("mcopy", &["-o", "-i", &image, program.to_str().unwrap()], Path::new(&to));
    }
    let mut bytes = fs::read(&path).unwrap();
    let start = usize::try_from(MIB).unwrap();
    let content = fs::read(&esp).unwrap();
    bytes[start..start + content.len()].copy_from_slice(&content);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn loaders_tell_the_system_and_the_processor() {
    let folder = tempfile::tempdir().unwrap();
    let debian = ["EFI/BOOT/BOOTX64.EFI", "EFI/debian/shimx64.efi", "EFI/debian/grubx64.efi"];
    let found = look(&disk(folder.path(), &debian, "8300"));
    assert_eq!(found.os, Some("linux"));
    assert_eq!(found.architectures.iter().copied().collect::<Vec<_>>(), ["x86_64"]);
    let says = &found.hints[0];
    assert!(says.contains(r"\EFI\debian\shimx64.efi"), "{:?}", found.hints);
    assert_eq!(found.partitions[0].as_ref().unwrap().kind, "fat32");
    assert_eq!(found.partitions[1], None, "nothing was made in it");

    let windows =
        ["EFI/Boot/bootaa64.efi", "EFI/Microsoft/Boot/bootmgfw.efi", "EFI/Microsoft/Boot/x.txt"];
    let found = look(&disk(folder.path(), &windows, "0700"));
    assert_eq!(found.os, Some("windows"));
    assert_eq!(found.architectures.iter().copied().collect::<Vec<_>>(), ["aarch64"]);
}

#[test]
fn partition_types_tell_where_no_loader_does() {
    let folder = tempfile::tempdir().unwrap();
    let found = look(&disk(folder.path(), &["EFI/BOOT/BOOTX64.EFI"], "8304"));
    assert_eq!(found.os, Some("linux"));
    assert!(found.hints[0].contains("partition 2"), "{:?}", found.hints);
    let found = look(&disk(folder.path(), &["EFI/BOOT/BOOTX64.EFI"], "a503"));
    assert_eq!(found.os, Some("freebsd"), "{:?}", found.hints);
    let found = look(&disk(folder.path(), &["EFI/BOOT/BOOTX64.EFI"], "0700"));
    assert_eq!((found.os, found.hints.len()), (None, 0));
}
