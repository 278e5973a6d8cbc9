//! What file systems call free can be made zero: the files stay what they are, the tools that check find nothing, and what was deleted
//! is gone.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use bty_image::{
    freespace::{Finding, Options, survey},
    inspect::{HEAD_BYTES, inspect},
};

const MIB: u64 = 1 << 20;
const SECRET: &[u8] = b"what was deleted must not be in the image ";

fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .env("MTOOLS_SKIP_CHECK", "1")
        .output()
        .unwrap_or_else(|problem| panic!("{tool} is needed for this test: {problem}"));
    let words = [output.stdout.as_slice(), &output.stderr].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    assert!(output.status.success(), "{tool} {arguments:?} ended with {}: {words}", output.status);
    words
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file system that is mounted. Unmounted when dropped.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    fn new(image: &Path, at: &Path, kind: &str, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = format!("loop,{options}");
        if kind == "ntfs" {
            run("ntfs-3g", &["-o", options.trim_start_matches("loop,"), text(image), text(at)]);
        } else {
            run("mount", &["-t", kind, "-o", &options, text(image), text(at)]);
        }
        Self { at: at.to_owned() }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).output();
    }
}

/// What is in a file: bytes that no tool makes smaller, other ones for each number.
fn content(number: u64, bytes: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[4]
        })
        .collect()
}

/// Names and content of the files that are written; every third is deleted again.
fn files() -> &'static [(String, Vec<u8>)] {
    static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(make_files);
    &FILES
}

fn make_files() -> Vec<(String, Vec<u8>)> {
    let sizes = [10, 5000, 70_000, 300_000, 700_000];
    (0..60_u64)
        .map(|number| {
            let size = sizes[usize::try_from(number).unwrap() % sizes.len()];
            let bytes = match number % 3 {
                0 => SECRET.repeat(size / SECRET.len() + 1),
                _ => content(number, size),
            };
            (format!("file-{number:02}"), bytes)
        })
        .collect()
}

fn is_deleted(name: &str) -> bool {
    let number: u64 = name.trim_start_matches("file-").parse().unwrap();
    number.is_multiple_of(3)
}

fn fill(folder: &Path) {
    for (name, bytes) in files() {
        fs::write(folder.join(name), bytes).unwrap();
    }
    run("sync", &["-f", text(folder)]);
    for (name, _) in files() {
        if is_deleted(name) {
            fs::remove_file(folder.join(name)).unwrap();
        }
    }
    run("sync", &["-f", text(folder)]);
}

fn assert_files(found: &BTreeMap<String, Vec<u8>>, shown: &str) {
    let wanted = files().iter().filter(|(name, _)| !is_deleted(name));
    let names: Vec<_> = wanted.clone().map(|(name, _)| name).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), names, "{shown}");
    for (name, bytes) in wanted {
        assert!(found[name] == *bytes, "{shown}: {name} is not what was written");
    }
}

fn read_all(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("file-"));
    files
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// How many blocks hold what was deleted.
fn secret_blocks(image: &Path) -> usize {
    let bytes = fs::read(image).unwrap();
    let blocks = bytes.chunks(512).filter_map(|block| block.get(..2 * SECRET.len()));
    let blocks =
        blocks.filter(|head| head.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b' '));
    blocks.filter(|head| head.windows(SECRET.len()).any(|window| window == SECRET)).count()
}

/// Looks at an image, makes what is free zero, and says what was found.
fn empty(image: &Path) -> Vec<Finding> {
    let file = File::options().read(true).write(true).open(image).unwrap();
    let mut head = vec![0; HEAD_BYTES];
    file.read_exact_at(&mut head, 0).unwrap();
    let survey = survey(&file, &inspect(&head), Options::default());
    let free: Vec<_> = survey.free().collect::<Result<_, _>>().unwrap();
    let sum: u64 = free.iter().map(|range| range.end - range.start).sum();
    let said: u64 =
        survey.findings().iter().filter_map(|found| found.free_bytes.as_ref().ok()).sum();
    assert_eq!(sum, said, "both walks find the same");
    for range in free {
        let mut at = range.start;
        while at < range.end {
            let size = (range.end - at).min(MIB);
            file.write_all_at(&vec![0; usize::try_from(size).unwrap()], at).unwrap();
            at += size;
        }
    }
    survey.findings().to_vec()
}

fn blank(folder: &Path, bytes: u64) -> PathBuf {
    let path = folder.join("disk.img");
    // Old data, which must go too.
    fs::write(&path, SECRET.repeat(usize::try_from(bytes).unwrap() / SECRET.len())).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
    path
}

