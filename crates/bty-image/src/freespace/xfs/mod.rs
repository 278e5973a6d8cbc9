//! XFS: a tree of free extents in each allocation group, sorted by where they are (XFS Algorithms & Data Structures, chapters 12 to 15).
//!
//! What its free list holds for its own trees stays as it is.

mod log;

use std::ops::Range;

use super::map::{Doubt, FreeMap, Part, have, read};
use crate::{
    ReadAt as _,
    fields::{has, u16_be, u32_be, u32_le, u64_be},
    table_sum,
};

/// Features that change nothing about the trees; with any other the file system is not understood.
const INCOMPATIBLE: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80;
const READ_ONLY: u32 = 0x1 | 0x2 | 0x4 | 0x8;
/// No block, in the pointers of trees.
const NONE: u32 = u32::MAX;
const MOST_LEVELS: u32 = 10;

/// Where things are.
pub(super) struct Xfs {
    block_bytes: u64,
    blocks: u64,
    group_blocks: u64,
    groups: u64,
    sector_bytes: u64,
    /// Whether structures have checksums.
    is_version_5: bool,
    /// The group that comes next.
    group: u64,
    /// The leaf that comes next.
    leaf: Option<Leaf>,
}

/// Where a walk over a group's leaves is.
struct Leaf {
    first_block: u64,
    group_blocks: u64,
    block: u32,
    /// Where the last extent ended.
    end: u64,
    /// Blocks that are still to come, as the group says.
    left: u64,
}

impl Xfs {
    pub(super) fn open(part: &Part<'_>) -> Result<Self, Doubt> {
        let block = read(part, 0, 512)?;
        let u16_at = |at| have(u16_be(&block, at)).map(u64::from);
        let u32_at = |at| have(u32_be(&block, at)).map(u64::from);
        let version = u16_at(100)? & 0xf;
        if !matches!(version, 4 | 5) || block.get(126) != Some(&0) {
            return Err(Doubt::Odd(
                "it has a version that bty does not know, or was never finished",
            ));
        }
        let is_version_5 = version == 5;
        let features = |at| u32_be(&block, at).unwrap_or(u32::MAX);
        if is_version_5 && (features(216) & !INCOMPATIBLE != 0 || features(212) & !READ_ONLY != 0) {
            return Err(Doubt::Odd("it has features that bty does not know"));
        }
        let xfs = Self {
            block_bytes: u32_at(4)?,
            blocks: have(u64_be(&block, 8))?,
            group_blocks: u32_at(84)?,
            groups: u32_at(88)?,
            sector_bytes: u16_at(102)?,
            is_version_5,
            group: 0,
            leaf: None,
        };
        let is_size =
            |bytes: u64, most: u64| bytes.is_power_of_two() && (512..=most).contains(&bytes);
        let bytes = xfs.blocks.checked_mul(xfs.block_bytes);
        if is_size(xfs.sector_bytes, 32768) && !xfs.is_whole(&read(part, 0, xfs.sector_bytes)?, 224)
        {
            return Err(Doubt::Odd("its superblock is damaged"));
        }
        let fits = is_size(xfs.block_bytes, 65536)
            && is_size(xfs.sector_bytes, 32768)
            && xfs.group_blocks > 0
            && xfs.blocks.div_ceil(xfs.group_blocks) == xfs.groups
            && bytes.is_some_and(|bytes| bytes <= part.length().unwrap_or(0));
        if !fits {
            return Err(Doubt::Odd(
                "its superblock contradicts itself or the size of its partition",
            ));
        }
        let [log_at, log_blocks] = [have(u64_be(&block, 48))?, u32_at(96)?];
        let group_log2 = block.get(124).copied().map_or(64, u32::from);
        let group = have(log_at.checked_shr(group_log2))?;
        let within = log_at & have(1_u64.checked_shl(group_log2))?.wrapping_sub(1);
        let log_block =
            group.checked_mul(xfs.group_blocks).and_then(|first| first.checked_add(within));
        let log_block = have(log_block)?;
        if log_at == 0 {
            return Err(Doubt::Odd("its log is on another disk"));
        }
        if have(log_block.checked_add(log_blocks))? > xfs.blocks {
            return Err(Doubt::Odd("its log lies outside of it"));
        }
        let bytes = |blocks: u64| blocks * xfs.block_bytes;
        if !log::is_clean(part, bytes(log_block), bytes(log_blocks))? {
            return Err(Doubt::Odd("its log has to be played back first: it was not unmounted"));
        }
        Ok(xfs)
    }

