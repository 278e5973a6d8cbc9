//! ext2, ext3 and ext4: a map of bits for each group of blocks (kernel documentation, filesystems/ext4).
//!
//! A group is believed where its map has as many free blocks as its descriptor says, and the checksum that it should have.

use std::ops::Range;

use super::map::{Doubt, FreeMap, Part, have, read, set, zero_runs};
use crate::{
    ReadAt as _,
    fields::{array, u16_le, u32_le},
    table_sum,
};

/// Features that change nothing about the maps; with any other the file system is not understood.
const INCOMPATIBLE: u32 = 0x2
    | META_BG
    | 0x40
    | WITH_64_BITS
    | 0x100
    | 0x200
    | 0x400
    | 0x1000
    | SEED
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000;
const READ_ONLY: u32 = SPARSE_SUPER
    | 0x2
    | 0x4
    | 0x8
    | GROUP_CHECKSUMS
    | 0x20
    | 0x40
    | 0x100
    | BIGALLOC
    | METADATA_CHECKSUMS
    | 0x1000
    | 0x2000
    | 0x8000
    | 0x1_0000;
const NEEDS_RECOVERY: u32 = 0x4;
const META_BG: u32 = 0x10;
const WITH_64_BITS: u32 = 0x80;
const SEED: u32 = 0x2000;
const SPARSE_SUPER: u32 = 0x1;
const GROUP_CHECKSUMS: u32 = 0x10;
const BIGALLOC: u32 = 0x200;
const METADATA_CHECKSUMS: u32 = 0x400;
const SPARSE_SUPER_2: u32 = 0x200;
/// `s_state`: unmounted, and without errors.
const CLEAN: u16 = 0x1;
const ERRORS: u16 = 0x2;
/// `bg_flags`: the group's map was never written.
const BLOCK_UNINIT: u16 = 0x2;

/// Where things are.
pub(super) struct Ext {
    block_bytes: u64,
    blocks: u64,
    first_data_block: u64,
    /// Blocks that one bit stands for.
    cluster_blocks: u64,
    group_blocks: u64,
    groups: u64,
    descriptor_bytes: u64,
    inode_table_blocks: u64,
    reserved_descriptor_blocks: u64,
    first_meta_group: u64,
    incompatible: u32,
    read_only: u32,
    /// The two groups with copies, where there are only those.
    copies: Option<[u64; 2]>,
    /// What checksums of maps begin with.
    seed: Option<u32>,
    /// The group that comes next.
    group: u64,
    /// The descriptors that were read last.
    descriptors: Option<(u64, Vec<u8>)>,
}

impl Ext {
    pub(super) fn open(part: &Part<'_>) -> Result<Self, Doubt> {
        let block = read(part, 1024, 1024)?;
        let u16_at = |at| have(u16_le(&block, at));
        let u32_at = |at| have(u32_le(&block, at));
        let (compatible, incompatible, read_only) = (u32_at(0x5c)?, u32_at(0x60)?, u32_at(0x64)?);
        if incompatible & NEEDS_RECOVERY != 0 {
            return Err(Doubt::Odd(
                "its journal has to be played back first: it was not unmounted",
            ));
        }
        if u16_at(0x3a)? & (CLEAN | ERRORS) != CLEAN {
            return Err(Doubt::Odd("it was not unmounted, or has errors: fsck mends it"));
        }
        if incompatible & !INCOMPATIBLE != 0 || read_only & !READ_ONLY != 0 {
            return Err(Doubt::Odd("it has features that bty does not know"));
        }
        let is_wide = incompatible & WITH_64_BITS != 0;
        let block_log2 = u32_at(0x18)?;
        let cluster_log2 = if read_only & BIGALLOC == 0 { block_log2 } else { u32_at(0x1c)? };
        if block_log2 > 6 || cluster_log2 < block_log2 || cluster_log2 > 20 {
            return Err(Doubt::Odd("its blocks have no size that blocks have"));
        }
        let block_bytes = 1024_u64 << block_log2;
        let cluster_blocks = 1_u64 << (cluster_log2 - block_log2);
        let high = if is_wide { u32_at(0x150)? } else { 0 };
        let blocks = u64::from(high) << 32 | u64::from(u32_at(0x4)?);
        let first_data_block = u64::from(u32_at(0x14)?);
        let group_blocks = u64::from(u32_at(0x20)?);
        let inode_bytes = u64::from(if u32_at(0x4c)? == 0 { 128 } else { u16_at(0x58)? });
        let descriptor_bytes = if is_wide { u64::from(u16_at(0xfe)?) } else { 32 };
        let fits = first_data_block <= 1
            && blocks > first_data_block
            && group_blocks > 0
            && group_blocks % cluster_blocks == 0
            && group_blocks / cluster_blocks <= 8 * block_bytes
            && (group_blocks / cluster_blocks).is_multiple_of(8)
            && (32..=1024).contains(&descriptor_bytes)
            && descriptor_bytes.is_power_of_two();
        let is_within = blocks
            .checked_mul(block_bytes)
            .is_some_and(|bytes| bytes <= part.length().unwrap_or(0));
        if !fits || !is_within {
            return Err(Doubt::Odd(
                "its superblock contradicts itself or the size of its partition",
            ));
        }
        let inodes = u64::from(u32_at(0x28)?) * inode_bytes;
        let seed = (read_only & METADATA_CHECKSUMS != 0).then(|| match incompatible & SEED {
            0 => array::<16>(&block, 0x68).map(|uuid| table_sum::go_on(u32::MAX, &uuid)),
            _ => u32_le(&block, 0x270),
        });
        let copies = (compatible & SPARSE_SUPER_2 != 0)
            .then(|| Some([u32_le(&block, 0x24c)?.into(), u32_le(&block, 0x250)?.into()]));
        Ok(Self {
            block_bytes,
            blocks,
            first_data_block,
            cluster_blocks,
            group_blocks,
            groups: (blocks - first_data_block).div_ceil(group_blocks),
            descriptor_bytes,
            inode_table_blocks: inodes.div_ceil(block_bytes),
            reserved_descriptor_blocks: u16_at(0xce)?.into(),
            first_meta_group: u32_at(0x104)?.into(),
            incompatible,
            read_only,
            copies: copies.map(have).transpose()?,
            seed: seed.map(have).transpose()?,
            group: 0,
            descriptors: None,
        })
    }

