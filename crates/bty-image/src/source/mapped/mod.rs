//! Files that say where each part of their disk is: qcow2, and what other programs keep the disks of virtual machines in.
//!
//! A format's module reads its header and gives a [`Map`]. This reads the disk by the map once, from its first to its last byte, which
//! needs no cache and no writing. What a map names and the file doesn't have is an error and never zeros, so that a half downloaded
//! image becomes no good one with holes. What could reach outside of the one file is refused by the header. (docs/adr/0017)

mod unpack;
mod window;

use std::{
    fs::File,
    io::{self, Read},
    ops::Deref,
    os::unix::fs::FileExt,
    sync::Arc,
};

use bty_types::Checksum;

use super::{
    Position, Source, SourceError,
    detect::Format,
    qcow2,
    tap::{Named, Tap},
    vdi, vhd, vhdx, vmdk,
};
pub(super) use unpack::Packing;
pub(super) use window::Window;

/// Larger disks don't exist; a header that says so is an attack or damage.
const MAX_DISK_BYTES: u64 = 1 << 50;
/// The most that one packed unit of a disk may have.
pub(super) const MAX_UNIT_BYTES: u64 = 2 << 20;

/// A file of a mapped format that must not or can't be read.
#[derive(Debug, thiserror::Error)]
pub enum MappedError {
    /// The header is cut off.
    #[error("its header is cut off")]
    Short,
    /// Its version is not read.
    #[error("it has version {found}; {read}")]
    Version {
        /// What it has.
        found: u32,
        /// What is read.
        read: &'static str,
    },
    /// It needs another file, which may be any file of this machine.
    #[error("it needs another file ({0}); make it whole first: qemu-img convert -O qcow2 IN OUT")]
    OtherFile(&'static str),
    /// It is encrypted.
    #[error("it is encrypted; decrypt it first: qemu-img convert")]
    Encrypted,
    /// It says of itself that it is corrupt, or was not closed.
    #[error("it is marked as corrupt or still open; repair it first: qemu-img check -r all IN")]
    Corrupt,
    /// It uses something that is not read.
    #[error("it uses {0}, which is not read; convert it first: qemu-img convert -O qcow2 IN OUT")]
    Feature(&'static str),
    /// Its header contradicts itself.
    #[error("its header is damaged: {0}")]
    Damaged(&'static str),
    /// Its disk is empty or larger than any.
    #[error("its disk has {0} bytes")]
    Size(u64),
    /// It can't be read.
    #[error("it can't be read")]
    Read(#[from] io::Error),
}

/// Where the parts of a disk are in its file.
pub(super) trait Map: Send {
    /// Size of the disk in bytes.
    fn disk_bytes(&self) -> u64;

    /// What the disk holds at an offset that is in it, and for how many bytes on that is true: at least one.
    fn run(&mut self, offset: u64) -> io::Result<(Run, u64)>;
}

/// What some bytes of a disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    Zeros,
    /// As they are, from this offset in the file.
    At(u64),
    Packed(Packed),
}

/// A packed unit of a disk. Units lie one behind the other in it, from its first byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) packing: Packing,
    /// Where it is in the file.
    pub(super) at: u64,
    /// What it has there at most.
    pub(super) bytes: u64,
    /// What each unit unpacks to, at most [`MAX_UNIT_BYTES`].
    pub(super) unit_bytes: u64,
}

/// Opens a file that begins like this format.
pub(super) fn open(
    format: Format,
    file: File,
    checksum: Option<Checksum>,
) -> Result<Source, SourceError> {
    let source_bytes = file.metadata().map_err(SourceError::Head)?.len();
    let file = Arc::new(file);
    let map = map(format, &file, source_bytes).map_err(|source| match source {
        MappedError::Read(problem) if problem.kind() == io::ErrorKind::UnexpectedEof => {
            SourceError::Mapped { format: format.as_str(), source: MappedError::Short }
        }
        source => SourceError::Mapped { format: format.as_str(), source },
    })?;
    let whole = Whole { file: Arc::clone(&file), offset: 0, wanted: checksum.is_some() };
    let tap = Tap::new(whole, checksum);
    let raw_bytes = map.disk_bytes();
    let reader =
        Reader { file, map, offset: 0, unpacked: None, source_bytes, position: tap.position() };
    let reader = Box::new(Named::new(format, reader));
    Ok(Source::mapped(reader, tap, format, source_bytes, raw_bytes))
}

fn map(format: Format, file: &Arc<File>, source_bytes: u64) -> Result<Box<dyn Map>, MappedError> {
    let map: Box<dyn Map> = match format {
        Format::Qcow2 => Box::new(qcow2::map(file)?),
        Format::Vhd => Box::new(vhd::map(file)?),
        Format::Vhdx => Box::new(vhdx::map(file)?),
        Format::Vmdk => Box::new(vmdk::map(file, source_bytes)?),
        Format::Vdi => Box::new(vdi::map(file)?),
        Format::Raw
        | Format::Gzip
        | Format::Xz
        | Format::Zstd
        | Format::Bzip2
        | Format::Lz4
        | Format::Tar
        | Format::Zip => {
            return Err(MappedError::Damaged("it has no map"));
        }
    };
    match map.disk_bytes() {
        1..=MAX_DISK_BYTES => Ok(map),
        bytes => Err(MappedError::Size(bytes)),
    }
}

/// The raw disk, from its first to its last byte. Memory: one unpacked unit and the packed one, of at most twice that, and what the
/// map holds.
struct Reader {
    file: Arc<File>,
    map: Box<dyn Map>,
    offset: u64,
    /// The unit that was unpacked last, by its number.
    unpacked: Option<(u64, Vec<u8>)>,
    source_bytes: u64,
    position: Position,
}

impl Reader {
    /// The disk's bytes from its offset to the end of the packed unit that it is in.
    fn unpack(&mut self, packed: Packed) -> io::Result<&[u8]> {
        let unit = self.offset / packed.unit_bytes;
        if self.unpacked.as_ref().is_none_or(|(held, _)| *held != unit) {
            // Formats name more than there is, and the file may end before that.
            let bytes = packed.bytes.min(self.source_bytes.saturating_sub(packed.at));
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut from = vec![0; to_usize(bytes)];
            self.file.read_exact_at(&mut from, packed.at)?;
            let rest = self.map.disk_bytes() - unit * packed.unit_bytes;
            let mut out = vec![0; to_usize(packed.unit_bytes)];
            packed.packing.unpack(&from, &mut out, to_usize(rest.min(packed.unit_bytes)))?;
            self.unpacked = Some((unit, out));
        }
        let within = to_usize(self.offset % packed.unit_bytes);
        let unpacked = self.unpacked.as_ref().and_then(|(_, bytes)| bytes.get(within..));
        Ok(unpacked.unwrap_or_default())
    }

    fn advance(&mut self, bytes: usize) {
        self.offset += u64::try_from(bytes).unwrap_or_default();
        // How far the file was read says little, since its parts are in any order; how far the disk was does.
        let disk_bytes = u128::from(self.map.disk_bytes());
        let share = u128::from(self.source_bytes) * u128::from(self.offset) / disk_bytes;
        let step = u64::try_from(share).unwrap_or(u64::MAX).saturating_sub(self.position.bytes());
        self.position.advance(to_usize(step));
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.map.disk_bytes() - self.offset;
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let (run, run_bytes) = self.map.run(self.offset)?;
        let size = to_usize(run_bytes.min(left)).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..size) else { return Ok(0) };
        match run {
            Run::Zeros => buffer.fill(0),
            Run::At(at) => self.file.read_exact_at(buffer, at)?,
            Run::Packed(packed) => {
                let bytes = self.unpack(packed)?.get(..size);
                buffer.copy_from_slice(bytes.ok_or_else(|| damaged("a part is too short"))?);
            }
        }
        self.advance(size);
        Ok(size)
    }
}

/// The file as it is, for its checksum; nothing where none is asked for.
struct Whole<F> {
    file: F,
    offset: u64,
    wanted: bool,
}

impl<F: Deref<Target = File>> Read for Whole<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.wanted {
            return Ok(0);
        }
        let read = read_at(&self.file, buffer, self.offset)?;
        self.offset = self.offset.saturating_add(u64::try_from(read).unwrap_or_default());
        Ok(read)
    }
}

/// The bytes at an offset: fewer where the file ends before.
pub(super) fn read_at_most(file: &File, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let whole = Whole { file, offset, wanted: true };
    whole.take(bytes).read_to_end(&mut read)?;
    Ok(read)
}

/// What a file has at an offset. Where no file has anything there is nothing, and that is no fault of the file system's.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    if i64::try_from(offset).is_err() {
        return Ok(0);
    }
    file.read_at(buffer, offset)
}

/// Something in the file that contradicts itself.
pub(super) fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Sizes of at most a few units.
pub(super) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
