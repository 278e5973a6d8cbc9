//! Erasing block devices, and asking for their health.

use std::time::Duration;

use bty_testkit::child::Program;
use nix::sys::signal::Signal;

use crate::disk::{FLASHER, LoopDisk, failure, flasher, record, text};

const MIB: usize = 1 << 20;

fn erase(disk: &LoopDisk, how: &str) -> std::process::Output {
    flasher(&["erase", disk.node(), "--how", how, "--yes", "--output", "json"])
}

fn is_zero(disk: &LoopDisk) -> bool {
    disk.content().iter().all(|&byte| byte == 0)
}

#[test]
fn zeroes_are_written_and_read_back() {
    for sectors in [512, 4096] {
        let disk = LoopDisk::new(70 * MIB, sectors);
        let erased = record(&erase(&disk, "zeroes"));
        assert_eq!((&erased["way"], &erased["disk"]), (&"zeroes".into(), &disk.node().into()));
        assert_eq!(erased["reads_as_zeros"], true);
        assert!(erased["guarantee"].as_str().unwrap().contains("may still hold data"));
        assert!(is_zero(&disk));
    }
}

#[test]
fn a_discard_says_what_it_is_worth() {
    let disk = LoopDisk::new(8 * MIB, 512);
    let erased = record(&erase(&disk, "discard"));
    assert_eq!((&erased["way"], &erased["reads_as_zeros"]), (&"discard".into(), &true.into()));
    let guarantee = erased["guarantee"].as_str().unwrap();
    assert!(guarantee.contains("controller may still hold the data"), "{guarantee}");
    assert!(is_zero(&disk), "a loop device's discards are holes");
}

#[test]
fn auto_says_what_it_did_and_why_not_something_stronger() {
    let disk = LoopDisk::new(8 * MIB, 512);
    let output = flasher(&["erase", disk.node(), "--yes"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(failure(&output).0, Some(0), "{}", failure(&output).1);
    assert!(said.contains(&format!("{} was erased by discard", disk.node())), "{said}");
    assert!(said.contains("not tried: nvme-sanitize-crypto: it is no such disk (loop)"), "{said}");
    assert!(said.contains("no partition table is left"), "{said}");
    assert!(is_zero(&disk));
}

#[test]
fn what_a_disk_has_not_got_is_refused_and_nothing_is_written() {
    for how in ["nvme-sanitize", "nvme-format", "ata-secure-erase"] {
        let disk = LoopDisk::new(4 * MIB, 512);
        let (code, complaint) = failure(&erase(&disk, how));
        assert_eq!(code, Some(5), "{complaint}");
        assert!(
            complaint.contains("nothing was written") && complaint.contains(how),
            "{complaint}"
        );
        disk.assert_untouched();
    }
}

#[test]
fn the_gate_is_that_of_a_write() {
    let disk = LoopDisk::read_only(4 * MIB);
    let (code, complaint) = failure(&erase(&disk, "zeroes"));
    assert_eq!(code, Some(5), "{complaint}");
    assert!(complaint.contains("is read-only"), "{complaint}");
    disk.assert_untouched();

    let (disk, folder) = (LoopDisk::new(4 * MIB, 512), tempfile::tempdir().unwrap());
    let script = "mkfs.ext4 -q \"$1\" && mount \"$1\" \"$2\" && exec \"$3\" erase \"$1\" --yes";
    let output = Program::new("unshare")
        .args([
            "--mount",
            "--",
            "sh",
            "-c",
            script,
            "sh",
            disk.node(),
            text(folder.path()),
            FLASHER,
        ])
        .output()
        .unwrap();
    let (code, complaint) = failure(&output);
    assert_eq!(code, Some(5), "{complaint}");
    assert!(complaint.contains("is mounted; unmount it"), "{complaint}");
    assert!(!is_zero(&disk));

    let disk = LoopDisk::new(4 * MIB, 512);
    let (code, complaint) = failure(&flasher(&["erase", disk.node()]));
    assert_eq!(code, Some(2), "{complaint}");
    assert!(complaint.contains("--yes") && complaint.contains(disk.node()), "{complaint}");
    disk.assert_untouched();
}

#[test]
fn what_is_called_off_does_not_boot_and_says_so() {
    let disk = LoopDisk::sparse(64 << 30);
    let folder = tempfile::tempdir().unwrap();
    let mut erase = Program::new(FLASHER)
        .args(["erase", disk.node(), "--how", "zeroes", "--yes"])
        .spawn(&folder.path().join("log"))
        .unwrap();
    erase.wait_for_log("erasing by zeroes", Duration::from_secs(30)).unwrap();
    erase.signal(Signal::SIGINT).unwrap();
    let status = erase.wait(Duration::from_secs(30)).unwrap();
    assert_eq!(status.code(), Some(130));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("the disk is not erased and not bootable"), "{log}");
}

#[test]
fn what_is_killed_does_not_boot() {
    let disk = LoopDisk::new(256 * MIB, 512);
    let folder = tempfile::tempdir().unwrap();
    let mut erase = Program::new(FLASHER)
        .args(["erase", disk.node(), "--how", "zeroes", "--yes"])
        .spawn(&folder.path().join("log"))
        .unwrap();
    erase.wait_for_log("erasing by zeroes", Duration::from_secs(30)).unwrap();
    erase.signal(Signal::SIGKILL).unwrap();
    let _ = erase.wait(Duration::from_secs(30));
    disk.assert_not_bootable();
}

#[test]
fn a_disk_that_says_nothing_of_its_health_is_unknown_and_is_written() {
    let disk = LoopDisk::new(4 * MIB, 512);
    let output = flasher(&["health", disk.node(), "--output", "json"]);
    assert_eq!(failure(&output).0, Some(0));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown[0]["disk"], &shown[0]["health"]), (&disk.node().into(), &"unknown".into()));
    let (code, _) = failure(&flasher(&["health", "/dev/bty-no-such-disk"]));
    assert_eq!(code, Some(5));
    // Without a disk: all that there are, which this machine may have none of.
    let output = flasher(&["health", "--output", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(shown.as_array().unwrap().iter().all(|disk| disk["findings"].is_array()));
    disk.assert_untouched();
}
