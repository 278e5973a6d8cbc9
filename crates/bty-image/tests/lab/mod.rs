//! A disk, and the tools that pack it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
};

use bty_image::{
    import::{Options, Summary, import},
    source,
};
use bty_types::{Checksum, ImageId};
use tempfile::TempDir;

/// A disk with a bit of everything: text, noise, holes, an odd number of chunks.
pub fn disk() -> Vec<u8> {
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

/// A folder with the disk in it.
pub struct Lab {
    pub folder: TempDir,
    pub raw: PathBuf,
    pub id: ImageId,
}

impl Lab {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let raw = folder.path().join("disk.raw");
        let bytes = disk();
        fs::write(&raw, &bytes).unwrap();
        Self { folder, raw, id: blake3::hash(&bytes).into() }
    }

    /// Runs a tool on the raw disk and keeps what it prints.
    pub fn packed(&self, name: &str, tool: &str, arguments: &[&str]) -> PathBuf {
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

    /// Converts the raw disk with qemu-img.
    pub fn converted(&self, name: &str, format: &str, options: &[&str]) -> PathBuf {
        let path = self.folder.path().join(name);
        let status = Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", format])
            .args(options)
            .arg(&self.raw)
            .arg(&path)
            .status()
            .unwrap_or_else(|problem| panic!("qemu-img (package qemu-utils) is needed: {problem}"));
        assert!(status.success(), "qemu-img ended with {status}");
        path
    }

    /// A file in the lab's folder.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Imports a file into `out.img.zst`; an error comes as the text that a person reads.
    pub fn import(
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
        let options = Options { chunk_bytes: Some(64 * 1024), ..Options::default() };
        let outcome = import(source, &mut file, &options, &AtomicBool::new(false), |_| {});
        (out, outcome.map_err(|problem| chain(&problem)))
    }
}

/// What a person reads of an error.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
