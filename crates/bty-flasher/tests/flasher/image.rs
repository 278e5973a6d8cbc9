//! Images in the formats that people have.

use std::{fs, io::Cursor, path::PathBuf, sync::atomic::AtomicBool};

use bty_image::{
    container::Index,
    import::{self, import},
    source::open_stream,
};
use bty_testkit::child::Program;
use tempfile::TempDir;

use crate::disk::{below, text};

/// A disk image with a partition table, text, noise and holes.
pub(crate) struct Image {
    folder: TempDir,
    /// The raw disk.
    pub(crate) raw: Vec<u8>,
}

impl Image {
    /// Of so many bytes, for disks with any sector size.
    pub(crate) fn new(bytes: usize) -> Self {
        let mut raw: Vec<u8> = vec![0; bytes];
        let mut state = 1_u32;
        for (at, byte) in raw.iter_mut().enumerate() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = match (at / 300_000) % 3 {
                0 => state.to_le_bytes()[3],
                1 => 0,
                _ => b'a' + u8::try_from(at / 977 % 26).unwrap(),
            };
        }
        raw[510..512].copy_from_slice(&[0x55, 0xAA]);
        raw[440..510].fill(0);
        Self { folder: tempfile::tempdir().unwrap(), raw }
    }

    /// With a GUID partition table that counts in such sectors.
    pub(crate) fn with_table(bytes: usize, sector_bytes: usize) -> Self {
        let mut image = Self::new(bytes);
        image.raw[512..16384].fill(0);
        image.raw[sector_bytes..sector_bytes + 8].copy_from_slice(b"EFI PART");
        image
    }

    /// The BLAKE3 of the raw disk, as records show it.
    pub(crate) fn id(&self) -> String {
        bty_types::ImageId::from(blake3::hash(&self.raw)).to_string()
    }

    /// As a raw file.
    pub(crate) fn raw_file(&self) -> PathBuf {
        let path = below(&self.folder, "disk.img");
        fs::write(&path, &self.raw).unwrap();
        path
    }

    /// As a container with chunks of the smallest size, so that there are many.
    pub(crate) fn container(&self) -> (PathBuf, Index) {
        let path = below(&self.folder, "disk.img.zst");
        let source = open_stream(Cursor::new(self.raw.clone()), None, None).unwrap();
        let options = import::Options {
            chunk_bytes: Some(64 * 1024),
            workers: 1,
            ..import::Options::default()
        };
        let mut file = fs::File::create(&path).unwrap();
        let done = import(source, &mut file, &options, &AtomicBool::new(false), |_| {}).unwrap();
        (path, done.index)
    }

    /// Packed by the tool that people use.
    pub(crate) fn packed(&self, suffix: &str) -> PathBuf {
        let raw = self.raw_file();
        let path = below(&self.folder, &format!("packed.{suffix}"));
        let tool = match suffix {
            "xz" | "bz2" => return self.by_filter(suffix),
            "gz" => return self.by_filter("gz"),
            "qcow2" => Program::new("qemu-img")
                .args(["convert", "-f", "raw", "-O", "qcow2", "-c"])
                .args([text(&raw), text(&path)]),
            _ => Program::new("zstd").args(["-q", "-o", text(&path), text(&raw)]),
        };
        tool.run().expect("this test needs the packages qemu-utils and zstd");
        path
    }

    fn by_filter(&self, suffix: &str) -> PathBuf {
        let tool = match suffix {
            "xz" => "xz",
            "bz2" => "bzip2",
            _ => "gzip",
        };
        let path = below(&self.folder, &format!("packed.{suffix}"));
        Program::new(tool)
            .args(["--stdout", text(&self.raw_file())])
            .run_into(&path)
            .unwrap_or_else(|problem| panic!("this test needs {tool}: {problem:#}"));
        path
    }
}
