//! Whether the log of an XFS was closed: the last that was written to it is a record of an unmount.
//!
//! Each block of 512 bytes of the log begins with the number of the round in which it was written (the second word, in the block that a
//! record begins with), so the place where the round changes is the end of what was written last.

use super::super::map::{Doubt, Part, have, read};
use crate::fields::{array, has, u32_be};

const BLOCK_BYTES: u64 = 512;
/// What a record begins with.
const MAGIC: &[u8] = &0xfeed_babe_u32.to_be_bytes();
/// Blocks before the end in which the last record begins: the largest has 256 KiB and a header of a block for each 32 KiB.
const RECORD_BLOCKS: u64 = 512 + 8 + 1;
/// In an operation's flags: the file system was unmounted.
const UNMOUNT: u8 = 0x20;

/// Whether the log with these bytes was closed.
pub(super) fn is_clean(part: &Part<'_>, at: u64, bytes: u64) -> Result<bool, Doubt> {
    let log = Log { part, at, blocks: bytes / BLOCK_BYTES };
    if log.blocks < 2 {
        return Err(Doubt::Odd("its log is too small"));
    }
    let end = log.end()?;
    for back in 1..=RECORD_BLOCKS.min(log.blocks) {
        let number = (end + log.blocks - back) % log.blocks;
        let block = log.block(number)?;
        if has(&block, 0, MAGIC) {
            return log.is_unmount(&block, number, back);
        }
    }
    Ok(false)
}

struct Log<'a, 'b> {
    part: &'a Part<'b>,
    at: u64,
    blocks: u64,
}

impl Log<'_, '_> {
    fn block(&self, number: u64) -> Result<Vec<u8>, Doubt> {
        read(self.part, self.at + number * BLOCK_BYTES, BLOCK_BYTES)
    }

    fn round(&self, number: u64) -> Result<u32, Doubt> {
        let block = self.block(number)?;
        have(u32_be(&block, if has(&block, 0, MAGIC) { 4 } else { 0 }))
    }

    /// The block behind the one that was written last.
    fn end(&self) -> Result<u64, Doubt> {
        let (first, last) = (self.round(0)?, self.round(self.blocks - 1)?);
        if first == last {
            return Ok(0);
        }
        // Blocks before it are of the first one's round, it and those behind are not.
        let (mut written, mut other) = (0, self.blocks - 1);
        while other - written > 1 {
            let middle = written + (other - written) / 2;
            if self.round(middle)? == first {
                written = middle;
            } else {
                other = middle;
            }
        }
        Ok(other)
    }

    /// Whether the record that begins `back` blocks before the end is that of an unmount and reaches to the end.
    fn is_unmount(&self, header: &[u8], number: u64, back: u64) -> Result<bool, Doubt> {
        let (version, length) = (have(u32_be(header, 8))?, u64::from(have(u32_be(header, 12))?));
        let operations = have(u32_be(header, 40))?;
        let header_size = u64::from(have(u32_be(header, 320))?);
        let header_blocks = match version & 2 {
            0 => 1,
            _ => header_size.div_ceil(32 * 1024).max(1),
        };
        if operations != 1 || header_blocks + length.div_ceil(BLOCK_BYTES) != back {
            return Ok(false);
        }
        let first = self.block((number + header_blocks) % self.blocks)?;
        // Identifier, length, who wrote it; then the flags.
        let [flags] = have(array(&first, 9))?;
        Ok(flags & UNMOUNT != 0)
    }
}
