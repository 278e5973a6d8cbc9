//! What a header may say, and that nothing in a file makes the map panic.

use std::io::{self, Read, Write};

use proptest::prelude::*;

use super::*;
use crate::source::{detect::Format, mapped};

const GOOD: Header = Header {
    version: 1,
    flags: 3,
    disk_sectors: 64,
    grain_sectors: 8,
    descriptor_sector: 1,
    descriptor_sectors: 1,
    table_grains: 4,
    tables_sector: 2,
    packing: 0,
};
const TEXT: &str = "createType=\"monolithicSparse\"\nRW 64 SPARSE \"a.vmdk\"\n";

#[test]
fn absurd_headers_are_refused() {
    assert!(GOOD.check().is_ok());
    for header in [
        Header { version: 0, ..GOOD },
        Header { version: 4, ..GOOD },
        Header { grain_sectors: 0, ..GOOD },
        Header { grain_sectors: 4, ..GOOD },
        Header { grain_sectors: 24, ..GOOD },
        Header { grain_sectors: 1 << 13, ..GOOD },
        Header { table_grains: 0, ..GOOD },
        Header { table_grains: u32::MAX, ..GOOD },
        Header { flags: 1 << 16, packing: 1, ..GOOD },
        Header { flags: 3 << 16, packing: 2, ..GOOD },
    ] {
        assert!(header.check().is_err(), "{header:?}");
    }
}

/// A file for a disk of 8 grains of 4 KiB in two tables, and what is behind its header, its text and its table of tables.
fn file(flags: u32, tables: &[u32], rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"KDMV".to_vec();
    bytes.extend(GOOD.version.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    for number in [GOOD.disk_sectors, GOOD.grain_sectors, 1, 1] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(GOOD.table_grains.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(GOOD.tables_sector.to_le_bytes());
    bytes.resize(77, 0);
    bytes.extend(1_u16.to_le_bytes());
    bytes.resize(512, 0);
    bytes.extend(TEXT.as_bytes());
    bytes.resize(1024, 0);
    bytes.extend(tables.iter().flat_map(|table| table.to_le_bytes()));
    bytes.resize(1536, 0);
    bytes.extend(rest);
    bytes
}

fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let mut raw = Vec::new();
    mapped::open(Format::Vmdk, file, None).map_err(io::Error::other)?.read_to_end(&mut raw)?;
    Ok(raw)
}

#[test]
fn a_table_or_grain_past_the_end_of_the_file_is_no_hole() {
    assert_eq!(read(&file(3, &[0, 0], &[])).unwrap(), vec![0; 8 * 4096]);
    let no_table = read(&file(3, &[0, 3], &[])).unwrap_err();
    let mut table = vec![0; 512];
    table[4..8].copy_from_slice(&4_u32.to_le_bytes());
    let no_grain = read(&file(3, &[0, 3], &table)).unwrap_err();
    for problem in [no_table, no_grain] {
        assert!(problem.to_string().contains("cut off"), "{problem}");
    }
    let whole = read(&file(3, &[0, 3], &[table.as_slice(), &[7; 4096]].concat())).unwrap();
    let mut want = vec![0; 8 * 4096];
    want[5 * 4096..6 * 4096].fill(7);
    assert_eq!(whole, want);
}

#[test]
fn a_packed_grain_in_another_place_is_refused() {
    let mut table = vec![0; 512];
    table[4..8].copy_from_slice(&4_u32.to_le_bytes());
    let mut packed = Vec::new();
    flate2::read::ZlibEncoder::new([7; 4096].as_slice(), flate2::Compression::fast())
        .read_to_end(&mut packed)
        .unwrap();
    for (sector, cut, is_good) in [(40_u64, 0, true), (8, 0, false), (40, 5, false)] {
        let kept = &packed[..packed.len() - cut];
        let size = u32::try_from(kept.len()).unwrap();
        let marker = [sector.to_le_bytes().as_slice(), &size.to_le_bytes()].concat();
        let rest = [table.as_slice(), &marker, kept].concat();
        assert_eq!(read(&file(3 << 16, &[0, 3], &rest)).is_ok(), is_good, "{sector} {cut}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_header_or_not(rest in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Some(header) = Header::parse(&[b"KDMV", rest.as_slice()].concat()) {
            let _ = header.check();
        }
    }

    #[test]
    fn any_tables_are_read_or_refused(
        is_packed: bool,
        tables in proptest::collection::vec(prop_oneof![0..8_u32, any::<u32>()], 2),
        entries in proptest::collection::vec(prop_oneof![0..16_u32, any::<u32>()], 128),
        rest in proptest::collection::vec(any::<u8>(), 0..9000),
    ) {
        let entries = entries.into_iter().flat_map(u32::to_le_bytes);
        let rest: Vec<u8> = entries.chain(rest).collect();
        let flags = if is_packed { 3 << 16 } else { 7 };
        if let Ok(raw) = read(&file(flags, &tables, &rest)) {
            prop_assert_eq!(raw.len(), 8 * 4096);
        }
    }
}
