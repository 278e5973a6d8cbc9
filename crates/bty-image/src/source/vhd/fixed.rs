//! A VHD of fixed size: its footer is taken off the end of what else is a raw disk.
//!
//! That shows only at the end, also of a stream and of what is unpacked, so every raw disk is read through [`Footless`].

use std::io::{self, Read};

use super::footer::{COOKIE, FOOTER_BYTES, Footer, Kind};
use crate::{ReadAt, source::mapped::damaged};

const FOOTER: usize = 512;
/// What is read at once for callers who want little.
const LITTLE: usize = 4096;

/// The size of the disk in a file that ends like a VHD of fixed size.
pub(in crate::source) fn disk_bytes(file: &impl ReadAt) -> Option<u64> {
    let disk_bytes = file.length().ok()?.checked_sub(FOOTER_BYTES)?;
    let mut footer = [0; FOOTER];
    file.read_exact_at(&mut footer, disk_bytes).ok()?;
    is_footer_of(&footer, disk_bytes).then_some(disk_bytes)
}

fn is_footer_of(bytes: &[u8], disk_bytes: u64) -> bool {
    Footer::parse(bytes)
        .is_some_and(|footer| footer.kind == Kind::Fixed && footer.disk_bytes == disk_bytes)
}

/// A disk without the footer that may be behind it. It is always the footer's length behind its reader.
pub(in crate::source) struct Footless<R> {
    reader: R,
    /// What was read and not yet given away; all but the last 512 bytes of it are no footer.
    held: Vec<u8>,
    given_bytes: u64,
    has_ended: bool,
    had_footer: bool,
}

impl<R> Footless<R> {
    pub(in crate::source) fn new(reader: R) -> Self {
        Self { reader, held: Vec::new(), given_bytes: 0, has_ended: false, had_footer: false }
    }

    /// Whether it was a VHD, after its end.
    pub(in crate::source) fn had_footer(&self) -> bool {
        self.had_footer
    }

    /// Gives away what is held but for the last so many bytes.
    fn give(&mut self, buffer: &mut [u8], keep: usize) -> usize {
        let count = self.held.len().saturating_sub(keep).min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(self.held.drain(..count)) {
            *to = from;
        }
        count
    }

    fn end(&mut self) -> io::Result<()> {
        self.has_ended = true;
        if !self.held.starts_with(COOKIE) {
            return Ok(());
        }
        if !is_footer_of(&self.held, self.given_bytes) {
            return Err(damaged(
                "it ends like a VHD of fixed size, and the footer is not this disk's: the source is cut off or damaged",
            ));
        }
        self.had_footer = true;
        self.held.clear();
        Ok(())
    }
}

impl<R: Read> Footless<R> {
    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let held = self.held.len();
        if self.has_ended || held > FOOTER {
            return Ok(self.give(buffer, if self.has_ended { 0 } else { FOOTER }));
        }
        let Some((before, room)) =
            buffer.split_at_mut_checked(held).filter(|(_, room)| room.len() > FOOTER)
        else {
            let mut little = [0; LITTLE];
            let read = self.reader.read(&mut little)?;
            self.held.extend(little.get(..read).unwrap_or_default());
            return if read == 0 { self.end().map(|()| 0) } else { Ok(0) };
        };
        let read = self.reader.read(room)?;
        if read == 0 {
            return self.end().map(|()| 0);
        }
        before.copy_from_slice(&self.held);
        let filled = held + read;
        let given = filled.saturating_sub(FOOTER);
        self.held.clear();
        self.held.extend(buffer.get(given..filled).unwrap_or_default());
        Ok(given)
    }
}

impl<R: Read> Read for Footless<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let given = self.step(buffer)?;
            self.given_bytes += u64::try_from(given).unwrap_or_default();
            if given > 0 || buffer.is_empty() || self.has_ended && self.held.is_empty() {
                return Ok(given);
            }
        }
    }
}