/// Makes, fills, empties, checks and reads a file system that the kernel mounts.
fn mounted(kind: &str, mib: u64, make: &[&str], options: &str, check: &[&str]) {
    let shown = format!("{make:?}");
    let folder = tempfile::tempdir().unwrap();
    let image = blank(folder.path(), mib * MIB);
    let (tool, arguments) = make.split_first().unwrap();
    run(tool, &[arguments, &[text(&image)]].concat());
    {
        let mounted = Mounted::new(&image, &folder.path().join("mnt"), kind, options);
        fill(&mounted.at);
    }
    let before = secret_blocks(&image);
    let findings = empty(&image);
    let [Finding { free_bytes: Ok(free), .. }] = findings.as_slice() else {
        panic!("{shown}: {findings:?}");
    };
    assert!(*free > mib * MIB / 4, "{shown}: only {free} bytes are free");
    let (tool, arguments) = check.split_first().unwrap();
    run(tool, &[arguments, &[text(&image)]].concat());
    let mounted = Mounted::new(&image, &folder.path().join("mnt"), kind, "ro");
    assert_files(&read_all(&mounted.at), &shown);
    drop(mounted);
    // What tools never wrote of their own structures (tables of inodes, a journal) is old data, and no file's.
    let left = secret_blocks(&image);
    assert!(before > 1000 && left < before / 4, "{shown}: {left} of {before} blocks are left");
}

const FSCK_EXT: &[&str] = &["fsck.ext4", "-f", "-n"];
const FSCK_XFS: &[&str] = &["xfs_repair", "-n", "-f"];
const FSCK_BTRFS: &[&str] = &["btrfs", "check", "--readonly"];

#[test]
fn ext_of_every_layout() {
    let layouts: [&[&str]; 10] = [
        &["mkfs.ext4", "-q"],
        &["mkfs.ext4", "-q", "-b", "1024"],
        &["mkfs.ext4", "-q", "-O", "^metadata_csum,uninit_bg"],
        &["mkfs.ext4", "-q", "-O", "^64bit,^flex_bg"],
        &["mkfs.ext4", "-q", "-O", "meta_bg,^resize_inode", "-b", "1024"],
        &["mkfs.ext4", "-q", "-O", "bigalloc", "-C", "65536"],
        &["mkfs.ext4", "-q", "-O", "sparse_super2", "-b", "1024"],
        &["mkfs.ext4", "-q", "-O", "metadata_csum_seed,inline_data"],
        &["mkfs.ext2", "-q", "-b", "1024"],
        &["mkfs.ext3", "-q"],
    ];
    for make in layouts {
        mounted("ext4", 96, make, "rw", FSCK_EXT);
    }
}

#[test]
fn xfs_of_every_layout() {
    let layouts: [&[&str]; 4] = [
        &["mkfs.xfs", "-q", "-f"],
        &["mkfs.xfs", "-q", "-f", "-b", "size=1024", "-d", "agcount=3"],
        &["mkfs.xfs", "-q", "-f", "-s", "size=4096", "-m", "rmapbt=1"],
        &["mkfs.xfs", "-q", "-f", "-l", "su=64k"],
    ];
    for make in layouts {
        mounted("xfs", 320, make, "rw", FSCK_XFS);
    }
}

#[test]
fn btrfs_of_every_layout() {
    let layouts: [&[&str]; 4] = [
        &["mkfs.btrfs", "-q", "-f"],
        &["mkfs.btrfs", "-q", "-f", "-m", "single"],
        &["mkfs.btrfs", "-q", "-f", "--mixed"],
        &["mkfs.btrfs", "-q", "-f", "--csum", "xxhash"],
    ];
    for make in layouts {
        mounted("btrfs", 256, make, "rw", FSCK_BTRFS);
    }
}

#[test]
fn ntfs_of_every_cluster_size() {
    for cluster in ["4096", "512", "65536"] {
        let make = ["mkfs.ntfs", "-q", "-F", "-f", "-c", cluster];
        mounted("ntfs", 96, &make, "rw", &["ntfsfix", "--no-action"]);
    }
}

#[test]
fn fat_of_every_width() {
    for (bits, mib, sector) in
        [("12", 30, "4096"), ("16", 64, "512"), ("32", 64, "512"), ("32", 300, "4096")]
    {
        let shown = format!("FAT{bits} with sectors of {sector}");
        let folder = tempfile::tempdir().unwrap();
        let image = blank(folder.path(), mib * MIB);
        let cluster = match bits {
            "12" => "2",
            "16" => "4",
            _ => "1",
        };
        run("mkfs.vfat", &["-F", bits, "-S", sector, "-s", cluster, text(&image)]);
        let source = folder.path().join("files");
        fs::create_dir(&source).unwrap();
        for (name, bytes) in files() {
            let at = source.join(name);
            fs::write(&at, bytes).unwrap();
            run("mcopy", &["-i", text(&image), text(&at), "::"]);
        }
        for (name, _) in files() {
            if is_deleted(name) {
                run("mdel", &["-i", text(&image), &format!("::{name}")]);
            }
        }
        let before = secret_blocks(&image);
        let findings = empty(&image);
        assert!(
            matches!(findings[..], [Finding { free_bytes: Ok(_), .. }]),
            "{shown}: {findings:?}"
        );
        run("fsck.vfat", &["-n", text(&image)]);
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        run("mcopy", &["-i", text(&image), "::file-*", text(&out)]);
        assert_files(&read_all(&out), &shown);
        let left = secret_blocks(&image);
        assert!(before > 1000 && left < before / 100, "{shown}: {left} of {before} are left");
    }
}

