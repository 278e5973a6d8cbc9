//! Disks with file systems that the FAT library makes, whole and damaged.

use std::{io::Cursor, sync::atomic::AtomicU64};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use proptest::prelude::*;

use super::*;

const SECTOR: usize = 512;
const ESP_START: usize = 64 * 1024;
const ESP_BYTES: usize = 1 << 20;
/// What bty-image reads of a disk at most, and two more here.
const MOST_READS: u64 = 8192 + 2;

/// A disk in memory.
struct Memory {
    bytes: Vec<u8>,
    reads: AtomicU64,
    /// From here on it can't be read.
    bad_from: usize,
}

impl Target for Memory {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn sector_bytes(&self) -> u32 {
        u32::try_from(SECTOR).unwrap()
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        panic!("the loader is only looked for")
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        assert_eq!((buffer.len() % SECTOR, offset % SECTOR as u64), (0, 0), "not whole sectors");
        self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let from = usize::try_from(offset).unwrap();
        if from + buffer.len() > self.bad_from {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let there = self.bytes.get(from..from + buffer.len());
        buffer.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn zero(&self, _: u64, _: u64) -> io::Result<()> {
        panic!("the loader is only looked for")
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk with an ESP that holds these files.
fn disk(files: &[&str]) -> Memory {
    let mut bytes = vec![0; ESP_START + ESP_BYTES + ESP_START];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes[SECTOR..SECTOR + 8].copy_from_slice(b"EFI PART");
    bytes[SECTOR + 72] = 2;
    bytes[SECTOR + 80] = 128;
    bytes[SECTOR + 84] = 128;
    let entry = &mut bytes[2 * SECTOR..2 * SECTOR + 128];
    entry[..16].copy_from_slice(&[
        0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
    ]);
    entry[16..32].copy_from_slice(&[7; 16]);
    let (first, last) = (ESP_START / SECTOR, (ESP_START + ESP_BYTES) / SECTOR - 1);
    entry[32..40].copy_from_slice(&(first as u64).to_le_bytes());
    entry[40..48].copy_from_slice(&(last as u64).to_le_bytes());
    let esp = file_system(files);
    bytes[ESP_START..ESP_START + ESP_BYTES].copy_from_slice(&esp);
    Memory { bytes, reads: AtomicU64::new(0), bad_from: usize::MAX }
}

fn file_system(files: &[&str]) -> Vec<u8> {
    let mut content = Cursor::new(vec![0; ESP_BYTES]);
    format_volume(&mut content, FormatVolumeOptions::new()).unwrap();
    content.set_position(0);
    let made = FileSystem::new(&mut content, FsOptions::new()).unwrap();
    for file in files {
        let parts: Vec<&str> = file.split('/').collect();
        for depth in 1..parts.len() {
            made.root_dir().create_dir(&parts[..depth].join("/")).unwrap();
        }
        made.root_dir().create_file(file).unwrap();
    }
    made.unmount().unwrap();
    content.into_inner()
}

#[test]
fn the_images_own_loader_comes_before_the_removable_mediums() {
    let removable = "EFI/BOOT/BOOTX64.EFI";
    let rows: [(&[&str], &str); 10] = [
        (&[removable], "\\EFI\\BOOT\\BOOTX64.EFI"),
        (&["efi/boot/bootx64.efi", "EFI/debian/grub.cfg"], "\\efi\\boot\\bootx64.efi"),
        (
            &[removable, "EFI/debian/grubx64.efi", "EFI/debian/shimx64.efi"],
            "\\EFI\\debian\\shimx64.efi",
        ),
        (&[removable, "EFI/fedora/grubx64.efi"], "\\EFI\\fedora\\grubx64.efi"),
        (
            &[removable, "EFI/Microsoft/Boot/bootmgfw.efi", "EFI/Microsoft/Boot/memtest.efi"],
            "\\EFI\\Microsoft\\Boot\\bootmgfw.efi",
        ),
        (
            &["EFI/ubuntu/shimx64.efi", "EFI/centos/shimx64.efi", "EFI/arch/grubx64.efi"],
            "\\EFI\\centos\\shimx64.efi",
        ),
        (
            &["EFI/opensuse/grubx64.efi", "EFI/opensuse/shim.efi", removable],
            "\\EFI\\opensuse\\shim.efi",
        ),
        (&["EFI/sles/shim.efi", "EFI/debian/grubx64.efi"], "\\EFI\\sles\\shim.efi"),
        (&[removable, "EFI/debian/shimaa64.efi"], "\\EFI\\BOOT\\BOOTX64.EFI"),
        (&[removable, "EFI/systemd/systemd-bootx64.efi"], "\\EFI\\systemd\\systemd-bootx64.efi"),
    ];
    for (files, want) in rows {
        let found = find(&disk(files), "x64").unwrap();
        assert_eq!(found.file, want, "{files:?}");
        let drive = HardDrive {
            partition: 1,
            start: (ESP_START / SECTOR) as u64,
            size: (ESP_BYTES / SECTOR) as u64,
            signature: Signature::Guid([7; 16]),
        };
        assert_eq!(found.drive, drive);
    }
}

#[test]
fn another_processor_has_another_loader() {
    let both = disk(&["EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/BOOTAA64.EFI"]);
    assert_eq!(find(&both, "aa64").unwrap().file, "\\EFI\\BOOT\\BOOTAA64.EFI");
    let problem = find(&both, "ia32").unwrap_err();
    assert!(matches!(problem, LoaderError::NoProgram { .. }), "{problem:?}");
    assert!(problem.to_string().contains("BOOTIA32.EFI"), "{problem}");
}

#[test]
fn an_mbr_has_an_esp_too() {
    let mut with_mbr = disk(&["EFI/BOOT/BOOTX64.EFI"]);
    with_mbr.bytes[SECTOR..SECTOR + 8].fill(0);
    with_mbr.bytes[440..444].copy_from_slice(&[1, 2, 3, 4]);
    with_mbr.bytes[446 + 4] = 0xef;
    let sectors = |bytes: usize| u32::try_from(bytes / SECTOR).unwrap().to_le_bytes();
    with_mbr.bytes[446 + 8..446 + 12].copy_from_slice(&sectors(ESP_START));
    with_mbr.bytes[446 + 12..446 + 16].copy_from_slice(&sectors(ESP_BYTES));
    let found = find(&with_mbr, "x64").unwrap();
    assert_eq!(found.file, "\\EFI\\BOOT\\BOOTX64.EFI");
    assert_eq!(found.drive.signature, Signature::Mbr(0x0403_0201));
}

#[test]
fn a_partition_that_can_not_be_read_is_not_one_without_a_loader() {
    let mut failing = disk(&["EFI/BOOT/BOOTX64.EFI"]);
    failing.bad_from = ESP_START + 4096;
    let problem = find(&failing, "x64").unwrap_err();
    assert!(matches!(problem, LoaderError::Read(_)), "{problem:?}");
}

#[test]
fn what_has_no_loader_says_so() {
    let empty = Memory { bytes: vec![0; 1 << 20], reads: AtomicU64::new(0), bad_from: usize::MAX };
    assert!(matches!(find(&empty, "x64"), Err(LoaderError::NoPartition)));
    let mut short = disk(&[]);
    short.bytes.truncate(ESP_START + ESP_BYTES - SECTOR);
    assert!(matches!(find(&short, "x64"), Err(LoaderError::Beyond)));
    assert!(matches!(find(&disk(&[]), "x64"), Err(LoaderError::NoProgram { .. })));
    let mut unformatted = disk(&[]);
    unformatted.bytes[ESP_START..ESP_START + SECTOR].fill(0);
    assert!(matches!(find(&unformatted, "x64"), Err(LoaderError::Damaged)));
}

/// A disk whose folder EFI is one cluster that is followed by itself, full of this entry.
fn circle(entry: [u8; 32]) -> Memory {
    let mut circle = disk(&["EFI/BOOT/BOOTX64.EFI"]);
    let esp = &mut circle.bytes[ESP_START..ESP_START + ESP_BYTES];
    let number = |at: usize| usize::from(u16::from_le_bytes([esp[at], esp[at + 1]]));
    // The parameters of FAT (fatgen103, "Boot Sector and BPB").
    let (sector, cluster_bytes) = (number(11), number(11) * usize::from(esp[13]));
    let (table, tables, table_bytes) =
        (number(14) * sector, usize::from(esp[16]), number(22) * sector);
    let root = table + tables * table_bytes;
    let clusters = root + number(17) * 32;
    let name = esp[root..clusters].chunks(32).find(|entry| entry.starts_with(b"EFI     "));
    let first = name.map(|entry| u16::from_le_bytes([entry[26], entry[27]])).unwrap();
    assert!(esp[54..].starts_with(b"FAT12"), "its entries are of another size");
    for copy in 0..tables {
        let entry = &mut esp[table + copy * table_bytes + usize::from(first) * 3 / 2..][..2];
        let both = u16::from_le_bytes([entry[0], entry[1]]);
        let both = if first % 2 == 0 { both & 0xf000 | first } else { both & 0x000f | first << 4 };
        entry.copy_from_slice(&both.to_le_bytes());
    }
    let from = clusters + (usize::from(first) - 2) * cluster_bytes;
    for place in esp[from..from + cluster_bytes].chunks_mut(32) {
        place.copy_from_slice(&entry);
    }
    circle
}

#[test]
fn a_folder_that_leads_in_a_circle_ends() {
    let mut file = [0; 32];
    file[..11].copy_from_slice(b"FILE       ");
    let mut removed = file;
    removed[0] = 0xe5;
    for entry in [file, removed] {
        let endless = circle(entry);
        let problem = find(&endless, "x64").unwrap_err();
        assert!(matches!(problem, LoaderError::NoProgram { .. }), "{problem:?}");
        let reads = endless.reads.load(std::sync::atomic::Ordering::Relaxed);
        assert!(reads <= 300, "{reads} reads");
    }
}

proptest! {
    #[test]
    fn a_damaged_file_system_costs_little_and_gives_a_path_or_an_error(
        damage in proptest::collection::vec((0..40_000_usize, any::<u8>()), 1..20),
    ) {
        let mut damaged = disk(&["EFI/BOOT/BOOTX64.EFI", "EFI/debian/shimx64.efi"]);
        for (at, byte) in damage {
            damaged.bytes[ESP_START + at] = byte;
        }
        if let Ok(found) = find(&damaged, "x64") {
            prop_assert!(found.file.starts_with('\\') && found.file.len() <= MOST_CHARS);
        }
        let reads = damaged.reads.load(std::sync::atomic::Ordering::Relaxed);
        prop_assert!(reads <= MOST_READS, "{} reads", reads);
    }
}
