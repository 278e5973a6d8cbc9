//! Whether a part of a file is in the kernel's memory, and getting it there.
//!
//! mincore(2) and cachestat(2) would tell exactly, but not to a user who may only read the file, as bty-httpd may the store's.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    ops::Range,
    os::unix::fs::FileExt,
};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Where it is looked. The kernel reads ahead, and keeps, in no smaller steps where a file is read from its start to its end.
const STEP_BYTES: usize = 64 * 1024;

/// Whether these bytes can be sent without waiting for a disk, as far as a look at every step tells.
pub(super) fn is_cached(file: &File, bytes: Range<u64>) -> bool {
    bytes.step_by(STEP_BYTES).all(|offset| {
        let mut byte = [0];
        loop {
            match preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
                // Where the file has become shorter, sending finds it out.
                Ok(_) => return true,
                Err(Errno::INTR) => {}
                // A file system that can't say so is asked to read.
                Err(_) => return false,
            }
        }
    })
}

/// Reads these bytes into the kernel's memory; waits for the disk, so it is called off the runtime.
pub(super) fn fetch(file: &File, bytes: Range<u64>) -> io::Result<()> {
    let mut thrown_away = vec![0; STEP_BYTES];
    let mut offset = bytes.start;
    while offset < bytes.end {
        match file.read_at(&mut thrown_away, offset) {
            Ok(0) => return Ok(()),
            Ok(read) => offset += read as u64,
            Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Advice, fadvise};

    use super::*;

    #[test]
    fn what_was_dropped_is_not_there_until_it_is_fetched() {
        // A folder that is on a disk: what is in memory only can't be dropped.
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let bytes = 0..4 << 20;
        file.write_all_at(&vec![1; 4 << 20], 0).unwrap();
        assert!(is_cached(&file, bytes.clone()));
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        assert!(!is_cached(&file, bytes.clone()), "is /var/tmp on a disk?");
        fetch(&file, bytes.clone()).unwrap();
        assert!(is_cached(&file, bytes));
    }

    #[test]
    fn the_end_of_a_file_is_nothing_to_wait_for() {
        let file = tempfile::tempfile().unwrap();
        assert!(is_cached(&file, 0..1 << 20));
        fetch(&file, 0..1 << 20).unwrap();
    }
}
