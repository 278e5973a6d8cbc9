//! What may be taken for free, and that foreign bytes make nothing panic.

use proptest::prelude::*;

use super::*;
use crate::inspect::{HEAD_BYTES, inspect};

fn look_at(disk: &[u8]) -> (Vec<Finding>, Vec<Range<u64>>) {
    let table = inspect(disk.get(..HEAD_BYTES).unwrap_or(disk));
    let survey = survey(&disk, &table, Options { swap: true });
    let free = survey.free().collect::<io::Result<_>>().unwrap();
    (survey.findings().to_vec(), free)
}

#[test]
fn a_disk_of_zeros_has_no_free_space() {
    assert_eq!(look_at(&vec![0; 1 << 20]), (Vec::new(), Vec::new()));
}

#[test]
fn swap_space_keeps_its_header_and_is_left_out_only_where_asked() {
    let mut disk = vec![7; 1 << 20];
    disk[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
    disk[1028..1032].copy_from_slice(&255_u32.to_le_bytes());
    disk[4086..4096].copy_from_slice(b"SWAPSPACE2");
    let (findings, free) = look_at(&disk);
    assert_eq!(free, vec![4096..1 << 20]);
    assert_eq!(findings[0].free_bytes, Ok((1 << 20) - 4096));
    let disk = disk.as_slice();
    let kept = survey(&disk, &inspect(disk), Options::default());
    assert_eq!((kept.findings().len(), kept.free().count()), (0, 0));
}

#[test]
fn what_lies_under_something_else_is_taken_whole() {
    for (at, mark) in
        [(4096, &[0xfc, 0x4e, 0x2b, 0xa9][..]), (512, b"LABELONE"), (0, b"LUKS\xba\xbe")]
    {
        let mut disk = vec![7; 1 << 20];
        disk[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
        disk[1028..1032].copy_from_slice(&255_u32.to_le_bytes());
        disk[4086..4096].copy_from_slice(b"SWAPSPACE2");
        disk[at..at + mark.len()].copy_from_slice(mark);
        let (findings, free) = look_at(&disk);
        assert!(findings[0].free_bytes.as_ref().unwrap_err().contains("something else"), "{at}");
        assert_eq!(free, []);
    }
}

#[test]
fn partitions_of_a_disk_that_went_into_a_raid_are_taken_whole() {
    let mut disk = vec![0; 1 << 20];
    disk[446..462].copy_from_slice(&[0, 0, 2, 0, 0x82, 0, 0, 0, 64, 0, 0, 0, 0, 4, 0, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let part = 64 * 512;
    disk[part + 1024..part + 1028].copy_from_slice(&1_u32.to_le_bytes());
    disk[part + 1028..part + 1032].copy_from_slice(&127_u32.to_le_bytes());
    disk[part + 4086..part + 4096].copy_from_slice(b"SWAPSPACE2");
    let content = part as u64 + 4096..part as u64 + 1024 * 512;
    assert_eq!(look_at(&disk).1, std::slice::from_ref(&content));
    disk[4096..4100].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    let (findings, free) = look_at(&disk);
    assert!(findings[0].free_bytes.as_ref().unwrap_err().contains("RAID"), "{findings:?}");
    assert_eq!(free, []);
}

proptest! {
    #[test]
    fn bytes_behind_any_magic_are_no_panic(
        kind in 0_usize..5,
        bytes in proptest::collection::vec(any::<u8>(), 4096),
        at in 0_usize..70_000,
    ) {
        let magics: [(usize, &[u8]); 5] = [
            (1080, &[0x53, 0xef]),
            (0, b"XFSB"),
            (0x1_0040, b"_BHRfS_M"),
            (3, b"NTFS    "),
            (3, b"EXFAT   "),
        ];
        let mut disk = vec![0; 128 * 1024];
        disk[at..at + bytes.len()].copy_from_slice(&bytes);
        let (place, magic) = magics[kind];
        disk[place..place + magic.len()].copy_from_slice(magic);
        look_at(&disk);
    }
}
