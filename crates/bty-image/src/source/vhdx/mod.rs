//! VHDX (MS-VHDX, "Virtual Hard Disk v2 File Format"): a table of blocks, which a table of regions and a table of facts lead to.

mod facts;
mod map;
mod regions;
#[cfg(test)]
mod tests;

use std::{fs::File, sync::Arc};

use super::mapped::MappedError;
use map::VhdxMap;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Where the parts of the disk are.
pub(super) fn map(file: &Arc<File>) -> Result<VhdxMap, MappedError> {
    regions::check_header(file)?;
    let regions = regions::read(file)?;
    let facts = facts::read(file, regions.facts)?;
    VhdxMap::new(file, facts, regions.blocks)
}
