//! VDI, VirtualBox's own format: a table of blocks. (VirtualBox's `VDICore.h`, and `block/vdi.c` of QEMU)

use std::{fs::File, io, sync::Arc};

use super::mapped::{Map, MappedError, Run, Window, damaged, le_u32, le_u64, read_at_most};

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
            version: le_u32(bytes, 0x44)?,
            kind: le_u32(bytes, 0x4c)?,
            table_offset: le_u32(bytes, 0x154)?,
            data_offset: le_u32(bytes, 0x158)?,
            disk_bytes: le_u64(bytes, 0x170)?,
            block_bytes: le_u32(bytes, 0x178)?,
            block_extra: le_u32(bytes, 0x17c)?,
            blocks: le_u32(bytes, 0x180)?,
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
