//! `btyctl receipt verify`: without an appliance, on receipts that a program signed that nobody here wrote.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bty_types::{
    ImageId,
    receipt::{Asked, Body, Bytes, Disk, FixUp, Machine, Receipt, Repeated, Step},
};
use tempfile::TempDir;

fn document() -> String {
    let id = ImageId::new([7; 32]);
    let body = Body {
        run: Some("0198-run".into()),
        agent_version: "0.1.0".into(),
        machine: Some(Machine {
            mac: "52:54:00:77:00:01".parse().unwrap(),
            name: Some("m1".into()),
        }),
        started_at: "2026-11-27T09:50:23Z".into(),
        ended_at: "2026-11-27T09:50:33Z".into(),
        asked: Asked {
            image: "debian:13".into(),
            image_id: Some(id),
            index_digest: None,
            disk: "serial:S1".into(),
            compare: "auto".into(),
            verify: "readback".into(),
            holes: "zero".into(),
        },
        disk: Disk { serial: "S\u{1b}[2J1".into(), size_bytes: 512_110_190_592, ..Disk::default() },
        proved_id: Some(id),
        bytes: Bytes { raw: 2_000_000_000, ..Bytes::default() },
        repeated: Repeated::default(),
        choice: String::new(),
        elapsed_ms: 10_000,
        steps: vec![Step::new("write".into(), 4000, 8_000_000)],
        fix_ups: vec![FixUp {
            name: "new-guids".into(),
            outcome: "done".into(),
            detail: "the disk has a new signature".into(),
        }],
    };
    Receipt::new(body).document()
}

/// A receipt, its signature, and the key, in a folder.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(files.path("r.json"), document()).unwrap();
        files.minisign(&["-G", "-W", "-p", "bty.pub", "-s", "key"]);
        files.minisign(&["-G", "-W", "-p", "other.pub", "-s", "other"]);
        files.minisign(&["-S", "-s", "key", "-t", "of the run 0198-run", "-m", "r.json"]);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn minisign(&self, arguments: &[&str]) {
        let output = Command::new("minisign")
            .args(arguments)
            .current_dir(&self.folder)
            .output()
            .unwrap_or_else(|problem| panic!("minisign is needed for this test: {problem}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// How `btyctl receipt verify` ends with these arguments, what it prints and what it complains of.
    fn verify(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_btyctl"))
            .args(["receipt", "verify"])
            .args(arguments)
            .current_dir(&self.folder)
            .env("BTY_RUN_DIR", "/nowhere")
            // Neither an appliance nor a token is needed.
            .env("BTY_SERVER", "http://127.0.0.1:1")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

#[test]
fn a_good_receipt_is_shown() {
    let files = Files::new();
    let (code, shown, complaint) = files.verify(&["r.json", "--key", "bty.pub"]);
    assert_eq!(code, 0, "{complaint}");
    let id = ImageId::new([7; 32]).to_string();
    for part in ["of the run 0198-run", "m1", "debian:13", "serial:S1", "512 GB", "2.00 MB/s", &id]
    {
        assert!(shown.contains(part), "{part} is missing:\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "a receipt draws on the terminal");
    let key = fs::read_to_string(files.path("bty.pub")).unwrap();
    let key = key.lines().nth(1).unwrap();
    assert_eq!(files.verify(&["r.json", "--key", key]).0, 0);
    let (code, json, _) = files.verify(&["r.json", "--key", key, "--output", "json"]);
    assert_eq!((code, json), (0, document()), "the document as it is");
    fs::rename(files.path("r.json.minisig"), files.path("s")).unwrap();
    assert_eq!(files.verify(&["r.json", "--key", key, "--signature", "s"]).0, 0);
    let (code, _, complaint) = files.verify(&["r.json", "--key", key]);
    assert_eq!(code, 3, "{complaint}");
}

#[test]
fn what_was_changed_is_refused_and_not_shown() {
    let files = Files::new();
    let (document, signature) = (document(), fs::read(files.path("r.json.minisig")).unwrap());
    let refused = |because: &str| {
        let (code, shown, complaint) = files.verify(&["r.json", "--key", "bty.pub"]);
        assert_eq!((code, shown.as_str()), (8, ""), "{because}: {complaint}");
        assert!(complaint.contains("r.json"), "{because}: {complaint}");
    };
    // Any byte, here and there, of the document and of the signature.
    for at in (0..document.len()).step_by(97) {
        let mut changed = document.clone().into_bytes();
        changed[at] ^= 1;
        fs::write(files.path("r.json"), changed).unwrap();
        refused(&format!("byte {at} of the document"));
    }
    fs::write(files.path("r.json"), format!("{document} ")).unwrap();
    refused("something was added");
    fs::write(files.path("r.json"), &document).unwrap();
    // The first line is not part of what is signed.
    let first = signature.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for at in (first..signature.len() - 4).step_by(23) {
        let mut changed = signature.clone();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        fs::write(files.path("r.json.minisig"), changed).unwrap();
        refused(&format!("byte {at} of the signature"));
    }
    fs::write(files.path("r.json.minisig"), "").unwrap();
    refused("no signature");
    fs::write(files.path("r.json.minisig"), &signature).unwrap();
    let (code, _, complaint) = files.verify(&["r.json", "--key", "other.pub"]);
    assert_eq!(code, 8, "{complaint}");
    assert!(complaint.contains("another key"), "{complaint}");
}

#[test]
fn what_is_no_key_or_no_receipt_is_wrong_input() {
    let files = Files::new();
    let note = files.path("note");
    fs::write(&note, "{\"format\": \"shopping-list\", \"version\": 1}").unwrap();
    files.minisign(&["-S", "-s", "key", "-m", "note"]);
    let nothing = Path::new("/dev/null").to_str().unwrap();
    for (arguments, because) in [
        (["r.json", "--key", "no-such-file"], "neither"),
        (["r.json", "--key", "r.json"], "receipt key"),
        (["r.json", "--key", nothing], "receipt key"),
        (["note", "--key", "bty.pub"], "no receipt"),
    ] {
        let (code, shown, complaint) = files.verify(&arguments);
        assert_eq!((code, shown.as_str()), (2, ""), "{arguments:?}: {complaint}");
        assert!(complaint.contains(because), "{arguments:?}: {complaint}");
    }
    assert_eq!(files.verify(&["absent", "--key", "bty.pub"]).0, 3);
}
