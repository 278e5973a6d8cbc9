//! What holds a file system that can't be seen, and read-only ones.

use super::FileSystem;
use crate::fields::{array, has, text, u16_le, u32_le, u64_le};

/// LUKS 1 and 2 (LUKS2 On-Disk Format Specification, section 2.1).
pub(super) fn luks(head: &[u8]) -> Option<FileSystem> {
    if !has(head, 0, b"LUKS\xba\xbe") {
        return None;
    }
    // Version 1 has other things where version 2 has a label.
    let is_version_2 = array::<2>(head, 6) == Some([0, 2]);
    let label = if is_version_2 { text(head, 24, 48) } else { String::new() };
    Some(FileSystem { kind: "luks", label, uuid: text(head, 168, 40), ..FileSystem::default() })
}

/// A physical volume of LVM (lvm2, `lib/format_text/layout.h` and `lib/label/label.h`): its label is in one of the first four sectors.
pub(super) fn lvm2(head: &[u8]) -> Option<FileSystem> {
    let at = (0..4).map(|sector| sector * 512).find(|&at| has(head, at, b"LABELONE"))?;
    let header = usize::try_from(u32_le(head, at + 20)?).ok()?;
    if !has(head, at + 24, b"LVM2 001") || header > 512 {
        return None;
    }
    // 32 letters and digits, which lvm shows in groups.
    let digits: Vec<char> = text(head, at + header, 32).chars().collect();
    let mut rest = digits.as_slice();
    let mut groups: Vec<String> = Vec::new();
    for length in [6, 4, 4, 4, 4, 4, 6] {
        let (group, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        groups.push(group.iter().collect());
        rest = behind;
    }
    let size_bytes = u64_le(head, at + header + 32)?;
    let uuid = groups.join("-");
    Some(FileSystem { kind: "lvm2", uuid, size_bytes, ..FileSystem::default() })
}

/// `SquashFS` 4 (kernel documentation, filesystems/squashfs.rst).
pub(super) fn squashfs(head: &[u8]) -> Option<FileSystem> {
    if !has(head, 0, b"hsqs") || u16_le(head, 28)? != 4 {
        return None;
    }
    let size_bytes = u64_le(head, 40)?;
    let used_bytes = Some(size_bytes);
    Some(FileSystem { kind: "squashfs", size_bytes, used_bytes, ..FileSystem::default() })
}

/// ISO 9660 (ECMA-119, section 8.4).
pub(super) fn iso9660(head: &[u8]) -> Option<FileSystem> {
    let volume = head.get(0x8000..0x8800)?;
    if !has(volume, 1, b"CD001") {
        return None;
    }
    let size_bytes = u64::from(u32_le(volume, 80)?) * u64::from(u16_le(volume, 128)?);
    let (label, used_bytes) = (text(volume, 40, 32), Some(size_bytes));
    Some(FileSystem { kind: "iso9660", label, size_bytes, used_bytes, ..FileSystem::default() })
}

/// A volume that Windows has encrypted.
pub(super) fn bitlocker(head: &[u8]) -> Option<FileSystem> {
    has(head, 3, b"-FVE-FS-").then(|| FileSystem { kind: "bitlocker", ..FileSystem::default() })
}
