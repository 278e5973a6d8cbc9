//! qcow2 (docs/interop/qcow2.rst of QEMU): two levels of tables, and clusters that may be packed. (docs/adr/0008)

mod header;
mod map;
#[cfg(test)]
mod tests;

use std::{fs::File, sync::Arc};

use super::mapped::{MappedError, read_at_most};
use header::{HEADER_BYTES, Header};
use map::Qcow2Map;

/// Where the parts of the disk are.
pub(super) fn map(file: &Arc<File>) -> Result<Qcow2Map, MappedError> {
    let header = Header::parse(&read_at_most(file, 0, HEADER_BYTES)?).ok_or(MappedError::Short)?;
    header.check()?;
    Ok(Qcow2Map::new(Arc::clone(file), header))
}
