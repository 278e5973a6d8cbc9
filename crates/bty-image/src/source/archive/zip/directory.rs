//! The directory at the end of a zip archive (APPNOTE.TXT, sections 4.3.12 to 4.3.16), where the archive is a file: what else is in it
//! shows there before the first of it is unpacked. It is only looked at to refuse early. Where it can't be made out, the archive is
//! read as a stream, which proves itself.

use std::io;

use super::{DIRECTORY, Fields, Kind, shown};
use crate::ReadAt;

const END: &[u8; 4] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const MAX_COMMENT_BYTES: u64 = 65_535;
/// Of each entry, without its name and what follows that.
const ENTRY_BYTES: usize = 46;
/// How much of a directory is looked at.
const MOST_BYTES: u64 = 1 << 20;

/// Refuses an archive whose directory names several files.
pub(in crate::source) fn check(file: &impl ReadAt) -> io::Result<()> {
    let Some(directory) = directory(file) else { return Ok(()) };
    let mut names = Names(&directory).filter(|name| !name.ends_with(b"/"));
    match (names.next(), names.next()) {
        (Some(first), Some(second)) => Err(Kind::Zip.several(&shown(first), &shown(second))),
        _ => Ok(()),
    }
}

/// The directory, as far as it is looked at.
fn directory(file: &impl ReadAt) -> Option<Vec<u8>> {
    let length = file.length().ok()?;
    let tail_bytes = length.min(MAX_COMMENT_BYTES + u64::try_from(END_BYTES).ok()?);
    let mut tail = vec![0; usize::try_from(tail_bytes).ok()?];
    file.read_exact_at(&mut tail, length - tail_bytes).ok()?;
    // Whatever the comment behind it says: the last one that fits the file's end.
    let end = tail.windows(END_BYTES).enumerate().rev().find_map(|(at, end)| {
        let comment_bytes = Fields(end.get(20..)?).u16()?;
        let is_end =
            end.starts_with(END) && at + END_BYTES + usize::from(comment_bytes) == tail.len();
        is_end.then_some(end)
    })?;
    let mut fields = Fields(end.get(12..)?);
    let (bytes, offset) = (u64::from(fields.u32()?), u64::from(fields.u32()?));
    // Above 4 GiB the numbers are elsewhere; a directory that lies there begins before this end all the same.
    let offset = if offset == u64::from(u32::MAX) {
        large_offset(file, length - tail_bytes, &tail)?
    } else {
        offset
    };
    let bytes = bytes.min(MOST_BYTES).min(length.checked_sub(offset)?);
    let mut directory = vec![0; usize::try_from(bytes).ok()?];
    file.read_exact_at(&mut directory, offset).ok()?;
    Some(directory)
}

/// Where the directory is by the record of 64 bits, which the locator before the end points at.
fn large_offset(file: &impl ReadAt, tail_offset: u64, tail: &[u8]) -> Option<u64> {
    const LOCATOR: &[u8; 4] = b"PK\x06\x07";
    const RECORD: &[u8; 4] = b"PK\x06\x06";
    let at = tail.windows(4).rposition(|bytes| bytes == LOCATOR)?;
    let record = Fields(tail.get(at + 8..)?).u64()?;
    if record >= tail_offset + u64::try_from(at).ok()? {
        return None;
    }
    let mut content = [0; 56];
    file.read_exact_at(&mut content, record).ok()?;
    content.starts_with(RECORD).then(|| Fields(content.get(48..)?).u64())?
}

/// The names in a directory.
struct Names<'a>(&'a [u8]);

impl<'a> Iterator for Names<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (entry, rest) = self.0.split_at_checked(ENTRY_BYTES)?;
        if !entry.starts_with(DIRECTORY) {
            return None;
        }
        let mut sizes = Fields(entry.get(28..)?);
        let [name, extra, comment] = [sizes.u16()?, sizes.u16()?, sizes.u16()?].map(usize::from);
        let (name, rest) = rest.split_at_checked(name)?;
        self.0 = rest.get(extra + comment..).unwrap_or_default();
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, comment: &str) -> Vec<u8> {
        let mut bytes = DIRECTORY.to_vec();
        bytes.resize(28, 0);
        for text in [name, "", comment] {
            bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        }
        bytes.resize(ENTRY_BYTES, 0);
        bytes.extend(name.as_bytes());
        bytes.extend(comment.as_bytes());
        bytes
    }

    fn archive(names: &[&str], comment: &str) -> Vec<u8> {
        let mut bytes = vec![7; 100];
        let directory: Vec<u8> = names.iter().flat_map(|name| entry(name, "x")).collect();
        bytes.extend(&directory);
        bytes.extend(END);
        bytes.extend([0; 8]);
        bytes.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
        bytes.extend(100_u32.to_le_bytes());
        bytes.extend(u16::try_from(comment.len()).unwrap().to_le_bytes());
        bytes.extend(comment.as_bytes());
        bytes
    }

    #[test]
    fn a_second_file_is_seen_before_the_first_is_read() {
        for names in [&["disk.img"][..], &["a/", "a/disk.img", "b/"], &[]] {
            assert!(check(&archive(names, "a comment").as_slice()).is_ok(), "{names:?}");
        }
        let refused = check(&archive(&["disk.img", "a/", "README"], "").as_slice()).unwrap_err();
        let shown = refused.to_string();
        assert!(shown.contains("disk.img") && shown.contains("README"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_end_of_an_archive_is_looked_at(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            at in 0..300_u32,
            size: u32,
        ) {
            let _ = check(&bytes.as_slice());
            let mut bytes = bytes;
            bytes.extend(END);
            bytes.extend([0; 8]);
            bytes.extend(size.to_le_bytes());
            bytes.extend(at.to_le_bytes());
            bytes.extend([0; 2]);
            let _ = check(&bytes.as_slice());
        }
    }
}
