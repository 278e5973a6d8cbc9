//! What the tables may say, and that nothing in a file makes them panic.

use std::io::{self, Read, Write};

use proptest::prelude::*;

use super::facts::Facts;
use crate::{
    source::{detect::Format, mapped},
    table_sum,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn summed(mut table: Vec<u8>, bytes: usize) -> Vec<u8> {
    table.resize(bytes, 0);
    let sum = table_sum::of_table(&table, 4);
    table[4..8].copy_from_slice(&sum.to_le_bytes());
    table
}

fn header(number: u64, version: u16, log: u8) -> Vec<u8> {
    let mut bytes = b"head\0\0\0\0".to_vec();
    bytes.extend(number.to_le_bytes());
    bytes.resize(48, 0);
    bytes.push(log);
    bytes.resize(66, 0);
    bytes.extend(version.to_le_bytes());
    summed(bytes, 4 * KIB)
}

/// A GUID as it is stored, from how it is written.
fn guid(written: u128) -> [u8; 16] {
    let mut bytes = written.to_be_bytes();
    for number in [0..4, 4..6, 6..8] {
        bytes[number].reverse();
    }
    bytes
}

fn regions() -> Vec<u8> {
    let mut bytes = b"regi\0\0\0\0".to_vec();
    bytes.extend([2, 0, 0, 0, 0, 0, 0, 0]);
    for (id, at) in [
        (0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08, MIB),
        (0x8b7c_a206_4790_4b9a_b8fe_575f_050f_886e, 2 * MIB),
    ] {
        bytes.extend(guid(id));
        bytes.extend((at as u64).to_le_bytes());
        bytes.extend([0, 0, 0x10, 0, 1, 0, 0, 0]);
    }
    summed(bytes, 64 * KIB)
}

/// The parts of a file for a disk of 4 blocks of 1 MiB.
struct Parts {
    headers: [Vec<u8>; 2],
    entries: Vec<u64>,
    facts: Vec<(u128, Vec<u8>)>,
    rest: Vec<u8>,
}

impl Parts {
    fn good() -> Self {
        let facts = vec![
            (0xcaa1_6737_fa36_4d43_b3b6_33f0_aa44_e76b, vec![0, 0, 0x10, 0, 0, 0, 0, 0]),
            (0x2fa5_4224_cd1b_4876_b211_5dbe_d83b_f4b8, vec![0, 0, 0x40, 0, 0, 0, 0, 0]),
            (0x8141_bf1d_a96f_4709_ba47_f233_a8fa_ab5f, vec![0, 2, 0, 0]),
            (0xcda3_48c7_445d_4471_9cc9_e988_5251_c556, vec![0, 2, 0, 0]),
        ];
        let headers = [header(7, 1, 0), header(6, 1, 9)];
        Self { headers, entries: vec![], facts, rest: vec![] }
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = b"vhdxfile".to_vec();
        let mut put = |at: usize, part: &[u8]| {
            bytes.resize(at, 0);
            bytes.extend(part);
        };
        put(64 * KIB, &self.headers[0]);
        put(128 * KIB, &self.headers[1]);
        // The first table of regions is none, and the second is good.
        put(256 * KIB, &regions());
        let entries: Vec<u8> = self.entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        put(MIB, &entries);
        let mut table = b"metadata\0\0".to_vec();
        table.push(u8::try_from(self.facts.len()).unwrap());
        table.resize(32, 0);
        let mut at = 64 * KIB;
        for (id, value) in &self.facts {
            table.extend(guid(*id));
            table.extend(u32::try_from(at).unwrap().to_le_bytes());
            table.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
            table.extend([4, 0, 0, 0, 0, 0, 0, 0]);
            at += value.len();
        }
        put(2 * MIB, &table);
        let values: Vec<u8> = self.facts.iter().flat_map(|(_, value)| value.clone()).collect();
        put(2 * MIB + 64 * KIB, &values);
        put(3 * MIB, &self.rest);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut raw = Vec::new();
        let source = mapped::open(Format::Vhdx, file, None).map_err(io::Error::other)?;
        source.take(5 << 20).read_to_end(&mut raw)?;
        Ok(raw)
    }
}

#[test]
fn the_newest_header_that_proves_itself_counts() {
    assert_eq!(Parts::good().read().unwrap(), vec![0; 4 * MIB]);
    for (headers, want) in [
        ([header(5, 1, 0), header(6, 1, 9)], "still open"),
        ([header(6, 1, 0), header(5, 1, 0)], ""),
        ([header(6, 2, 0), header(5, 1, 0)], "version 2"),
        ([vec![0; 4 * KIB], header(5, 1, 0)], ""),
        ([vec![0; 4 * KIB], vec![0; 4 * KIB]], "both of its headers"),
    ] {
        match (Parts { headers, ..Parts::good() }).read() {
            Ok(_) => assert_eq!(want, ""),
            Err(problem) => {
                let cause = problem.get_ref().and_then(|problem| problem.source());
                let shown = cause.map_or_else(String::new, ToString::to_string);
                assert!(!want.is_empty() && shown.contains(want), "{want}: {shown}");
            }
        }
    }
}

#[test]
fn unknown_and_missing_facts_are_refused() {
    for number in 0..3 {
        let mut parts = Parts::good();
        parts.facts.remove(number);
        assert!(parts.read().is_err(), "without fact {number}");
    }
    let mut parts = Parts::good();
    parts.facts.push((1, vec![1]));
    assert!(parts.read().is_err(), "a fact that nobody knows");
    let mut parts = Parts::good();
    parts.facts.push((0xa8d3_5f2d_b30b_454d_abf7_d3d8_4834_ab0c, vec![1]));
    assert!(parts.read().is_err(), "a parent");
}

#[test]
fn no_disk_has_such_blocks_or_sectors() {
    let good = Facts { disk_bytes: 1 << 30, block_bytes: 1 << 20, sector_bytes: 512 };
    assert!(good.check().is_ok());
    for facts in [
        Facts { block_bytes: 0, ..good },
        Facts { block_bytes: 1 << 19, ..good },
        Facts { block_bytes: 1 << 29, ..good },
        Facts { block_bytes: 3 << 20, ..good },
        Facts { sector_bytes: 0, ..good },
        Facts { sector_bytes: 1024, ..good },
        Facts { disk_bytes: 1000, ..good },
    ] {
        assert!(facts.check().is_err(), "{facts:?}");
    }
}

#[test]
fn a_block_past_the_end_of_the_file_is_no_hole() {
    let block = |state| u64::try_from(3 * MIB).unwrap() | state;
    let parts = |entries, rest| Parts { entries, rest, ..Parts::good() };
    let cut = parts(vec![0, block(6)], vec![7; MIB - 1]).read().unwrap_err();
    assert!(cut.to_string().contains("cut off"), "{cut}");
    let raw = parts(vec![0, block(6), block(2), block(3)], vec![7; MIB]).read().unwrap();
    assert!(raw == [vec![0; MIB], vec![7; MIB], vec![0; 2 * MIB]].concat());
    // Of a disk with a parent, and of none; and the file's own first MiB as a block.
    for entry in [block(7), block(4), 6] {
        assert!(parts(vec![entry], vec![7; MIB]).read().is_err(), "{entry:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_tables_are_read_or_refused(
        entries in proptest::collection::vec(prop_oneof![0..8_u64, any::<u64>(), (0..8_u64).prop_map(|state| 3 << 20 | state)], 4),
        fact in 0..4_usize,
        value in proptest::collection::vec(any::<u8>(), 0..9),
    ) {
        if let Ok(raw) = (Parts { entries: entries.clone(), rest: vec![7; MIB], ..Parts::good() }).read() {
            prop_assert_eq!(raw.len(), 4 * MIB);
        }
        let mut parts = Parts { entries, ..Parts::good() };
        parts.facts[fact].1 = value;
        let _ = parts.read();
    }
}
