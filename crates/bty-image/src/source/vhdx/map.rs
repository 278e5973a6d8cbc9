//! The table of blocks.

use std::{fs::File, io, sync::Arc};

use super::{MIB, facts::Facts, regions::Region};
use crate::source::mapped::{Map, MappedError, Run, Window, damaged};

const ENTRY_BYTES: u64 = 8;
/// Behind the entries of so many sectors there is one for their bitmap, which only a disk with a parent uses.
const SECTORS_PER_BITMAP: u64 = 1 << 23;
const STATE: u64 = 0b111;

pub(in crate::source) struct VhdxMap {
    facts: Facts,
    table: Window,
    table_offset: u64,
    blocks_per_bitmap: u64,
}

impl VhdxMap {
    pub(super) fn new(file: &Arc<File>, facts: Facts, region: Region) -> Result<Self, MappedError> {
        let blocks_per_bitmap = SECTORS_PER_BITMAP * facts.sector_bytes / facts.block_bytes;
        let map = Self {
            facts,
            table: Window::new(file),
            table_offset: region.offset,
            blocks_per_bitmap,
        };
        let last = facts.disk_bytes.saturating_sub(1) / facts.block_bytes;
        if map.entry_at(last).saturating_add(ENTRY_BYTES)
            > region.offset.saturating_add(region.bytes)
        {
            return Err(MappedError::Damaged("its table is too small for its disk"));
        }
        Ok(map)
    }

    fn entry_at(&self, block: u64) -> u64 {
        let number = block + block / self.blocks_per_bitmap;
        self.table_offset.saturating_add(number.saturating_mul(ENTRY_BYTES))
    }
}

impl Map for VhdxMap {
    fn disk_bytes(&self) -> u64 {
        self.facts.disk_bytes
    }

    fn run(&mut self, offset: u64) -> io::Result<(Run, u64)> {
        let block_bytes = self.facts.block_bytes;
        let (block, within) = (offset / block_bytes, offset % block_bytes);
        let entry = u64::from_le_bytes(self.table.read(self.entry_at(block))?);
        let run = match entry & STATE {
            // Not there, undefined, zeros, and unmapped as two drafts number it.
            0 | 1 | 2 | 3 | 5 => Run::Zeros,
            6 if entry < MIB => return Err(damaged("its table names a block that it can't have")),
            6 => Run::At((entry & !(MIB - 1)).saturating_add(within)),
            _ => return Err(damaged("a block is in no state that it can be in")),
        };
        Ok((run, block_bytes - within))
    }
}
