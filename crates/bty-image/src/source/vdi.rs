//! VDI, VirtualBox's own format: a table of blocks. (VirtualBox's `VDICore.h`, and `block/vdi.c` of QEMU)

use crate::fields::{u32_le, u64_le};
use std::{fs::File, io, sync::Arc};

use super::mapped::{Map, MappedError, Run, Window, damaged, read_at_most};

const HEADER_BYTES: u64 = 512;
const VERSION: u32 = 0x0001_0001;
/// Entries from here on are blocks without data.
const FIRST_UNUSED: u32 = 0xffff_fffe;
/// The blocks of all that is known have 1 MiB.
const BLOCK_BYTES: std::ops::RangeInclusive<u64> = 4096..=256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    version: u32,
    kind: u32,
    table_offset: u32,
    data_offset: u32,
    disk_bytes: u64,
    block_bytes: u32,
    /// Bytes before the data of each block.
    block_extra: u32,
    blocks: u32,
    has_parent: bool,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            version: u32_le(bytes, 0x44)?,
            kind: u32_le(bytes, 0x4c)?,
            table_offset: u32_le(bytes, 0x154)?,
            data_offset: u32_le(bytes, 0x158)?,
            disk_bytes: u64_le(bytes, 0x170)?,
            block_bytes: u32_le(bytes, 0x178)?,
            block_extra: u32_le(bytes, 0x17c)?,
            blocks: u32_le(bytes, 0x180)?,
            has_parent: bytes.get(0x1a8..0x1c8)?.iter().any(|&byte| byte != 0),
        })
    }

    /// Refuses what must not or can't be read.
    fn check(&self) -> Result<(), MappedError> {
        if self.version != VERSION {
            return Err(MappedError::Version { found: self.version, read: "1.1 (65537) is read" });
        }
        // 1 grows, 2 has all its blocks, 3 and 4 are the changes to another.
        if !matches!(self.kind, 1 | 2) || self.has_parent {
            return Err(MappedError::OtherFile("a parent"));
        }
        if self.block_extra != 0 {
            return Err(MappedError::Feature("blocks with something before their data"));
        }
        let block_bytes = u64::from(self.block_bytes);
        if !block_bytes.is_power_of_two() || !BLOCK_BYTES.contains(&block_bytes) {
            return Err(MappedError::Damaged("no block has such a size"));
        }
        if self.disk_bytes.div_ceil(block_bytes) > self.blocks.into() {
            return Err(MappedError::Damaged("its table is too small for its disk"));
        }
        Ok(())
    }
}

/// The table of a VDI.
pub(super) struct VdiMap {
    header: Header,
    table: Window,
}

/// Where the parts of the disk are.
pub(super) fn map(file: &Arc<File>) -> Result<VdiMap, MappedError> {
    let header = read_at_most(file, 0, HEADER_BYTES)?;
    let header = Header::parse(&header).ok_or(MappedError::Short)?;
    header.check()?;
    Ok(VdiMap { header, table: Window::new(file) })
}

impl Map for VdiMap {
    fn disk_bytes(&self) -> u64 {
        self.header.disk_bytes
    }

    fn run(&mut self, offset: u64) -> io::Result<(Run, u64)> {
        let block_bytes = u64::from(self.header.block_bytes);
        let (block, within) = (offset / block_bytes, offset % block_bytes);
        let entry = self.table.read(u64::from(self.header.table_offset) + block * 4)?;
        let entry = u32::from_le_bytes(entry);
        let run = match entry {
            FIRST_UNUSED.. => Run::Zeros,
            _ if entry >= self.header.blocks => {
                return Err(damaged("its table names a block that it can't have"));
            }
            _ => {
                let data = u64::from(self.header.data_offset) + u64::from(entry) * block_bytes;
                Run::At(data + within)
            }
        };
        Ok((run, block_bytes - within))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use proptest::prelude::*;

    use super::*;
    use crate::source::{detect::Format, mapped};

    const GOOD: Header = Header {
        version: VERSION,
        kind: 1,
        table_offset: 512,
        data_offset: 1024,
        disk_bytes: 4 * 4096,
        block_bytes: 4096,
        block_extra: 0,
        blocks: 4,
        has_parent: false,
    };

    #[test]
    fn absurd_headers_are_refused() {
        assert!(GOOD.check().is_ok());
        for header in [
            Header { version: 1, ..GOOD },
            Header { kind: 4, ..GOOD },
            Header { has_parent: true, ..GOOD },
            Header { block_extra: 512, ..GOOD },
            Header { block_bytes: 0, ..GOOD },
            Header { block_bytes: 512, ..GOOD },
            Header { block_bytes: 5000, ..GOOD },
            Header { block_bytes: 1 << 31, ..GOOD },
            Header { disk_bytes: 4 * 4096 + 1, ..GOOD },
            Header { disk_bytes: u64::MAX, ..GOOD },
        ] {
            assert!(header.check().is_err(), "{header:?}");
        }
    }

    /// A file for a disk of four blocks of 4 KiB, and what is behind its table.
    fn file(table: &[u32], rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0x44, &GOOD.version.to_le_bytes());
        put(0x4c, &GOOD.kind.to_le_bytes());
        put(0x154, &GOOD.table_offset.to_le_bytes());
        put(0x158, &GOOD.data_offset.to_le_bytes());
        put(0x170, &GOOD.disk_bytes.to_le_bytes());
        put(0x178, &GOOD.block_bytes.to_le_bytes());
        put(0x180, &GOOD.blocks.to_le_bytes());
        bytes.extend(table.iter().flat_map(|entry| entry.to_le_bytes()));
        bytes.resize(1024, 0xff);
        bytes.extend(rest);
        bytes
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut raw = Vec::new();
        mapped::open(Format::Vdi, file, None).map_err(io::Error::other)?.read_to_end(&mut raw)?;
        Ok(raw)
    }

    #[test]
    fn a_block_past_the_end_of_the_file_is_no_hole() {
        let raw = read(&file(&[u32::MAX, 0, FIRST_UNUSED, u32::MAX], &[7; 4096])).unwrap();
        assert_eq!(raw, [vec![0; 4096], vec![7; 4096], vec![0; 8192]].concat());
        for (table, rest, want) in
            [(&[0][..], 4095, "cut off"), (&[1], 4096, "cut off"), (&[4], 8 * 4096, "can't have")]
        {
            let problem = read(&file(table, &vec![7; rest])).unwrap_err();
            assert!(problem.to_string().contains(want), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_not(bytes in proptest::collection::vec(any::<u8>(), 400..600)) {
            if let Some(header) = Header::parse(&bytes) {
                let _ = header.check();
            }
        }

        #[test]
        fn any_table_is_read_or_refused(table in proptest::collection::vec(prop_oneof![Just(u32::MAX), 0..5_u32, any::<u32>()], 4), rest in 0..20_000_usize) {
            if let Ok(raw) = read(&file(&table, &vec![7; rest])) {
                prop_assert_eq!(raw.len(), 4 * 4096);
            }
        }
    }
}
