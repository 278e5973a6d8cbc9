//! What a header may say, and that nothing in a file makes the reader panic.

use std::io::{self, Read, Write};

use proptest::prelude::*;

use super::*;
use crate::source::{detect::Format, mapped};

const GOOD: Header = Header {
    version: 3,
    backing_file_offset: 0,
    cluster_bits: 16,
    disk_bytes: 1 << 30,
    crypt_method: 0,
    l1_entries: 2,
    l1_offset: 3 << 16,
    incompatible_features: 1,
    compression_type: 0,
};

#[test]
fn whatever_reaches_outside_of_the_file_is_refused() {
    assert!(GOOD.check().is_ok());
    let backing = Header { backing_file_offset: 1, ..GOOD };
    let data = Header { incompatible_features: 1 << 2, ..GOOD };
    for header in [backing, data] {
        assert!(matches!(header.check(), Err(MappedError::OtherFile(_))), "{header:?}");
    }
}

#[test]
fn absurd_headers_are_refused() {
    let refused = [
        Header { version: 1, ..GOOD },
        Header { version: 4, ..GOOD },
        Header { disk_bytes: u64::MAX, ..GOOD },
        Header { disk_bytes: (1 << 30) + 1, ..GOOD },
        Header { disk_bytes: 1 << 50, cluster_bits: 9, l1_entries: u32::MAX, ..GOOD },
        Header { cluster_bits: 8, ..GOOD },
        Header { cluster_bits: 22, ..GOOD },
        Header { cluster_bits: u32::MAX, ..GOOD },
        Header { cluster_bits: 13, incompatible_features: 1 << 4, l1_entries: 1000, ..GOOD },
        Header { l1_offset: 0, ..GOOD },
        Header { l1_offset: 512, ..GOOD },
        Header { crypt_method: 1, ..GOOD },
        Header { incompatible_features: 1 << 1, ..GOOD },
        Header { incompatible_features: 1 << 63, ..GOOD },
        Header { incompatible_features: 1 << 3, compression_type: 2, ..GOOD },
    ];
    for header in refused {
        assert!(header.check().is_err(), "{header:?}");
    }
}

/// A file with a header that passes, for a disk of 8 clusters of 512 bytes, and these tables and clusters after it.
fn file(extended: bool, compression_type: u8, rest: &[u8]) -> Vec<u8> {
    let cluster_bits: u32 = if extended { 14 } else { 9 };
    let cluster = 1_u64 << cluster_bits;
    let mut bytes = b"QFI\xfb".to_vec();
    bytes.extend(3_u32.to_be_bytes());
    bytes.resize(20, 0);
    bytes.extend(cluster_bits.to_be_bytes());
    bytes.extend((8 * cluster).to_be_bytes());
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend(cluster.to_be_bytes());
    bytes.resize(72, 0);
    bytes.extend((if extended { 0b1_1000_u64 } else { 0b1000 }).to_be_bytes());
    bytes.resize(100, 0);
    bytes.extend(112_u32.to_be_bytes());
    bytes.push(compression_type);
    bytes.resize(usize::try_from(cluster).unwrap(), 0);
    // The table of the first level, which names one table in the cluster after it.
    bytes.extend((2 * cluster).to_be_bytes());
    bytes.resize(usize::try_from(2 * cluster).unwrap(), 0);
    bytes.extend(rest);
    bytes
}

fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let mut raw = Vec::new();
    let source = mapped::open(Format::Qcow2, file, None);
    source.map_err(io::Error::other)?.read_to_end(&mut raw)?;
    Ok(raw)
}

#[test]
fn a_table_or_cluster_past_the_end_of_the_file_is_no_hole() {
    let no_table = read(&file(false, 0, &[])).unwrap_err();
    assert!(no_table.to_string().contains("cut off"), "{no_table}");
    let mut table = vec![0; 512];
    assert_eq!(read(&file(false, 0, &table)).unwrap(), [0; 8 * 512]);
    table[..8].copy_from_slice(&0x8000_0000_0000_0600_u64.to_be_bytes());
    let no_cluster = read(&file(false, 0, &table)).unwrap_err();
    assert!(no_cluster.to_string().contains("cut off"), "{no_cluster}");
    table.extend([7; 512]);
    assert_eq!(
        read(&file(false, 0, &table)).unwrap(),
        [[7; 512].as_slice(), &[0; 7 * 512]].concat()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_header_or_not(bytes: Vec<u8>) {
        if let Some(header) = Header::parse(&bytes) {
            let _ = header.check();
        }
    }

    #[test]
    fn any_tables_are_read_or_refused(
        entries in proptest::collection::vec(prop_oneof![any::<u64>(), 0..0x4000_u64, (0..0x4000_u64).prop_map(|low| low | 1 << 62)], 0..64),
        rest in proptest::collection::vec(any::<u8>(), 0..4096),
        extended: bool,
        zstd: bool,
    ) {
        let mut bytes: Vec<u8> = entries.into_iter().flat_map(u64::to_be_bytes).collect();
        bytes.resize(if extended { 1 << 14 } else { 512 }, 0);
        bytes.extend(rest);
        if let Ok(raw) = read(&file(extended, zstd.into(), &bytes)) {
            prop_assert_eq!(raw.len(), if extended { 8 << 14 } else { 8 << 9 });
        }
    }
}
