//! VMDK in one file, sparse or stream-optimised (VMware's "Virtual Disk Format 5.0"): a table of tables of grains, which may be packed.

mod descriptor;
mod header;
#[cfg(test)]
mod tests;

use std::{fs::File, io, sync::Arc};

use super::mapped::{Map, MappedError, Packed, Packing, Run, Window, damaged, read_at_most};
use header::{HEADER_BYTES, Header, SECTOR_BYTES};

/// Where the copy of the header is that says where the tables are, from the end of a file that was written in one go.
const FOOTER_FROM_END: u64 = 1024;
/// Before a packed grain: its place in the disk and its size.
const MARKER_BYTES: u64 = 12;

/// The tables of a VMDK.
pub(super) struct VmdkMap {
    header: Header,
    tables: Window,
    grains: Window,
    markers: Window,
}

/// Where the parts of the disk are.
pub(super) fn map(file: &Arc<File>, source_bytes: u64) -> Result<VmdkMap, MappedError> {
    let head = read_at_most(file, 0, HEADER_BYTES)?;
    let first = Header::parse(&head).ok_or(MappedError::Short)?;
    first.check()?;
    descriptor::check(file, &first)?;
    let mut header = first;
    if first.tables_are_at_end() {
        let at = source_bytes.checked_sub(FOOTER_FROM_END).ok_or(MappedError::Short)?;
        let footer = read_at_most(file, at, HEADER_BYTES)?;
        let footer = Header::parse(&footer).filter(|footer| !footer.tables_are_at_end());
        header = footer.ok_or(MappedError::Damaged(
            "its tables should be at its end and are not there: the source was cut off",
        ))?;
        header.check()?;
    }
    let [tables, grains, markers] = [file, file, file].map(Window::new);
    Ok(VmdkMap { header, tables, grains, markers })
}

impl Map for VmdkMap {
    fn disk_bytes(&self) -> u64 {
        self.header.disk_sectors.saturating_mul(SECTOR_BYTES)
    }

    fn run(&mut self, offset: u64) -> io::Result<(Run, u64)> {
        let header = self.header;
        let (grain_bytes, table_grains) = (header.grain_bytes(), u64::from(header.table_grains));
        let (grain, within) = (offset / grain_bytes, offset % grain_bytes);
        let rest = grain_bytes - within;
        let (table, number) = (grain / table_grains, grain % table_grains);
        let tables = header.tables_sector.saturating_mul(SECTOR_BYTES);
        let table = u32::from_le_bytes(self.tables.read(tables.saturating_add(table * 4))?);
        if table == 0 {
            return Ok((Run::Zeros, (table_grains - number - 1) * grain_bytes + rest));
        }
        let entry = self.grains.read(u64::from(table) * SECTOR_BYTES + number * 4)?;
        let entry = u32::from_le_bytes(entry);
        if entry == 0 || entry == 1 && header.has_zero_grains() {
            return Ok((Run::Zeros, rest));
        }
        let at = u64::from(entry) * SECTOR_BYTES;
        if !header.is_packed() {
            return Ok((Run::At(at + within), rest));
        }
        Ok((Run::Packed(self.packed(at, grain)?), rest))
    }
}

impl VmdkMap {
    fn packed(&mut self, at: u64, grain: u64) -> io::Result<Packed> {
        let [s0, s1, s2, s3, s4, s5, s6, s7, size @ ..]: [u8; 12] = self.markers.read(at)?;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let bytes = u64::from(u32::from_le_bytes(size));
        let unit_bytes = self.header.grain_bytes();
        if sector != grain.saturating_mul(self.header.grain_sectors) {
            return Err(damaged("a grain is not where its table says"));
        }
        if bytes == 0 || bytes > 2 * unit_bytes {
            return Err(damaged("a packed grain has no such size"));
        }
        Ok(Packed { packing: Packing::Zlib, at: at + MARKER_BYTES, bytes, unit_bytes })
    }
}
