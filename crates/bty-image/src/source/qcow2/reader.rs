//! Walking the two levels of tables, and reading the clusters that they name.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::header::{Compression, Header};
use crate::source::Position;

/// Bits 9 to 55 of an entry: an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
/// Standard entries only: the cluster reads as zeros, whatever it is at its offset.
const ZERO: u64 = 1;
/// Extended entries map each 32nd of a cluster by itself.
const SUBCLUSTERS: u64 = 32;
const SECTOR_BYTES: u64 = 512;
/// The window of a compressed cluster is no larger than a cluster, which has at most 2 MiB.
const ZSTD_WINDOW_LOG: u32 = 22;

/// The raw disk, from its first to its last byte. Memory: one table of the second level and one decompressed cluster, of at
/// most 2 MiB each, and the compressed one of at most twice that.
pub(super) struct Reader {
    file: File,
    header: Header,
    offset: u64,
    /// The table of the second level in use; `None` inside where the whole range is unallocated.
    l2: Option<(u64, Option<Vec<u8>>)>,
    /// The compressed cluster that was unpacked last.
    unpacked: Option<(u64, Vec<u8>)>,
    source_bytes: u64,
    position: Position,
}

/// What some bytes of the disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Zeros,
    At(u64),
    Compressed { offset: u64, bytes: u64 },
}

impl Reader {
    pub(super) fn new(file: File, header: Header, source_bytes: u64, position: Position) -> Self {
        Self { file, header, offset: 0, l2: None, unpacked: None, source_bytes, position }
    }

    /// What the disk holds at the offset, and how many bytes on that is true.
    fn run(&mut self) -> io::Result<(Run, u64)> {
        let header = self.header;
        let cluster = self.offset / header.cluster_bytes();
        let within = self.offset % header.cluster_bytes();
        let rest = header.cluster_bytes() - within;
        let Some((entry, bitmap)) = self.l2_entry(cluster)? else {
            return Ok((Run::Zeros, rest));
        };
        if entry & COMPRESSED != 0 {
            // An offset of 62 - (cluster_bits - 8) bits, and how many sectors follow the one that it is in.
            let offset_bits = 70 - header.cluster_bits;
            let offset = entry & ((1 << offset_bits) - 1);
            let sectors = ((entry & (COMPRESSED - 1)) >> offset_bits) + 1;
            let bytes = sectors * SECTOR_BYTES - offset % SECTOR_BYTES;
            return Ok((Run::Compressed { offset, bytes }, rest));
        }
        let at = entry & OFFSET;
        if !header.has_extended_l2() {
            let is_zero = at == 0 || entry & ZERO != 0;
            return Ok((if is_zero { Run::Zeros } else { Run::At(at + within) }, rest));
        }
        let subcluster_bytes = header.cluster_bytes() / SUBCLUSTERS;
        let number = within / subcluster_bytes;
        let is_data = (bitmap >> number) & 1 == 1 && (bitmap >> (number + SUBCLUSTERS)) & 1 == 0;
        let run = if is_data && at != 0 { Run::At(at + within) } else { Run::Zeros };
        Ok((run, subcluster_bytes - within % subcluster_bytes))
    }

    /// The entry of a cluster, and its bitmap where entries have one; `None` where it has no entry.
    fn l2_entry(&mut self, cluster: u64) -> io::Result<Option<(u64, u64)>> {
        let (table, number) =
            (cluster / self.header.l2_entries(), cluster % self.header.l2_entries());
        if self.l2.as_ref().is_none_or(|(held, _)| *held != table) {
            self.l2 = Some((table, self.read_l2(table)?));
        }
        let Some((_, Some(entries))) = &self.l2 else { return Ok(None) };
        let at = number * self.header.l2_entry_bytes();
        let u64_at = |at: u64| {
            let bytes = entries.get(usize::try_from(at).ok()?..)?;
            Some(u64::from_be_bytes(*bytes.first_chunk()?))
        };
        let entry = u64_at(at);
        let bitmap = if self.header.has_extended_l2() { u64_at(at + 8) } else { Some(0) };
        Ok(entry.zip(bitmap))
    }

