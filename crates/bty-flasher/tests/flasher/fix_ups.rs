//! Changes of the disk after the image, judged by the tools that everybody has.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bty_testkit::child::Program;
use serde_json::Value;
use tempfile::TempDir;

use crate::disk::{LoopDisk, below, failure, flasher, record, text};

const MIB: u64 = 1 << 20;

/// A disk image with a partition table, and file systems in its partitions.
struct Image {
    folder: TempDir,
    path: PathBuf,
}

fn tool(program: &str, arguments: &[&str]) -> String {
    Program::new(program)
        .args(arguments)
        .run()
        .unwrap_or_else(|problem| panic!("this test needs {program}: {problem}"))
}

impl Image {
    /// Partitions are a type of sfdisk's, a name, sizes in MiB and a file system; the first begins at 1 MiB.
    fn new(table: &str, sector_bytes: u32, partitions: &[(&str, &str, u64, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = below(&folder, "disk.img");
        let total = partitions.iter().map(|partition| partition.2).sum::<u64>() + 2;
        let disk = LoopDisk::sized(total * MIB, sector_bytes);
        let mut script = format!("label: {table}\n");
        let mut at = 1;
        for (kind, name, size, _) in partitions {
            let (start, sectors) = (at * MIB, size * MIB);
            let per = u64::from(sector_bytes);
            script += &format!("start={}, size={}, type={kind}", start / per, sectors / per);
            script += &if table == "gpt" { format!(", name={name}\n") } else { "\n".to_owned() };
            at += size;
        }
        let file = below(&folder, "script");
        fs::write(&file, script).unwrap();
        let command = format!("sfdisk --quiet --no-reread {} < {}", disk.node(), text(&file));
        tool("sh", &["-c", &command]);
        let image = disk.file();
        let mut at = MIB;
        for (_, name, size, kind) in partitions {
            let bytes = make(&folder, kind, name, size * MIB, sector_bytes);
            copy(&fs::File::open(bytes).unwrap(), 0, &image, at, size * MIB);
            at += size * MIB;
        }
        let out = fs::File::create(&path).unwrap();
        out.set_len(total * MIB).unwrap();
        copy(&image, 0, &out, 0, total * MIB);
        Self { folder, path }
    }

    /// A file to take along.
    fn file(&self, name: &str, content: &str) -> String {
        let path = below(&self.folder, name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        text(&path).to_owned()
    }
}

/// A file system in a file, with a folder /etc and links in it where mkfs takes some.
fn make(folder: &TempDir, kind: &str, label: &str, bytes: u64, sector_bytes: u32) -> PathBuf {
    let root = below(folder, &format!("root-{label}"));
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::create_dir_all(root.join("Windows/Panther")).unwrap();
    std::os::unix::fs::symlink("/../../tmp", root.join("out")).unwrap();
    let path = below(folder, &format!("{label}.fs"));
    fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    let (file, root) = (text(&path), text(&root));
    let sector = sector_bytes.to_string();
    match kind {
        "ext4" => tool("mkfs.ext4", &["-q", "-b", "4096", "-L", label, "-d", root, file]),
        "xfs" => tool("mkfs.xfs", &["-q", "-s", &format!("size={sector}"), file]),
        "btrfs" => tool("mkfs.btrfs", &["-q", "--rootdir", root, file]),
        "ntfs" => {
            tool("mkntfs", &["--quiet", "--force", "--fast", "--sector-size", &sector, file]);
            String::new()
        }
        "vfat" => tool("mkfs.vfat", &["-S", &sector, "-n", label, file]),
        _ => String::new(),
    };
    path
}

/// Copies what is not zeros.
fn copy(from: &fs::File, from_at: u64, to: &fs::File, to_at: u64, bytes: u64) {
    let mut piece = vec![0; 1 << 20];
    for at in (0..bytes).step_by(piece.len()) {
        let size = usize::try_from((bytes - at).min(MIB)).unwrap();
        from.read_exact_at(&mut piece[..size], from_at + at).unwrap();
        if piece[..size].iter().any(|&byte| byte != 0) {
            to.write_all_at(&piece[..size], to_at + at).unwrap();
        }
    }
}

/// Flashes, and gives the results of the fix-ups by name.
fn fix(image: &Image, disk: &LoopDisk, flags: &[&str]) -> (Value, Vec<(String, String, String)>) {
    let arguments =
        [&["write", text(&image.path), disk.node(), "--yes", "--output", "json"], flags].concat();
    let record = record(&flasher(&arguments));
    let word = |result: &Value, key: &str| result[key].as_str().unwrap().to_owned();
    let results = record["fix_ups"].as_array().unwrap().iter();
    let results = results
        .map(|result| (word(result, "name"), word(result, "outcome"), word(result, "detail")))
        .collect();
    (record, results)
}

fn outcomes(results: &[(String, String, String)]) -> Vec<(&str, &str)> {
    results.iter().map(|(name, outcome, _)| (name.as_str(), outcome.as_str())).collect()
}

/// Start and size of each partition in bytes, as sfdisk sees them.
fn partitions(disk: &LoopDisk) -> Vec<(u64, u64)> {
    let json: Value = serde_json::from_str(&tool("sfdisk", &["--json", disk.node()])).unwrap();
    let table = &json["partitiontable"];
    let sector = table["sectorsize"].as_u64().unwrap();
    let number = |value: &Value| value.as_u64().unwrap() * sector;
    let found = table["partitions"].as_array().unwrap().iter();
    found.map(|partition| (number(&partition["start"]), number(&partition["size"]))).collect()
}

/// A partition as a file of its own.
fn extracted(disk: &LoopDisk, (start, size): (u64, u64), folder: &Path) -> String {
    let path = folder.join(format!("partition-{start}"));
    let out = fs::File::create(&path).unwrap();
    out.set_len(size).unwrap();
    copy(&disk.file(), start, &out, 0, size);
    text(&path).to_owned()
}

fn assert_table_is_right(disk: &LoopDisk) {
    let said = tool("sgdisk", &["--verify", disk.node()]);
    assert!(said.contains("No problems found"), "{said}");
}

#[test]
fn a_grown_root_a_seed_and_new_identities_on_both_sector_sizes() {
    for sector in [512, 4096] {
        let image = Image::new(
            "gpt",
            sector,
            &[("uefi", "ESP", 40, "vfat"), ("linux", "root", 40, "ext4")],
        );
        image.file("seed/user-data", "#cloud-config\npassword: x\n");
        image.file("seed/network-config", "version: 2\n");
        let seed = text(&below(&image.folder, "seed")).to_owned();
        let disk = LoopDisk::sized(301 * MIB, sector);
        let before = tool("sfdisk", &["--disk-id", text(&image.path)]);
        let saved = below(&image.folder, "receipt.json");
        let flags = ["--grow", "--seed", &seed, "--new-guids", "--receipt", text(&saved)];
        let (record, results) = fix(&image, &disk, &flags);
        assert_eq!(record["proved"], true);
        assert_eq!(
            outcomes(&results),
            [
                ("gpt-to-end", "done"),
                ("seed", "done"),
                ("grow-partition", "done"),
                ("new-guids", "done"),
                ("grow-file-system", "done")
            ],
            "{results:?}"
        );
        assert!(!record.to_string().contains("password"), "a secret is shown");
        assert_table_is_right(&disk);
        assert_ne!(tool("sfdisk", &["--disk-id", disk.node()]), before);
        let [_, root, cidata] = partitions(&disk)[..] else { panic!("{:?}", partitions(&disk)) };
        assert_eq!(root.0 + root.1, cidata.0);
        assert!(root.1 > 250 * MIB);
        let folder = image.folder.path();
        let root = (extracted(&disk, root, folder), root.1);
        tool("e2fsck", &["-fn", &root.0]);
        let shown = tool("dumpe2fs", &["-h", &root.0]);
        assert!(shown.contains(&format!("Block count:              {}", root.1 / 4096)), "{shown}");
        let cidata = extracted(&disk, cidata, folder);
        assert_eq!(tool("blkid", &["-p", "-o", "value", "-s", "LABEL", &cidata]).trim(), "CIDATA");
        tool("fsck.vfat", &["-n", &cidata]);
        let read = |name: &str| tool("mtype", &["-i", &cidata, &format!("::{name}")]);
        assert_eq!(read("user-data"), "#cloud-config\npassword: x\n");
        assert_eq!(read("meta-data"), "");
        assert_eq!(read("network-config"), "version: 2\n");
        let receipt = fs::read_to_string(&saved).unwrap();
        assert!(!receipt.contains("password"), "a secret is in the receipt");
        assert!(receipt.contains("\"name\": \"new-guids\",\n      \"outcome\": \"done\""));
        // Flashed again: the same once more, and only what was changed is written.
        let (record, results) = fix(&image, &disk, &[&flags[..], &["--compare", "on"]].concat());
        assert!(results.iter().all(|result| result.1 == "done"), "{results:?}");
        assert!(record["written_bytes"].as_u64().unwrap() < 8 * MIB, "{record}");
        assert_table_is_right(&disk);
    }
}

#[test]
fn other_file_systems_grow_too() {
    let checks: [(&str, &str, u64, &[&str]); 3] = [
        ("xfs", "dos", 320, &["xfs_repair", "-n"]),
        ("btrfs", "gpt", 120, &["btrfs", "check"]),
        ("ntfs", "dos", 20, &["ntfsresize", "--check", "--force"]),
    ];
    for (kind, table, size, check) in checks {
        let number = if table == "dos" { "83" } else { "linux" };
        let image = Image::new(table, 512, &[(number, "data", size, kind)]);
        let disk = LoopDisk::sized(700 * MIB, 512);
        let (_, results) = fix(&image, &disk, &["--grow"]);
        let (_, outcome, detail) = results.last().unwrap();
        assert_eq!(outcome, "done", "{kind}: {detail}");
        let [partition] = partitions(&disk)[..] else { panic!("{:?}", partitions(&disk)) };
        assert!(partition.1 > 690 * MIB, "{kind}");
        let file = extracted(&disk, partition, image.folder.path());
        tool(check[0], &[&check[1..], &[&file]].concat());
        let bytes = match kind {
            "xfs" => {
                let shown = tool("xfs_db", &["-r", "-c", "sb 0", "-c", "p dblocks", &file]);
                shown.trim().rsplit(' ').next().unwrap().parse::<u64>().unwrap() * 4096
            }
            "btrfs" => {
                let shown = tool("btrfs", &["inspect-internal", "dump-super", &file]);
                let line = shown.lines().find(|line| line.starts_with("total_bytes")).unwrap();
                line.split_whitespace().last().unwrap().parse().unwrap()
            }
            _ => {
                let shown = tool("ntfsinfo", &["--mft", "--force", &file]);
                let word = |name: &str| {
                    let line = shown.lines().find(|line| line.contains(name)).unwrap();
                    line.rsplit(':').next().unwrap().trim().parse::<u64>().unwrap()
                };
                word("Volume Size in Clusters") * word("Cluster Size")
            }
        };
        assert!(bytes > 690 * MIB && bytes <= partition.1, "{kind}: {bytes}");
    }
}

#[test]
fn files_come_to_where_they_belong() {
    let image = Image::new(
        "gpt",
        512,
        &[
            ("uefi", "ESP", 40, "vfat"),
            ("linux", "boot", 10, "ext4"),
            ("linux", "root", 40, "ext4"),
        ],
    );
    let ignition = image.file("config.ign", "{\"ignition\": {}}");
    let motd = image.file("motd", "hello\n");
    image.file("seed/user-data", "#cloud-config\n");
    let seed = text(&below(&image.folder, "seed")).to_owned();
    let (etc, out, esp) = (
        format!("{motd}=root:/etc/new/motd,mode=0640,owner=12:34"),
        format!("{motd}=root:/out/escaped-{}", std::process::id()),
        format!("{motd}=esp:/EFI/bty/motd.txt"),
    );
    let disk = LoopDisk::sized(120 * MIB, 512);
    let flags = [
        "--seed-files",
        &seed,
        "--ignition",
        &ignition,
        "--file",
        &etc,
        "--file",
        &out,
        "--file",
        &esp,
        "--unattend",
        &motd,
    ];
    let (_, results) = fix(&image, &disk, &flags);
    let failed: Vec<_> = results.iter().filter(|result| result.1 != "done").collect();
    assert_eq!(failed.len(), 1, "{results:?}");
    assert_eq!(failed[0].0, format!("file {}", out.split_once('=').unwrap().1));
    let escaped = format!("/tmp/escaped-{}", std::process::id());
    assert!(!Path::new(&escaped).exists(), "a link led out of the image");
    let folder = image.folder.path();
    let found: Vec<String> =
        partitions(&disk).into_iter().map(|place| extracted(&disk, place, folder)).collect();
    let cat = |file: &str, path: &str| tool("debugfs", &["-R", &format!("cat {path}"), file]);
    assert_eq!(cat(&found[2], "/etc/new/motd"), "hello\n");
    let stat = tool("debugfs", &["-R", "stat /etc/new/motd", &found[2]]);
    assert!(stat.contains("Mode:  0640") && stat.contains("User:    12   Group:    34"), "{stat}");
    assert_eq!(cat(&found[2], "/var/lib/cloud/seed/nocloud/user-data"), "#cloud-config\n");
    assert_eq!(cat(&found[1], "/ignition/config.ign"), "{\"ignition\": {}}");
    assert_eq!(tool("mtype", &["-i", &found[0], "::EFI/bty/motd.txt"]), "hello\n");
    assert_eq!(tool("mtype", &["-i", &found[0], "::autounattend.xml"]), "hello\n");
    tool("fsck.vfat", &["-n", &found[0]]);
    tool("e2fsck", &["-fn", &found[1]]);
    tool("e2fsck", &["-fn", &found[2]]);
}

#[test]
fn windows_gets_its_answers_without_a_mount() {
    let image = Image::new("gpt", 512, &[("linux", "windows", 20, "ntfs")]);
    let answers = image.file("unattend.xml", "<unattend/>\n");
    let disk = LoopDisk::sized(40 * MIB, 512);
    let (_, results) = fix(&image, &disk, &["--unattend", &answers]);
    assert_eq!(outcomes(&results), [("unattend", "done")], "{results:?}");
    let file = extracted(&disk, partitions(&disk)[0], image.folder.path());
    assert_eq!(tool("ntfscat", &["--force", &file, "/unattend.xml"]), "<unattend/>\n");
}

#[test]
fn what_can_not_be_done_is_said_and_the_disk_is_the_image() {
    let image = Image::new("gpt", 512, &[("linux", "root", 10, "none")]);
    let disk = LoopDisk::sized(40 * MIB, 512);
    let damaged = fs::File::options().write(true).open(&image.path).unwrap();
    damaged.write_all_at(&[1; 16], 1024 + 56).unwrap();
    let motd = image.file("motd", "hello\n");
    let file = format!("{motd}=7:/motd");
    let (record, results) = fix(&image, &disk, &["--grow", "--new-guids", "--file", &file]);
    assert_eq!(record["proved"], true);
    assert!(results.iter().all(|result| result.1 == "failed"), "{results:?}");
    assert!(results[0].2.contains("checksum"), "{results:?}");
    assert!(disk.content().starts_with(&fs::read(&image.path).unwrap()), "it was changed");
}

#[test]
fn what_can_never_be_done_is_refused_before_anything_is_written() {
    let image = Image::new("gpt", 512, &[("linux", "root", 10, "none")]);
    let disk = LoopDisk::sized(40 * MIB, 512);
    let refusals: [(&[&str], i32, &str); 4] = [
        (&["--grow", "--verify", "stream"], 2, "--verify stream"),
        (&["--new-guids", "--holes", "keep"], 2, "--holes keep"),
        (&["--ignition", "/nowhere"], 3, "/nowhere"),
        (&["--grow", "--receipt", "/nowhere/receipt.json"], 3, "/nowhere"),
    ];
    for (flags, code, word) in refusals {
        let arguments = [&["write", text(&image.path), disk.node(), "--yes"], flags].concat();
        let (ended, complaint) = failure(&flasher(&arguments));
        assert_eq!(ended, Some(code), "{complaint}");
        assert!(complaint.contains(word), "{complaint}");
        assert!(disk.content().iter().all(|&byte| byte == 0), "{flags:?} wrote something");
    }
}

#[test]
fn a_seed_that_the_image_has_already_is_neither_doubled_nor_grown() {
    let image =
        Image::new("gpt", 512, &[("linux", "root", 10, "ext4"), ("linux", "CIDATA", 10, "vfat")]);
    image.file("seed/user-data", "#cloud-config\n");
    let seed = text(&below(&image.folder, "seed")).to_owned();
    let disk = LoopDisk::sized(60 * MIB, 512);
    let (_, results) = fix(&image, &disk, &["--grow", "--seed", &seed]);
    assert_eq!(
        outcomes(&results)[..3],
        [("gpt-to-end", "done"), ("seed", "failed"), ("grow-partition", "failed")],
        "{results:?}"
    );
    assert!(results[2].2.contains("CIDATA"), "{results:?}");
    assert_eq!(partitions(&disk), [(MIB, 10 * MIB), (11 * MIB, 10 * MIB)]);
    assert_table_is_right(&disk);
}
