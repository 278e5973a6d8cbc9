//! qcow2 (docs/interop/qcow2.rst of QEMU), read once from the disk's first to its last byte.
//!
//! Our own reader and not a library's: the one that is kept, imago, and qemu-img too, read zeros where a file was cut off, so that a
//! half downloaded image would become a good one with holes; and imago does not read clusters that are compressed with zstd.
//! Reading in order needs no reference counts, no cache and no writing, which is most of what qcow2 is. What could reach
//! outside of the one file is refused by the header.

mod header;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use bty_types::Checksum;

use super::{
    Source, SourceError,
    detect::Format,
    tap::{Named, Tap},
};
use header::{HEADER_BYTES, Header};
use reader::Reader;

/// A qcow2 that must not or can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// The header is cut off.
    #[error("its header is cut off")]
    Short,
    /// Neither version 2 nor 3.
    #[error("it has version {0}; versions 2 and 3 are read")]
    Version(u32),
    /// It needs another file, which may be any file of this machine.
    #[error("it needs another file ({0}); make it whole first: qemu-img convert -O qcow2 IN OUT")]
    OtherFile(&'static str),
    /// It is encrypted.
    #[error("it is encrypted; decrypt it first: qemu-img convert")]
    Encrypted,
    /// It says of itself that it is corrupt.
    #[error("it is marked as corrupt; repair it first: qemu-img check -r all IN")]
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
}

/// Opens a file that begins like a qcow2.
pub(super) fn open(file: File, checksum: Option<Checksum>) -> Result<Source, SourceError> {
    let source_bytes = file.metadata().map_err(SourceError::Head)?.len();
    let mut head = Vec::new();
    (&file).take(HEADER_BYTES).read_to_end(&mut head).map_err(SourceError::Head)?;
    let header = Header::parse(&head).ok_or(Qcow2Error::Short)?;
    header.check()?;
    let hashed = file.try_clone().map_err(SourceError::Head)?;
    let tap = Tap::new(Whole { file: hashed, offset: 0, wanted: checksum.is_some() }, checksum);
    let reader = Reader::new(file, header, source_bytes, tap.position());
    let reader = Box::new(Named::new(Format::Qcow2, reader));
    let mut source = Source::new(reader, tap, Format::Qcow2, Some(source_bytes));
    source.raw_bytes = Some(header.disk_bytes);
    Ok(source)
}

/// The file as it is, for its checksum; nothing where none is asked for.
struct Whole {
    file: File,
    offset: u64,
    wanted: bool,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.wanted {
            return Ok(0);
        }
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += u64::try_from(read).unwrap_or_default();
        Ok(read)
    }
}
