//! Marks of what a file system may have been overwritten by.
//!
//! Who makes a RAID, a cache or another file system in a partition doesn't always wipe what was there, so an old file system that looks whole
//! may lie under one in use, which keeps its data elsewhere: the old one's map would call that data free.

use super::map::{Doubt, Part};
use crate::{ReadAt, fields::has, inspect::filesystem::Area};

/// What there is, where in the first bytes it has its mark, and the mark.
const MARKS: [(&str, usize, &[u8]); 14] = [
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
    ("xfs", 0, b"XFSB"),
    ("ext", 1080, &[0x53, 0xef]),
    ("swap", 4086, b"SWAPSPACE2"),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("lvm", 0, b"LABELONE"),
    ("lvm", 512, b"LABELONE"),
    ("lvm", 1024, b"LABELONE"),
    ("lvm", 1536, b"LABELONE"),
    // Linux, md_p.h: versions 1.1 and 1.2; those at the end of a partition leave its beginning to the file system.
    ("raid", 0, &0xa92b_4efc_u32.to_le_bytes()),
    ("raid", 4096, &0xa92b_4efc_u32.to_le_bytes()),
    ("bcache", 4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
];
const HEAD_BYTES: u64 = 68 * 1024;

/// That nothing else than a file system of this kind has left its mark.
pub(super) fn check(part: &Part<'_>, kind: &str) -> Result<(), Doubt> {
    let head = part.bytes(0, HEAD_BYTES).ok_or(Doubt::Odd("its beginning can't be read"))?;
    // ext2, ext3 and ext4 have one.
    let is_other = |what: &str| !kind.starts_with(what);
    if MARKS.iter().any(|(what, at, mark)| is_other(what) && has(&head, *at, mark)) {
        return Err(Doubt::Odd("there are marks of something else in the same place"));
    }
    Ok(())
}

/// Whether the whole disk belongs to a RAID or a cache: then what its partition table says is from before.
pub(super) fn is_member(disk: &dyn ReadAt) -> bool {
    let part: Part<'_> = Area::new(disk, 0, u64::MAX);
    let head = part.bytes(0, HEAD_BYTES).unwrap_or_default();
    let mut marks = MARKS.iter().filter(|(what, ..)| matches!(*what, "raid" | "bcache"));
    marks.any(|(_, at, mark)| has(&head, *at, mark))
}
