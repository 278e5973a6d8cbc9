//! What a footer may say, and that taking it off changes nothing else.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;

use super::{footer::Footer, *};
use crate::source::{detect::Format, mapped};

/// The footer of a VHD of this kind, with the right checksum.
fn footer(kind: u32, disk_bytes: u64) -> Vec<u8> {
    let mut bytes = b"conectix".to_vec();
    bytes.resize(512, 0);
    bytes[16..24].copy_from_slice(&512_u64.to_be_bytes());
    bytes[48..56].copy_from_slice(&disk_bytes.to_be_bytes());
    bytes[60..64].copy_from_slice(&kind.to_be_bytes());
    summed(bytes, 64)
}

fn summed(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = bytes.iter().fold(0_u32, |sum, &byte| sum + u32::from(byte));
    bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
    bytes
}

/// A file for a disk of 8 blocks of 4 KiB, and what is behind its table.
fn dynamic(table: &[u32], rest: &[u8]) -> Vec<u8> {
    let mut header = b"cxsparse".to_vec();
    header.resize(1024, 0);
    header[16..24].copy_from_slice(&1536_u64.to_be_bytes());
    header[24..28].copy_from_slice(&0x1_0000_u32.to_be_bytes());
    header[28..32].copy_from_slice(&8_u32.to_be_bytes());
    header[32..36].copy_from_slice(&4096_u32.to_be_bytes());
    let mut table: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    table.resize(512, 0xff);
    [footer(3, 8 * 4096), summed(header, 36), table, rest.to_vec()].concat()
}

fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let mut raw = Vec::new();
    mapped::open(Format::Vhd, file, None).map_err(io::Error::other)?.read_to_end(&mut raw)?;
    Ok(raw)
}

#[test]
fn a_sector_that_was_never_written_is_zeros_whatever_the_file_has_there() {
    let mut bitmap = [0; 512];
    bitmap[0] = 0b0101_0000;
    let raw = read(&dynamic(&[u32::MAX, 4], &[bitmap.as_slice(), &[7; 4096]].concat())).unwrap();
    let mut want = vec![0; 8 * 4096];
    want[4096 + 512..4096 + 1024].fill(7);
    want[4096 + 3 * 512..4096 + 4 * 512].fill(7);
    assert_eq!(raw, want);
}

#[test]
fn a_block_past_the_end_of_the_file_is_no_hole() {
    let none = read(&dynamic(&[4], &[])).unwrap_err();
    let half = read(&dynamic(&[4], &[0xff; 1000])).unwrap_err();
    for problem in [none, half] {
        assert!(problem.to_string().contains("cut off"), "{problem}");
    }
}

#[test]
fn a_parent_and_a_wrong_checksum_are_refused() {
    let good = dynamic(&[], &[]);
    assert_eq!(read(&good).unwrap(), vec![0; 8 * 4096]);
    for (kind, want) in [(4, "a parent"), (2, "no kind"), (7, "no kind")] {
        let bytes = [footer(kind, 8 * 4096).as_slice(), &good[512..]].concat();
        let problem = format!("{:?}", read(&bytes).unwrap_err());
        assert!(problem.contains(want), "{problem}");
    }
    for at in [50, 512 + 33] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        assert!(read(&bytes).is_err());
    }
}

/// Gives as much at a time as it is told, round about.
struct Pieces(Cursor<Vec<u8>>, Vec<usize>, usize);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.1[self.2 % self.1.len()].min(buffer.len());
        self.2 += 1;
        self.0.read(&mut buffer[..most])
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_footer_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Footer::parse(&bytes);
    }

    #[test]
    fn any_table_is_read_or_refused(table in proptest::collection::vec(prop_oneof![Just(u32::MAX), 0..16_u32, any::<u32>()], 0..8), rest in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        if let Ok(raw) = read(&dynamic(&table, &rest)) {
            prop_assert_eq!(raw.len(), 8 * 4096);
        }
    }

    #[test]
    fn a_footer_and_nothing_else_is_taken_off(
        mut disk in proptest::collection::vec(any::<u8>(), 0..6000),
        has_footer: bool,
        reads in proptest::collection::vec(1..3000_usize, 1..6),
        wants in proptest::collection::vec(1..3000_usize, 1..6),
    ) {
        let want = disk.clone();
        if has_footer {
            disk.extend(footer(2, want.len() as u64));
        }
        let mut footless = Footless::new(Pieces(Cursor::new(disk), reads, 0));
        let mut got: Vec<u8> = Vec::new();
        for wanted in wants.iter().cycle() {
            let mut buffer = vec![0; *wanted];
            let read = footless.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            got.extend(&buffer[..read]);
        }
        prop_assert_eq!(got, want);
        prop_assert_eq!(footless.had_footer(), has_footer);
    }

    #[test]
    fn a_footer_of_another_disk_is_refused(size in 0..3000_u64, stated in 0..3000_u64) {
        let disk = [vec![0; usize::try_from(size).unwrap()], footer(2, stated)].concat();
        let read = Footless::new(disk.as_slice()).read_to_end(&mut Vec::new());
        prop_assert_eq!(read.is_ok(), size == stated);
    }
}