    /// Begins a group: its header, and the way to its first leaf.
    fn begin(&self, part: &Part<'_>, group: u64) -> Result<Leaf, Doubt> {
        let first_block = group * self.group_blocks;
        let group_blocks = self.group_blocks.min(self.blocks - first_block);
        let at = first_block * self.block_bytes + self.sector_bytes;
        let header = read(part, at, self.sector_bytes)?;
        let u32_at = |at| have(u32_be(&header, at));
        let fits = has(&header, 0, b"XAGF")
            && u64::from(u32_at(8)?) == group
            && u64::from(u32_at(12)?) == group_blocks
            && (1..=MOST_LEVELS).contains(&u32_at(28)?);
        if !fits || !self.is_whole(&header, 216) {
            return Err(Doubt::Odd("an allocation group's header is damaged"));
        }
        let mut block = u32_at(16)?;
        for level in (1..u32_at(28)?).rev() {
            let node = self.node(part, first_block, group_blocks, block, level)?;
            // Behind as many keys as there is room for.
            let size = usize::try_from(self.block_bytes).unwrap_or_default() - self.header_bytes();
            block = have(u32_be(&node, self.header_bytes() + size / 12 * 8))?;
        }
        let left = u32_at(52)?.into();
        Ok(Leaf { first_block, group_blocks, block, end: 0, left })
    }

    fn header_bytes(&self) -> usize {
        if self.is_version_5 { 56 } else { 16 }
    }

    fn is_whole(&self, structure: &[u8], sum_at: usize) -> bool {
        let sum = || table_sum::of_table(structure, sum_at);
        !self.is_version_5 || u32_le(structure, sum_at).is_some_and(|wanted| wanted == sum())
    }

    /// A node of a group's tree.
    fn node(
        &self,
        part: &Part<'_>,
        first_block: u64,
        group_blocks: u64,
        block: u32,
        level: u32,
    ) -> Result<Vec<u8>, Doubt> {
        let damaged = Doubt::Odd("a tree of free extents is damaged");
        if u64::from(block) >= group_blocks {
            return Err(damaged);
        }
        let at = (first_block + u64::from(block)) * self.block_bytes;
        let node = read(part, at, self.block_bytes)?;
        let magic: &[u8] = if self.is_version_5 { b"AB3B" } else { b"ABTB" };
        let is_one = has(&node, 0, magic)
            && u16_be(&node, 4).map(u32::from) == Some(level)
            && self.is_whole(&node, 52);
        is_one.then_some(node).ok_or(damaged)
    }

    /// The extents of a leaf.
    fn extents(
        &self,
        part: &Part<'_>,
        leaf: &mut Leaf,
        found: &mut Vec<Range<u64>>,
    ) -> Result<u32, Doubt> {
        let node = self.node(part, leaf.first_block, leaf.group_blocks, leaf.block, 0)?;
        let records = usize::from(have(u16_be(&node, 6))?);
        let body = node.get(self.header_bytes()..).unwrap_or_default();
        for record in 0..records {
            let start = u64::from(have(u32_be(body, record * 8))?);
            let count = u64::from(have(u32_be(body, record * 8 + 4))?);
            let end = start + count;
            let left = leaf.left.checked_sub(count);
            let (true, Some(left)) =
                (start >= leaf.end && count > 0 && end <= leaf.group_blocks, left)
            else {
                return Err(Doubt::Odd("its free extents contradict each other"));
            };
            (leaf.end, leaf.left) = (end, left);
            let byte = |block: u64| (leaf.first_block + block) * self.block_bytes;
            found.push(byte(start)..byte(end));
        }
        let next = have(u32_be(&node, 12))?;
        if records == 0 && next != NONE {
            return Err(Doubt::Odd("a tree of free extents is damaged"));
        }
        if next == NONE && leaf.left != 0 {
            return Err(Doubt::Odd("an allocation group has not as many free blocks as it says"));
        }
        Ok(next)
    }
}

impl FreeMap for Xfs {
    fn next(&mut self, part: &Part<'_>, found: &mut Vec<Range<u64>>) -> Result<bool, Doubt> {
        let mut leaf = match self.leaf.take() {
            Some(leaf) => leaf,
            None if self.group < self.groups => {
                self.group += 1;
                self.begin(part, self.group - 1)?
            }
            None => return Ok(false),
        };
        leaf.block = self.extents(part, &mut leaf, found)?;
        self.leaf = Some(leaf).filter(|leaf| leaf.block != NONE);
        Ok(true)
    }
}
