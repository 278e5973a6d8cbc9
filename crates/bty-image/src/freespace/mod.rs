//! Free space: what of a disk its file systems call free, by their own maps.
//!
//! [`survey`] goes through every map of a disk once and says what it thinks of each file system. One that was not unmounted, contradicts
//! itself or is not understood is taken whole: nothing of it is free. [`Survey::free`] goes through the maps of the others again, as a stream
//! of ranges in the order of the disk, so that no disk takes more memory than a piece of a map. What is outside of partitions, of a file
//! system's own size, or of any map, is never free.

mod btrfs;
mod exfat;
mod ext;
mod fat;
mod map;
mod marks;
mod ntfs;
mod parts;
mod swap;
mod xfs;

use std::{collections::VecDeque, io, ops::Range};

use crate::{
    ReadAt,
    inspect::{
        Inspection, Table,
        filesystem::{Area, file_system},
        sparing::Sparing,
    },
};
use map::{Doubt, FreeMap, Part};
use parts::{Place, places};

/// What is taken for free beside what file systems call so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The content of swap space; its header stays, which has its UUID.
    pub swap: bool,
}

/// What was found of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its partition's number; `None` where the whole disk is one file system.
    pub partition: Option<u32>,
    /// Its kind, such as `ext4`.
    pub kind: &'static str,
    /// How many bytes of it are free; or why it is taken whole.
    pub free_bytes: Result<u64, String>,
}

/// A disk whose file systems were looked at. The disk must not change while this is in use.
pub struct Survey<D> {
    disk: D,
    /// Those with free space, in their order on the disk.
    parts: Vec<(Place, &'static str)>,
    findings: Vec<Finding>,
}

impl<D> std::fmt::Debug for Survey<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Survey").field("findings", &self.findings).finish_non_exhaustive()
    }
}

/// Looks at the file systems of a disk that [`inspect`](crate::inspect::inspect) has looked at.
pub fn survey<D: ReadAt + Clone>(disk: D, table: &Inspection, options: Options) -> Survey<D> {
    let (mut parts, mut findings) = (Vec::new(), Vec::new());
    let is_member = table.table != Table::None && marks::is_member(&disk);
    for place in places(&disk, table) {
        let sparing = Sparing::new(&disk);
        let size = place.bytes.end - place.bytes.start;
        let Some(found) = file_system(&Area::new(&sparing, place.bytes.start, size)) else {
            continue;
        };
        let kind = found.kind;
        let Some(mut free_bytes) = look(&disk, &place, kind, options) else { continue };
        if is_member {
            free_bytes = Err(Doubt::Odd("the whole disk is part of a RAID or of a cache"));
        }
        if matches!(free_bytes, Ok(1..)) {
            parts.push((place.clone(), kind));
        }
        let free_bytes = free_bytes.map_err(|doubt| doubt.to_string());
        findings.push(Finding { partition: place.number, kind, free_bytes });
    }
    Survey { disk, parts, findings }
}

impl<D: ReadAt + Clone> Survey<D> {
    /// A disk of which nothing is free.
    pub fn whole(disk: D) -> Self {
        Self { disk, parts: Vec::new(), findings: Vec::new() }
    }

    /// What was found, in the order of the disk. File systems that have no map that bty reads are not among it.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// All that is free, in bytes of the disk, in ascending order; ranges neither overlap nor touch, but at the border of two partitions.
    pub fn free(&self) -> Free<D> {
        let parts = self.parts.iter().cloned().collect();
        Free { disk: self.disk.clone(), parts, walk: None, ready: VecDeque::new() }
    }
}

/// The free ranges of a disk. An error is the last item: what was read once can't be read again, or is not the same.
pub struct Free<D> {
    disk: D,
    parts: VecDeque<(Place, &'static str)>,
    walk: Option<Walk>,
    ready: VecDeque<Range<u64>>,
}

impl<D> std::fmt::Debug for Free<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Free").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl<D: ReadAt> Free<D> {
    /// Gets some ranges ready; false where there are no more.
    fn advance(&mut self) -> Result<bool, Doubt> {
        if self.walk.is_none() {
            let Some((place, kind)) = self.parts.pop_front() else { return Ok(false) };
            let swap = Options { swap: true };
            self.walk = Walk::new(&self.disk, &place, kind, swap)?;
        }
        if let Some(walk) = &mut self.walk {
            let more = walk.advance(&self.disk, &mut self.ready)?;
            if !more {
                self.walk = None;
            }
        }
        Ok(true)
    }
}