    fn has_meta_groups(&self) -> bool {
        self.incompatible & META_BG != 0
    }

    fn descriptors_in_block(&self) -> u64 {
        self.block_bytes / self.descriptor_bytes
    }

    fn first_block(&self, group: u64) -> u64 {
        self.first_data_block + group * self.group_blocks
    }

    /// Whether a group begins with a superblock.
    fn has_superblock(&self, group: u64) -> bool {
        if let Some(copies) = self.copies {
            return group == 0 || copies.contains(&group);
        }
        let is_power = |base: u64| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        group <= 1 || self.read_only & SPARSE_SUPER == 0 || [3, 5, 7].into_iter().any(is_power)
    }

    /// The descriptor of a group.
    fn descriptor(&mut self, part: &Part<'_>, group: u64) -> Result<Vec<u8>, Doubt> {
        let (block, within) =
            (group / self.descriptors_in_block(), group % self.descriptors_in_block());
        if self.descriptors.as_ref().is_none_or(|(held, _)| *held != block) {
            let at = if self.has_meta_groups() && block >= self.first_meta_group {
                let first = block * self.descriptors_in_block();
                // Blocks of 1 KiB that begin at block 0 (bigalloc): the superblock is block 1.
                let shift =
                    u64::from(first == 0 && self.block_bytes == 1024 && self.first_data_block == 0);
                self.first_block(first) + u64::from(self.has_superblock(first)) + shift
            } else {
                let superblock = 1024 / self.block_bytes;
                superblock + 1 + block
            };
            let bytes = read(part, have(at.checked_mul(self.block_bytes))?, self.block_bytes)?;
            self.descriptors = Some((block, bytes));
        }
        let (_, table) = have(self.descriptors.as_ref())?;
        let at = usize::try_from(within * self.descriptor_bytes).unwrap_or(usize::MAX);
        let bytes = usize::try_from(self.descriptor_bytes).unwrap_or(usize::MAX);
        have(table.get(at..).and_then(|rest| rest.get(..bytes))).map(<[u8]>::to_vec)
    }

    /// Blocks at a group's beginning for the superblock and descriptors.
    fn base_blocks(&self, group: u64) -> u64 {
        let in_block = self.descriptors_in_block();
        let superblock = u64::from(self.has_superblock(group));
        let is_meta = self.has_meta_groups() && group >= self.first_meta_group * in_block;
        if is_meta {
            let within = group % in_block;
            return superblock + u64::from(within <= 1 || within == in_block - 1);
        }
        let tables = if self.has_meta_groups() {
            self.first_meta_group
        } else {
            self.groups.div_ceil(in_block)
        };
        superblock * (1 + tables + self.reserved_descriptor_blocks)
    }

