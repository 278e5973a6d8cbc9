//! Which parts of a sparse file are in the archive: GNU's own form, and the newest in headers of POSIX, which bsdtar writes too.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use super::header::{BLOCK_BYTES, decimal, number};
use crate::source::archive::Kind;

/// Parts that a file may have: one for each 128 KiB of 128 GiB.
const MAX_SEGMENTS: usize = 1 << 20;
/// Behind GNU's header, as long as there are more parts.
const GNU_SEGMENTS: usize = 21;
/// A number of the map, in decimal digits.
const MOST_DIGITS: usize = 20;

/// A part of a file that is in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Segment {
    pub(super) fn advance(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or_default().min(self.bytes);
        self.offset += bytes;
        self.bytes -= bytes;
    }
}

/// Refuses parts that overlap, lie outside of the file, or are not all that is stored.
pub(super) fn check(segments: &VecDeque<Segment>, bytes: u64, stored: u64) -> io::Result<()> {
    let damaged = || Kind::Tar.damaged("the map of a sparse file contradicts itself");
    let (mut end, mut sum) = (0, 0_u64);
    for segment in segments {
        if segment.offset < end {
            return Err(damaged());
        }
        end = segment.offset.checked_add(segment.bytes).ok_or_else(damaged)?;
        sum += segment.bytes;
    }
    if end > bytes || sum != stored {
        return Err(damaged());
    }
    Ok(())
}

/// GNU's form: the first parts are in the header, more in blocks behind it. Gives the size with all holes.
pub(super) fn of_gnu(
    reader: &mut impl Read,
    header: &[u8; 512],
) -> io::Result<(VecDeque<Segment>, u64)> {
    let damaged = || Kind::Tar.damaged("the map of a sparse file is none");
    let mut segments = VecDeque::new();
    add(&mut segments, header, 386, 4)?;
    let mut has_more = header.get(482).copied();
    while has_more.is_some_and(|flag| flag != 0) {
        let mut block = [0; 512];
        reader.read_exact(&mut block)?;
        add(&mut segments, &block, 0, GNU_SEGMENTS)?;
        has_more = block.get(504).copied();
    }
    let bytes = number(header, 483, 12).ok_or_else(damaged)?;
    Ok((segments, bytes))
}

fn add(segments: &mut VecDeque<Segment>, block: &[u8], at: usize, count: usize) -> io::Result<()> {
    let damaged = || Kind::Tar.damaged("the map of a sparse file is none");
    for at in (at..).step_by(24).take(count) {
        // What is not used is NULs.
        if block.get(at) == Some(&0) {
            break;
        }
        let offset = number(block, at, 12).ok_or_else(damaged)?;
        let bytes = number(block, at + 12, 12).ok_or_else(damaged)?;
        push(segments, Segment { offset, bytes })?;
    }
    Ok(())
}

/// The form of POSIX headers: lines before the data, padded to whole blocks. Gives the bytes that they take.
pub(super) fn of_pax(reader: &mut impl Read) -> io::Result<(VecDeque<Segment>, u64)> {
    let mut lines = Lines { reader, block: [0; 512], at: 512, read_bytes: 0 };
    let count = lines.next()?;
    let mut segments = VecDeque::new();
    for _ in 0..count {
        let (offset, bytes) = (lines.next()?, lines.next()?);
        push(&mut segments, Segment { offset, bytes })?;
    }
    Ok((segments, lines.read_bytes))
}

/// Keeps a part. Those of nothing only mark a file's end.
fn push(segments: &mut VecDeque<Segment>, segment: Segment) -> io::Result<()> {
    if segments.len() == MAX_SEGMENTS {
        return Err(Kind::Tar.refused("has a file of more parts than are read; pack it without -S"));
    }
    if segment.bytes > 0 {
        segments.push_back(segment);
    }
    Ok(())
}

struct Lines<'a, R> {
    reader: &'a mut R,
    block: [u8; 512],
    at: usize,
    read_bytes: u64,
}

impl<R: Read> Lines<'_, R> {
    fn next(&mut self) -> io::Result<u64> {
        let damaged = || Kind::Tar.damaged("the map of a sparse file is none");
        let mut digits = Vec::new();
        loop {
            if self.at == self.block.len() {
                self.reader.read_exact(&mut self.block)?;
                self.read_bytes += BLOCK_BYTES;
                self.at = 0;
            }
            let byte = self.block.get(self.at).copied().unwrap_or(b'\n');
            self.at += 1;
            match byte {
                b'\n' => return decimal(&digits).ok_or_else(damaged),
                _ if digits.len() == MOST_DIGITS => return Err(damaged()),
                digit => digits.push(digit),
            }
        }
    }
}