    fn read_l2(&self, table: u64) -> io::Result<Option<Vec<u8>>> {
        let mut entry = [0; 8];
        self.file.read_exact_at(&mut entry, self.header.l1_offset + table * 8)?;
        let at = u64::from_be_bytes(entry) & OFFSET;
        if at == 0 {
            return Ok(None);
        }
        if !at.is_multiple_of(self.header.cluster_bytes()) {
            return Err(damaged("a table is not where tables are"));
        }
        let mut entries = vec![0; to_usize(self.header.cluster_bytes())];
        self.file.read_exact_at(&mut entries, at)?;
        Ok(Some(entries))
    }

    /// The bytes of the compressed cluster at the disk's offset.
    fn unpack(&mut self, offset: u64, bytes: u64) -> io::Result<&[u8]> {
        let cluster = self.offset / self.header.cluster_bytes();
        if self.unpacked.as_ref().is_none_or(|(held, _)| *held != cluster) {
            // Whole sectors are named, and the file may end before the last one does.
            let bytes = bytes.min(self.source_bytes.saturating_sub(offset));
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut packed = vec![0; to_usize(bytes)];
            self.file.read_exact_at(&mut packed, offset)?;
            let mut out = vec![0; to_usize(self.header.cluster_bytes())];
            match self.header.compression() {
                Compression::Deflate => inflate(&packed, &mut out)?,
                Compression::Zstd => decompress(&packed, &mut out)?,
            }
            self.unpacked = Some((cluster, out));
        }
        let within = to_usize(self.offset % self.header.cluster_bytes());
        let unpacked = self.unpacked.as_ref().and_then(|(_, bytes)| bytes.get(within..));
        Ok(unpacked.unwrap_or_default())
    }

    fn advance(&mut self, bytes: usize) {
        self.offset += u64::try_from(bytes).unwrap_or_default();
        // How far the file was read says little, since clusters are in any order; how far the disk was does.
        let disk_bytes = u128::from(self.header.disk_bytes);
        let share = u128::from(self.source_bytes) * u128::from(self.offset) / disk_bytes;
        let step = u64::try_from(share).unwrap_or(u64::MAX).saturating_sub(self.position.bytes());
        self.position.advance(to_usize(step));
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.header.disk_bytes - self.offset;
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let (run, run_bytes) = self.run()?;
        let size = to_usize(run_bytes.min(left)).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..size) else { return Ok(0) };
        match run {
            Run::Zeros => buffer.fill(0),
            Run::At(at) => self.file.read_exact_at(buffer, at)?,
            Run::Compressed { offset, bytes } => {
                let bytes = self.unpack(offset, bytes)?.get(..size);
                buffer.copy_from_slice(bytes.ok_or_else(|| damaged("a cluster is too short"))?);
            }
        }
        self.advance(size);
        Ok(size)
    }
}

/// Raw deflate; what follows it up to the end of the last sector is not part of it.
fn inflate(packed: &[u8], out: &mut [u8]) -> io::Result<()> {
    let mut inflater = flate2::Decompress::new(false);
    inflater
        .decompress(packed, out, flate2::FlushDecompress::Finish)
        .map_err(|_| damaged("a compressed cluster can't be unpacked"))?;
    whole(inflater.total_out(), out)
}

fn decompress(packed: &[u8], out: &mut [u8]) -> io::Result<()> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    let mut input = InBuffer::around(packed);
    let mut output = OutBuffer::around(out);
    loop {
        let before = (input.pos(), output.pos());
        let remaining = decoder
            .run(&mut input, &mut output)
            .map_err(|_| damaged("a compressed cluster can't be unpacked"))?;
        // A frame has ended, or nothing more comes of what there is.
        if remaining == 0 || before == (input.pos(), output.pos()) {
            break;
        }
    }
    let written = u64::try_from(output.pos()).unwrap_or_default();
    whole(written, out)
}

fn whole(written: u64, out: &[u8]) -> io::Result<()> {
    if u64::try_from(out.len()).ok() == Some(written) {
        return Ok(());
    }
    Err(damaged("a compressed cluster is too short"))
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Sizes of at most a few clusters.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
