//! What the agent reads of a machine's firmware and of a flashed disk's EFI system partition.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use bty_disk::device::Target as Device;
use bty_flasher::firmware::{
    device_path::{Node, file_of},
    load_option::LoadOption,
    loader::find,
};

/// Where the partition begins on the disk that the fuzzer's bytes are put on.
const START: usize = 4096;
const SECTOR: usize = 512;
/// Reads of the disk that finding a loader may cost.
const MOST_READS: u64 = 8192 + 2;

/// The content of a variable `Boot####`.
pub(crate) fn boot_entry(data: &[u8]) {
    let Some(option) = LoadOption::parse(data) else { return };
    assert!(option.path.len() * 4 <= data.len(), "{} nodes", option.path.len());
    let Some((drive, file)) = file_of(&option.path) else { return };
    assert!(option.path.contains(&Node::HardDrive(drive)));
    // What leads to the same file, written by us, boots it.
    let ours = LoadOption::build("bty: S1", &drive, &file);
    let ours = LoadOption::parse(&ours).expect("our own entry");
    assert!(ours.boots(&drive, &file), "{file:?} is not {ours:?}");
}

/// A file system.
pub(crate) fn loader(data: &[u8]) {
    let disk = Disk::new(data);
    let found = find(&disk, "x64");
    let reads = disk.reads.load(Ordering::Relaxed);
    assert!(reads <= MOST_READS, "{reads} reads");
    if let Ok(found) = found {
        let is_plain = found.file.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(found.file.starts_with('\\') && is_plain, "{:?}", found.file);
        assert!(found.file.len() < 512, "{:?}", found.file);
    }
}

/// A disk whose one partition, an EFI system partition, holds these bytes.
struct Disk {
    bytes: Vec<u8>,
    reads: AtomicU64,
}

impl Disk {
    fn new(data: &[u8]) -> Self {
        let size = data.len().next_multiple_of(SECTOR).max(SECTOR);
        let mut bytes = vec![0; START];
        let sectors =
            |bytes: usize| u32::try_from(bytes / SECTOR).unwrap_or(u32::MAX).to_le_bytes();
        let entry = [[0; 4], [0xef, 0, 0, 0], sectors(START), sectors(size)].concat();
        bytes.splice(446..446 + entry.len(), entry);
        bytes.splice(510..512, [0x55, 0xaa]);
        bytes.extend_from_slice(data);
        bytes.resize(START + size, 0);
        Self { bytes, reads: AtomicU64::new(0) }
    }
}

impl Device for Disk {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn sector_bytes(&self) -> u32 {
        512
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let there = self.bytes.get(from..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn zero(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