#[test]
fn exfat_is_as_empty_as_its_own_tool_says() {
    let folder = tempfile::tempdir().unwrap();
    let image = blank(folder.path(), 64 * MIB);
    run("mkfs.exfat", &[text(&image)]);
    let findings = empty(&image);
    assert!(matches!(findings[..], [Finding { free_bytes: Ok(60_000_000..), .. }]), "{findings:?}");
    run("fsck.exfat", &["-n", text(&image)]);
}

/// What becomes of a file system whose bytes at this place are changed.
fn changed(make: &[&str], mib: u64, change: impl Fn(&File)) -> Finding {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    File::create(&image).unwrap().set_len(mib * MIB).unwrap();
    let (tool, arguments) = make.split_first().unwrap();
    run(tool, &[arguments, &[text(&image)]].concat());
    let file = File::options().read(true).write(true).open(&image).unwrap();
    change(&file);
    let mut head = vec![0; HEAD_BYTES];
    file.read_exact_at(&mut head, 0).unwrap();
    let survey = survey(&file, &inspect(&head), Options::default());
    let found = survey.findings().first().cloned().unwrap();
    assert_eq!(survey.free().count() > 0, found.free_bytes.is_ok(), "{found:?}");
    found
}

/// What makes it, MiB of the disk, where it is changed, to what, and what is said then.
type Damage = (&'static [&'static str], u64, u64, &'static [u8], &'static str);

#[test]
fn one_that_was_not_unmounted_or_is_damaged_is_taken_whole() {
    let set =
        |at: u64, bytes: &'static [u8]| move |file: &File| file.write_all_at(bytes, at).unwrap();
    let rows: [Damage; 11] = [
        // s_state; the journal's flag; an unknown feature; a count in a descriptor.
        (&["mkfs.ext4", "-q"], 32, 1024 + 0x3a, &[0], "not unmounted"),
        (&["mkfs.ext4", "-q"], 32, 1024 + 0x60, &[0xc6], "journal"),
        (&["mkfs.ext4", "-q"], 32, 1024 + 0x63, &[0x80], "features"),
        (&["mkfs.ext4", "-q", "-b", "4096"], 32, 4096 + 0xc, &[9, 9], "free blocks"),
        (&["mkfs.xfs", "-q"], 320, 512, b"nope", "header is damaged"),
        // The version before checksums, which not every kernel mounts.
        (&["mkfs.xfs", "-q", "-m", "crc=0"], 320, 512, b"nope", "header is damaged"),
        (&["mkfs.btrfs", "-q"], 128, 0x1_0000 + 0x60, &[1], "log"),
        (&["mkfs.vfat", "-F", "32"], 64, 65, &[1], "not unmounted"),
        (&["mkfs.exfat"], 64, 106, &[2], "not unmounted"),
        // A label that is not what the checksum is about; a RAID that was made over a file system, in sectors that it has no use for.
        (&["mkfs.xfs", "-q"], 320, 108, b"x", "superblock is damaged"),
        (&["mkfs.vfat", "-F", "32"], 64, 4096, &[0xfc, 0x4e, 0x2b, 0xa9], "something else"),
    ];
    for (make, mib, at, bytes, why) in rows {
        let found = changed(make, mib, set(at, bytes));
        let doubt = found.free_bytes.unwrap_err();
        assert!(doubt.contains(why), "{make:?} with {bytes:?} at {at}: {doubt}");
        assert!(changed(make, mib, |_| ()).free_bytes.is_ok(), "{make:?} as it was made");
    }
}

#[test]
fn file_systems_that_are_mounted_are_taken_whole() {
    for (kind, make, mib) in
        [("ext4", &["mkfs.ext4", "-q"][..], 64), ("xfs", &["mkfs.xfs", "-q"], 320)]
    {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.img");
        File::create(&image).unwrap().set_len(mib * MIB).unwrap();
        run(make[0], &[&make[1..], &[text(&image)]].concat());
        let mounted = Mounted::new(&image, &folder.path().join("mnt"), kind, "rw");
        fs::write(mounted.at.join("file-01"), "x").unwrap();
        run("sync", &["-f", text(&mounted.at)]);
        let copy = folder.path().join("copy.img");
        fs::copy(&image, &copy).unwrap();
        let findings = empty(&copy);
        assert!(findings[0].free_bytes.is_err(), "{findings:?}");
    }
}

#[test]
fn a_large_disk_is_a_stream_of_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    File::create(&image).unwrap().set_len(2 << 40).unwrap();
    run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", text(&image)]);
    let file = File::open(&image).unwrap();
    let mut head = vec![0; HEAD_BYTES];
    file.read_exact_at(&mut head, 0).unwrap();
    let survey = survey(&file, &inspect(&head), Options::default());
    let free: u64 =
        survey.free().map(|range| range.unwrap()).map(|range| range.end - range.start).sum();
    assert!(free > (2 << 40) / 100 * 98, "{free} bytes are free");
    let said = survey.findings()[0].free_bytes.clone();
    assert_eq!(said, Ok(free), "both walks find the same");
}
