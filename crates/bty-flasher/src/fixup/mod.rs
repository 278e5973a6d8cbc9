//! What is changed on a disk after it has proved its image, each only where it is asked for: its partition table, the size of the last
//! partition and of its file system, and files that tell the system who it is.
//!
//! Nothing here makes a flash fail: what could not be done is said, and the disk is the image in that. What is written is made whole in
//! memory first where that goes (tables, FAT), and in an order in which a cut leaves a disk that boots; for the others there is the
//! kernel's driver and its journal. Flashed again, the disk becomes the image again in what was changed, and is changed again.

mod cidata;
mod ext;
mod fat;
mod files;
mod grow;
mod look;
mod mounted;
mod ntfs;
mod partition;
mod place;
mod result;
mod table;
mod tool;

use bty_disk::device::BlockDevice;
use bty_types::FixUps;

use crate::engine::{Options, Record};
pub use result::{FixUpResult, Outcome};

/// Why a disk is not changed that has not proved its image.
const UNPROVED: &str = "the disk is changed only where it has proved its image, which it doesn't with --verify stream or --holes keep";

/// Passes wishes that a flash with these options may carry out: those that never will are to be refused before anything is written.
pub(crate) fn check(wanted: &FixUps, options: &Options) -> Result<(), &'static str> {
    if wanted.is_none() || options.proves() { Ok(()) } else { Err(UNPROVED) }
}

/// Changes a disk that holds the image of this record; says of each what became of it, in order.
pub fn apply(device: &BlockDevice, wanted: &FixUps, record: &Record) -> Vec<FixUpResult> {
    if wanted.is_none() {
        return Vec::new();
    }
    if !record.proved {
        return vec![FixUpResult::failed("fix-ups", UNPROVED)];
    }
    let mut results = table::fix(device, wanted);
    if wanted.grow {
        results.push(grow::fix(device));
    }
    results.extend(files::fix(device, wanted));
    results
}

/// What became of each, for the screen.
pub(crate) fn lines(results: &[FixUpResult]) -> Vec<String> {
    results.iter().map(ToString::to_string).collect()
}
