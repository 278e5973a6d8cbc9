//! VHD (Microsoft's "Virtual Hard Disk Image Format Specification" of 2006): a dynamic one has a table of blocks, one of fixed size is
//! the raw disk with a footer behind it.

mod fixed;
mod footer;
#[cfg(test)]
mod tests;

use crate::fields::{u32_be, u64_be};
use std::{fs::File, io, sync::Arc};

use super::mapped::{Map, MappedError, Run, Window, read_at_most};
pub(super) use fixed::{Footless, disk_bytes};
use footer::{FOOTER_BYTES, Footer, Kind, is_sum};

const HEADER_COOKIE: &[u8] = b"cxsparse";
const HEADER_BYTES: u64 = 1024;
const HEADER_CHECKSUM_AT: usize = 36;
const HEADER_VERSION: u32 = 0x0001_0000;
const SECTOR_BYTES: u64 = 512;
/// An entry of the table for a block that has no data.
const UNUSED: u32 = u32::MAX;
/// The blocks of all that is known have 512 KiB or 2 MiB.
const BLOCK_BYTES: std::ops::RangeInclusive<u64> = 4096..=256 << 20;
/// Sectors that are looked at for one run.
const MOST_SECTORS: u64 = 512;

/// The table of a dynamic VHD.
pub(super) struct VhdMap {
    disk_bytes: u64,
    block_bytes: u64,
    table_offset: u64,
    table: Window,
    /// Which of a block's sectors have data.
    bitmap: Window,
}

/// Where the parts of the disk are. The file begins with a copy of the footer, which no VHD of fixed size does.
pub(super) fn map(file: &Arc<File>) -> Result<VhdMap, MappedError> {
    let footer = read_at_most(file, 0, FOOTER_BYTES)?;
    let footer = Footer::parse(&footer).ok_or(MappedError::Damaged("its checksum is wrong"))?;
    match footer.kind {
        Kind::Dynamic => {}
        Kind::Differencing => return Err(MappedError::OtherFile("a parent")),
        Kind::Fixed | Kind::Other => return Err(MappedError::Damaged("it is no kind of VHD")),
    }
    let header = read_at_most(file, footer.data_offset, HEADER_BYTES)?;
    if !header.starts_with(HEADER_COOKIE) || !is_sum(&header, HEADER_CHECKSUM_AT) {
        return Err(MappedError::Damaged("the header of its table is none"));
    }
    let (table_offset, version, blocks, block_bytes) = parse(&header).ok_or(MappedError::Short)?;
    if version != HEADER_VERSION {
        return Err(MappedError::Version { found: version, read: "version 65536 is read" });
    }
    let block_bytes = u64::from(block_bytes);
    if !block_bytes.is_power_of_two() || !BLOCK_BYTES.contains(&block_bytes) {
        return Err(MappedError::Damaged("no block has such a size"));
    }
    let disk_bytes = footer.disk_bytes;
    if disk_bytes.div_ceil(block_bytes) > blocks.into() {
        return Err(MappedError::Damaged("its table is too small for its disk"));
    }
    let (table, bitmap) = (Window::new(file), Window::new(file));
    Ok(VhdMap { disk_bytes, block_bytes, table_offset, table, bitmap })
}

fn parse(header: &[u8]) -> Option<(u64, u32, u32, u32)> {
    Some((u64_be(header, 16)?, u32_be(header, 24)?, u32_be(header, 28)?, u32_be(header, 32)?))
}

impl Map for VhdMap {
    fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    fn run(&mut self, offset: u64) -> io::Result<(Run, u64)> {
        let (block, within) = (offset / self.block_bytes, offset % self.block_bytes);
        let entry = self.table.read(self.table_offset.saturating_add(block * 4))?;
        let entry = u32::from_be_bytes(entry);
        if entry == UNUSED {
            return Ok((Run::Zeros, self.block_bytes - within));
        }
        let bitmap = u64::from(entry) * SECTOR_BYTES;
        let sectors = self.block_bytes / SECTOR_BYTES;
        let data = bitmap + sectors.div_ceil(8).next_multiple_of(SECTOR_BYTES);
        let first = within / SECTOR_BYTES;
        let has_data = self.has_data(bitmap, first)?;
        let mut end = first + 1;
        while end < sectors.min(first + MOST_SECTORS) && self.has_data(bitmap, end)? == has_data {
            end += 1;
        }
        let run = if has_data { Run::At(data + within) } else { Run::Zeros };
        Ok((run, end * SECTOR_BYTES - within))
    }
}

impl VhdMap {
    /// Whether a block's sector was ever written. What was not is zeros, whatever it is in the file.
    fn has_data(&mut self, bitmap: u64, sector: u64) -> io::Result<bool> {
        let [bits] = self.bitmap.read(bitmap + sector / 8)?;
        Ok((bits >> (7 - sector % 8)) & 1 == 1)
    }
}
