//! What a person is told of an image.

use proptest::prelude::*;

use super::*;

fn mbr(kind: u8) -> Vec<u8> {
    let mut head = vec![0; HEAD_BYTES];
    head[0] = 0xeb;
    head[446 + 4] = kind;
    head[446 + 8..446 + 16].copy_from_slice(&[0, 8, 0, 0, 0, 16, 0, 0]);
    head[440..444].copy_from_slice(&[1, 2, 3, 4]);
    head[510..512].copy_from_slice(&[0x55, 0xaa]);
    head
}

fn gpt(sector: usize) -> Vec<u8> {
    let mut head = mbr(0xee);
    head[sector..sector + 8].copy_from_slice(b"EFI PART");
    head[sector + 72] = 2;
    head[sector + 80] = 128;
    head[sector + 84] = 128;
    let entry = 2 * sector;
    let esp = [
        0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
    ];
    head[entry..entry + 16].copy_from_slice(&esp);
    head[entry + 16..entry + 32].copy_from_slice(&[7; 16]);
    head[entry + 32] = 34;
    head[entry + 40] = 133;
    head[entry + 56..entry + 62].copy_from_slice(&[b'E', 0, b'S', 0, b'P', 0]);
    head
}

#[test]
fn a_gpt_with_an_esp_boots_uefi_and_says_its_sector_size() {
    for sector in [512, 4096] {
        let got = inspect(&gpt(sector));
        let want = Inspection {
            table: Table::Gpt,
            partitions: vec![Partition {
                number: 1,
                start_bytes: 34 * sector as u64,
                size_bytes: 100 * sector as u64,
                kind: ESP_GUID.into(),
                name: "ESP".into(),
                id: PartitionId::Guid([7; 16]),
            }],
            boots_bios: true,
            boots_uefi: true,
            is_iso: false,
            sector_bytes: u32::try_from(sector).unwrap(),
        };
        assert_eq!(got, want);
    }
}

#[test]
fn an_mbr_has_its_partitions() {
    let got = inspect(&mbr(0x83));
    assert_eq!(got.table, Table::Mbr);
    assert_eq!((got.boots_bios, got.boots_uefi), (true, false));
    assert_eq!(got.partitions.len(), 1);
    assert_eq!(got.partitions[0].id, PartitionId::OfDisk(0x0403_0201));
    assert_eq!(
        (got.partitions[0].start_bytes, got.partitions[0].size_bytes),
        (2048 * 512, 4096 * 512)
    );
    assert!(inspect(&mbr(0xef)).boots_uefi);
}

#[test]
fn a_hybrid_iso_is_a_disk_and_an_iso() {
    let mut head = mbr(0xef);
    head[0x8001..0x8006].copy_from_slice(b"CD001");
    let got = inspect(&head);
    assert_eq!((got.is_iso, got.boots_bios, got.boots_uefi), (true, true, true));
    head[510] = 0;
    assert_eq!(inspect(&head), Inspection { is_iso: true, ..Inspection::default() });
}

#[test]
fn what_nobody_understands_has_nothing() {
    assert_eq!(inspect(&[]), Inspection::default());
    assert_eq!(inspect(&[0; 4096]), Inspection::default());
}

proptest! {
    #[test]
    fn damaged_tables_are_read_or_not(at in 0..2048_usize, byte: u8, sector in prop_oneof![Just(512_usize), Just(4096)]) {
        let mut head = gpt(sector);
        head[at + sector - 512] = byte;
        prop_assert!(inspect(&head).partitions.len() <= 1024);
    }

    #[test]
    fn any_bytes_are_inspected(bytes in proptest::collection::vec(any::<u8>(), 0..8192)) {
        let _ = inspect(&bytes);
    }
}
