//! Linux's own: ext2 to ext4, XFS, btrfs, swap.

use super::FileSystem;
use crate::fields::{has, text, u16_le, u32_be, u32_le, u64_be, u64_le, uuid};

/// ext2, ext3 and ext4 (kernel documentation, filesystems/ext4/super.rst).
pub(super) fn ext(head: &[u8]) -> Option<FileSystem> {
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    const WITH_64_BITS: u32 = 0x80;
    // What ext3 knows: file types, recovery, meta block groups; sparse superblocks, large files, B-tree folders.
    const INCOMPATIBLE_OF_EXT3: u32 = 0x2 | 0x4 | 0x10;
    const READ_ONLY_OF_EXT3: u32 = 0x1 | 0x2 | 0x4;
    let block = head.get(1024..2048)?;
    if u16_le(block, 0x38)? != 0xef53 {
        return None;
    }
    let (compatible, incompatible, read_only) =
        (u32_le(block, 0x5c)?, u32_le(block, 0x60)?, u32_le(block, 0x64)?);
    let block_log2 = u32_le(block, 0x18)?;
    if block_log2 > 6 || incompatible & JOURNAL_DEVICE != 0 {
        return None;
    }
    let is_newer = incompatible & !INCOMPATIBLE_OF_EXT3 != 0 || read_only & !READ_ONLY_OF_EXT3 != 0;
    let kind = match (is_newer, compatible & HAS_JOURNAL != 0) {
        (true, _) => "ext4",
        (false, true) => "ext3",
        (false, false) => "ext2",
    };
    let count = |low: usize, high: usize| {
        let high = if incompatible & WITH_64_BITS == 0 { 0 } else { u32_le(block, high)? };
        Some(u64::from(high) << 32 | u64::from(u32_le(block, low)?))
    };
    let (blocks, free) = (count(0x4, 0x150)?, count(0xc, 0x158)?);
    let bytes = |blocks: u64| blocks.checked_mul(1024 << block_log2);
    Some(FileSystem {
        kind,
        label: text(block, 0x78, 16),
        uuid: uuid(block, 0x68),
        size_bytes: bytes(blocks)?,
        used_bytes: blocks.checked_sub(free).and_then(bytes),
    })
}

/// XFS (XFS Algorithms & Data Structures, section 13.1). The counters are right where it was unmounted.
pub(super) fn xfs(head: &[u8]) -> Option<FileSystem> {
    if !has(head, 0, b"XFSB") {
        return None;
    }
    let block_bytes = u64::from(u32_be(head, 4)?);
    let (blocks, free) = (u64_be(head, 8)?, u64_be(head, 144)?);
    Some(FileSystem {
        kind: "xfs",
        label: text(head, 108, 12),
        uuid: uuid(head, 32),
        size_bytes: blocks.checked_mul(block_bytes)?,
        used_bytes: blocks.checked_sub(free).and_then(|used| used.checked_mul(block_bytes)),
    })
}

/// btrfs (btrfs documentation, On-disk Format).
pub(super) fn btrfs(head: &[u8]) -> Option<FileSystem> {
    let block = head.get(0x1_0000..0x1_1000)?;
    if !has(block, 0x40, b"_BHRfS_M") {
        return None;
    }
    let (size_bytes, used_bytes) = (u64_le(block, 0x70)?, u64_le(block, 0x78)?);
    Some(FileSystem {
        kind: "btrfs",
        label: text(block, 0x12b, 256),
        uuid: uuid(block, 0x20),
        size_bytes,
        used_bytes: (used_bytes <= size_bytes).then_some(used_bytes),
    })
}

/// Swap space of version 1 (mkswap(8)), of any page size.
pub(super) fn swap(head: &[u8]) -> Option<FileSystem> {
    const MAGIC: &[u8] = b"SWAPSPACE2";
    let page = [4096_usize, 8192, 16384, 65536]
        .into_iter()
        .find(|page| has(head, page - MAGIC.len(), MAGIC))?;
    let last_page = (u32_le(head, 1024)? == 1).then(|| u32_le(head, 1028)).flatten()?;
    let size_bytes = (u64::from(last_page) + 1) * u64::try_from(page).ok()?;
    let (label, uuid) = (text(head, 1052, 16), uuid(head, 1036));
    Some(FileSystem { kind: "swap", label, uuid, size_bytes, used_bytes: Some(0) })
}
