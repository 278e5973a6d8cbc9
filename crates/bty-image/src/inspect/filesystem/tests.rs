//! Superblocks that are damaged, contradict themselves, or are of what no tool at hand makes.

use proptest::prelude::*;

use super::*;

fn look(bytes: &[u8]) -> Option<FileSystem> {
    file_system(&Area::new(bytes, 0, u64::MAX))
}

/// A disk of 128 KiB with these bytes at these places.
fn with(places: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 128 * 1024];
    for (at, piece) in places {
        bytes[*at..at + piece.len()].copy_from_slice(piece);
    }
    bytes
}

#[test]
fn what_holds_a_file_system_is_told() {
    let uuid = b"6f2a4ad5-5a1c-4f77-9bd2-2b1f4a7d0c11";
    let rows: [(&str, &str, &str, Vec<u8>); 5] = [
        (
            "luks",
            "vault",
            "6f2a4ad5-5a1c-4f77-9bd2-2b1f4a7d0c11",
            with(&[(0, b"LUKS\xba\xbe\0\x02"), (24, b"vault"), (168, uuid)]),
        ),
        ("luks", "", "6f2a4ad5-5a1c-4f77-9bd2-2b1f4a7d0c11", {
            // Version 1 has the name of a mode there.
            with(&[(0, b"LUKS\xba\xbe\0\x01"), (24, b"xts-plain64"), (168, uuid)])
        }),
        (
            "lvm2",
            "",
            "abcdef-ghij-klmn-opqr-stuv-wxyz-012345",
            with(&[
                (512, b"LABELONE"),
                (532, &32_u32.to_le_bytes()),
                (536, b"LVM2 001"),
                (544, b"abcdefghijklmnopqrstuvwxyz012345"),
            ]),
        ),
        ("bitlocker", "", "", with(&[(0, b"\xeb\x58\x90-FVE-FS-")])),
        ("iso9660", "Debian 13", "", {
            with(&[(0x8000, b"\x01CD001\x01"), (0x8028, b"Debian 13             ")])
        }),
    ];
    for (kind, label, uuid, bytes) in rows {
        let found = look(&bytes).unwrap_or_else(|| panic!("{kind} is not known"));
        assert_eq!((found.kind, found.label.as_str(), found.uuid.as_str()), (kind, label, uuid));
    }
}

#[test]
fn swap_of_any_page_size_is_swap() {
    for page in [4096_usize, 8192, 16384, 65536] {
        let bytes = with(&[
            (page - 10, b"SWAPSPACE2"),
            (1024, &1_u32.to_le_bytes()),
            (1028, &99_u32.to_le_bytes()),
        ]);
        let found = look(&bytes).unwrap();
        assert_eq!((found.kind, found.size_bytes), ("swap", 100 * page as u64));
    }
}

#[test]
fn more_free_than_there_is_is_not_believed() {
    let ext = with(&[
        (1024 + 4, &100_u32.to_le_bytes()),
        (1024 + 12, &101_u32.to_le_bytes()),
        (1024 + 0x38, &[0x53, 0xef]),
    ]);
    let found = look(&ext).unwrap();
    assert_eq!((found.kind, found.size_bytes, found.used_bytes), ("ext2", 100 * 1024, None));
    let xfs =
        with(&[(0, b"XFSB\0\0\x10\0"), (8, &5_u64.to_be_bytes()), (144, &6_u64.to_be_bytes())]);
    assert_eq!(look(&xfs).unwrap().used_bytes, None);
    let huge = with(&[(0, b"XFSB\xff\xff\xff\xff"), (8, &u64::MAX.to_be_bytes())]);
    assert_eq!(look(&huge), None, "no disk is so large");
}

#[test]
fn a_boot_sector_without_a_file_system_is_none() {
    assert_eq!(look(&with(&[(0, b"\xeb\x63\x90"), (510, &[0x55, 0xaa])])), None);
    assert_eq!(look(&[]), None);
    assert_eq!(look(&[0; 512]), None);
}

#[test]
fn an_area_ends_with_the_disk() {
    let disk = [7_u8; 1000];
    let area = Area::new(disk.as_slice(), 900, u64::MAX);
    assert_eq!(area.bytes(0, 4096), Some(vec![7; 100]));
    assert_eq!(area.bytes(100, 1), Some(Vec::new()));
    assert_eq!(area.bytes(101, 1), None);
    assert_eq!(Area::new(disk.as_slice(), 2000, 10).bytes(0, 1), None);
}

proptest! {
    #[test]
    fn any_bytes_behind_a_magic_are_read_or_not(
        rest in proptest::collection::vec(any::<u8>(), 0..4096),
        magic in 0..7_usize,
        random in any::<u64>(),
    ) {
        let magics: [(usize, &[u8]); 7] = [
            (3, b"NTFS    "),
            (3, b"EXFAT   "),
            (0, b"XFSB"),
            (1024 + 0x38, &[0x53, 0xef]),
            (0x1_0040, b"_BHRfS_M"),
            (4086, b"SWAPSPACE2"),
            (510, &[0x55, 0xaa]),
        ];
        let spread = usize::try_from(random % 70_000).unwrap();
        let (at, magic) = magics[magic];
        let bytes = with(&[(0, &rest), (spread, &rest), (at, magic)]);
        if let Some(FileSystem { size_bytes, used_bytes: Some(used), .. }) = look(&bytes) {
            prop_assert!(used <= size_bytes, "{used} of {size_bytes}");
        }
    }
}
