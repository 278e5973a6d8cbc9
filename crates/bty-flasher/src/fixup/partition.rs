//! A partition as a block device, also where the kernel shows none.

use std::io;

use bty_disk::device::BlockDevice;
use bty_sys::LoopDevice;

use super::look::Volume;
use crate::drivers;

/// Makes one over a partition.
pub(super) fn device(disk: &BlockDevice, volume: &Volume) -> Result<LoopDevice, String> {
    let (start, size) = (volume.partition.start_bytes, volume.partition.size_bytes);
    disk.part(start, size)
        .or_else(|problem| match problem.kind() {
            // The live system has nothing that loads the driver when it is asked for.
            io::ErrorKind::NotFound if drivers::load("loop").is_ok() => disk.part(start, size),
            _ => Err(problem),
        })
        .map_err(|problem| format!("making a loop device of the partition: {problem}"))
}
