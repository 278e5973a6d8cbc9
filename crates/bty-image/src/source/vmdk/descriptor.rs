//! The text in a VMDK that says whether this file is all of it.

use std::{fs::File, sync::Arc};

use super::header::{Header, SECTOR_BYTES};
use crate::source::mapped::{MappedError, read_at_most, to_usize};

/// More than any program writes.
const MAX_BYTES: u64 = 64 * 1024;
const WHOLE: [&str; 2] = ["monolithicSparse", "streamOptimized"];
const NO_PARENT: &str = "ffffffff";

/// Refuses a VMDK that needs other files.
pub(super) fn check(file: &Arc<File>, header: &Header) -> Result<(), MappedError> {
    let at = header.descriptor_sector.saturating_mul(SECTOR_BYTES);
    let size = header.descriptor_sectors.saturating_mul(SECTOR_BYTES).min(MAX_BYTES);
    let text = read_at_most(file, at, size)?;
    if text.len() < to_usize(size) {
        return Err(MappedError::Short);
    }
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if header.descriptor_sector == 0 || text.is_empty() {
        return Err(MappedError::OtherFile("this is one of the several files of a VMDK"));
    }
    check_text(&String::from_utf8_lossy(text))
}

fn check_text(text: &str) -> Result<(), MappedError> {
    let value = |key: &str| {
        text.lines().find_map(|line| {
            let (found, value) = line.split_once('=')?;
            let value = value.trim().trim_matches('"');
            found.trim().eq_ignore_ascii_case(key).then_some(value)
        })
    };
    let kind = value("createType").ok_or(MappedError::Damaged("it doesn't say what it is"))?;
    if !WHOLE.contains(&kind) {
        return Err(MappedError::OtherFile("the disk of a VMDK of several files"));
    }
    if !value("parentCID").is_none_or(|parent| parent.eq_ignore_ascii_case(NO_PARENT)) {
        return Err(MappedError::OtherFile("a parent"));
    }
    let is_extent = |line: &&str| {
        line.split_whitespace()
            .next()
            .is_some_and(|word| matches!(word, "RW" | "RDONLY" | "NOACCESS"))
    };
    match text.lines().filter(is_extent).count() {
        1 => Ok(()),
        _ => Err(MappedError::OtherFile("the disk of a VMDK of several files")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Disk DescriptorFile\nversion=1\nCID=123\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\nRW 10243 SPARSE \"disk.vmdk\"\n";

    #[test]
    fn a_vmdk_is_whole_or_refused() {
        assert!(check_text(GOOD).is_ok());
        assert!(check_text(&GOOD.replace('\n', "\r\n")).is_ok());
        for (from, to) in [
            ("parentCID=ffffffff", "parentCID = 12345678"),
            ("monolithicSparse", "twoGbMaxExtentSparse"),
            ("RW 10243", "RW 1 SPARSE \"/etc/shadow\"\nRW 10243"),
            ("RW 10243", "# RW 10243"),
            ("createType", "kind"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            assert!(check_text(&text).is_err(), "{text}");
        }
    }
}