impl<D: ReadAt> Iterator for Free<D> {
    type Item = io::Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(range) = self.ready.pop_front() {
                return Some(Ok(range));
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(doubt) => {
                    (self.walk, self.parts) = (None, VecDeque::new());
                    let problem = format!("a file system changed while it was read: {doubt}");
                    return Some(Err(io::Error::other(problem)));
                }
            }
        }
    }
}

/// How many bytes are free; `None` where bty reads no map of this kind.
fn look(
    disk: &dyn ReadAt,
    place: &Place,
    kind: &'static str,
    options: Options,
) -> Option<Result<u64, Doubt>> {
    let mut walk = match Walk::new(disk, place, kind, options) {
        Ok(walk) => walk?,
        Err(doubt) => return Some(Err(doubt)),
    };
    let mut ready = VecDeque::new();
    let mut bytes = 0;
    loop {
        match walk.advance(disk, &mut ready) {
            Ok(more) => {
                bytes += ready.drain(..).map(|range| range.end - range.start).sum::<u64>();
                if !more {
                    return Some(Ok(bytes));
                }
            }
            Err(doubt) => return Some(Err(doubt)),
        }
    }
}

/// A walk over the free space of one file system, which is checked on the way.
struct Walk {
    bytes: Range<u64>,
    map: Box<dyn FreeMap + Send>,
    found: Vec<Range<u64>>,
    /// The range that may go on.
    held: Option<Range<u64>>,
}

impl Walk {
    fn new(
        disk: &dyn ReadAt,
        place: &Place,
        kind: &str,
        options: Options,
    ) -> Result<Option<Self>, Doubt> {
        let Range { start, end } = place.bytes;
        let part: Part<'_> = Area::new(disk, start, end - start);
        if place.is_shared {
            return Err(Doubt::Odd("another partition lies over it"));
        }
        let map: Box<dyn FreeMap + Send> = match kind {
            "ext2" | "ext3" | "ext4" => Box::new(ext::Ext::open(&part)?),
            "xfs" => Box::new(xfs::Xfs::open(&part)?),
            "btrfs" => Box::new(btrfs::Btrfs::open(&part)?),
            "ntfs" => Box::new(ntfs::Ntfs::open(&part)?),
            "fat12" | "fat16" | "fat32" => Box::new(fat::Table::open(&part)?),
            "exfat" => Box::new(exfat::ExFat::open(&part)?),
            "swap" if options.swap => Box::new(swap::Swap::open(&part)?),
            _ => return Ok(None),
        };
        marks::check(&part, kind)?;
        Ok(Some(Self { bytes: place.bytes.clone(), map, found: Vec::new(), held: None }))
    }

    /// Gets the ranges of the next piece ready; false where it was the last.
    fn advance(
        &mut self,
        disk: &dyn ReadAt,
        ready: &mut VecDeque<Range<u64>>,
    ) -> Result<bool, Doubt> {
        self.found.clear();
        let (start, size) = (self.bytes.start, self.bytes.end - self.bytes.start);
        let part: Part<'_> = Area::new(disk, start, size);
        let more = self.map.next(&part, &mut self.found)?;
        for range in self.found.drain(..) {
            let before = self.held.as_ref().map_or(0, |held| held.end);
            if range.start < before || range.end <= range.start || range.end > size {
                return Err(Doubt::Odd("its free ranges overlap, or lie outside of it"));
            }
            match &mut self.held {
                Some(held) if held.end == range.start => held.end = range.end,
                held => ready.extend(held.replace(range).map(|done| on_disk(&done, start))),
            }
        }
        if !more {
            ready.extend(self.held.take().map(|done| on_disk(&done, start)));
        }
        Ok(more)
    }
}

fn on_disk(range: &Range<u64>, start: u64) -> Range<u64> {
    start + range.start..start + range.end
}

#[cfg(test)]
mod tests;