    /// The map of one group, and how many clusters it is about.
    fn bitmap(&mut self, part: &Part<'_>, group: u64) -> Result<(Vec<u8>, u64), Doubt> {
        let descriptor = self.descriptor(part, group)?;
        let wide = self.incompatible & WITH_64_BITS != 0 && self.descriptor_bytes >= 64;
        let pair = |low: usize, high: usize| {
            let upper = if wide { u32_le(&descriptor, high)? } else { 0 };
            Some(u64::from(upper) << 32 | u64::from(u32_le(&descriptor, low)?))
        };
        let places = [
            (have(pair(0x0, 0x20))?, 1),
            (have(pair(0x4, 0x24))?, 1),
            (have(pair(0x8, 0x28))?, self.inode_table_blocks),
        ];
        let map_at = have(pair(0x0, 0x20))?;
        let upper = if wide { have(u16_le(&descriptor, 0x2c))? } else { 0 };
        let stated = u64::from(upper) << 16 | u64::from(have(u16_le(&descriptor, 0xc))?);
        let first = self.first_block(group);
        let blocks = self.group_blocks.min(self.blocks - first);
        let clusters = blocks.div_ceil(self.cluster_blocks);
        let uses_flags = self.read_only & (GROUP_CHECKSUMS | METADATA_CHECKSUMS) != 0;
        let is_unwritten = uses_flags && have(u16_le(&descriptor, 0x12))? & BLOCK_UNINIT != 0;
        let map_bytes = self.group_blocks / self.cluster_blocks / 8;
        // What of the file system itself is in the group.
        let own: Vec<Range<u64>> = places
            .into_iter()
            .filter_map(|(at, length)| {
                let start = at.checked_sub(first).filter(|&start| start < blocks)?;
                let end = start.saturating_add(length).min(blocks);
                Some(start / self.cluster_blocks..end.div_ceil(self.cluster_blocks))
            })
            .collect();
        let bitmap = if is_unwritten {
            let mut bitmap = vec![0; usize::try_from(map_bytes).unwrap_or_default()];
            set(&mut bitmap, 0..self.base_blocks(group).div_ceil(self.cluster_blocks));
            for place in own {
                set(&mut bitmap, place);
            }
            bitmap
        } else {
            let bitmap = read(part, have(map_at.checked_mul(self.block_bytes))?, map_bytes)?;
            self.check_sum(&bitmap, &descriptor)?;
            let is_used = |bit: u64| {
                let byte = usize::try_from(bit / 8).ok().and_then(|at| bitmap.get(at));
                byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
            };
            if !own.into_iter().flatten().all(is_used) {
                return Err(Doubt::Odd("it calls blocks of its own free"));
            }
            bitmap
        };
        let free: u64 =
            zero_runs(&bitmap, clusters).into_iter().map(|run| run.end - run.start).sum();
        if free != stated {
            return Err(Doubt::Odd("a map has not as many free blocks as the file system says"));
        }
        Ok((bitmap, clusters))
    }

    fn check_sum(&self, bitmap: &[u8], descriptor: &[u8]) -> Result<(), Doubt> {
        let Some(seed) = self.seed else { return Ok(()) };
        let sum = table_sum::go_on(seed, bitmap);
        let low = u32::from(have(u16_le(descriptor, 0x18))?);
        // Descriptors of 32 bytes have room for its lower half only.
        let (wanted, mask) = match u16_le(descriptor, 0x38) {
            Some(high) => (u32::from(high) << 16 | low, u32::MAX),
            None => (low, 0xffff),
        };
        if sum & mask != wanted {
            return Err(Doubt::Odd("a map has another checksum than it should have"));
        }
        Ok(())
    }
}

impl FreeMap for Ext {
    fn next(&mut self, part: &Part<'_>, found: &mut Vec<Range<u64>>) -> Result<bool, Doubt> {
        if self.group >= self.groups {
            return Ok(false);
        }
        let first = self.first_block(self.group);
        let (bitmap, clusters) = self.bitmap(part, self.group)?;
        self.group += 1;
        for run in zero_runs(&bitmap, clusters) {
            let start = first + run.start * self.cluster_blocks;
            let end = (first + run.end * self.cluster_blocks).min(self.blocks);
            let bytes = |block: u64| have(block.checked_mul(self.block_bytes));
            found.push(bytes(start)?..bytes(end)?);
        }
        Ok(true)
    }
}
