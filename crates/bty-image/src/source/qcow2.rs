//! qcow2, by imago. What could reach outside of the one file is refused by the header, before imago sees it.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use bty_types::Checksum;
use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, StorageOpenOptions,
    file::File as ImagoFile, qcow2::Qcow2,
};

use super::{
    Source, SourceError,
    detect::Format,
    tap::{Named, Tap},
};

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
    /// It uses something that the library doesn't read.
    #[error(
        "it uses {0}, which is not read; convert it first: qemu-img convert -O qcow2 -o compression_type=zlib IN OUT"
    )]
    Feature(&'static str),
    /// Its disk is empty or larger than any.
    #[error("its disk has {0} bytes")]
    Size(u64),
    /// The library refuses it.
    #[error("opening it")]
    Open(#[source] io::Error),
}

/// Larger disks don't exist; a header that says so is an attack or damage.
const MAX_DISK_BYTES: u64 = 1 << 50;
/// How much is read at a time.
const BLOCK_BYTES: u64 = 1 << 20;

/// The part of the header (docs/interop/qcow2.txt of QEMU) that says whether reading it is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    version: u32,
    backing_file_offset: u64,
    disk_bytes: u64,
    crypt_method: u32,
    /// 0 in version 2, which has none.
    incompatible_features: u64,
}

const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
/// Bit 0, dirty, only says that reference counts may be off, which reading doesn't need; bit 4 is extended L2 entries.
const KNOWN: u64 = 0b1_1111;

/// Opens a file that begins like a qcow2.
pub(super) fn open(file: File, checksum: Option<Checksum>) -> Result<Source, SourceError> {
    let source_bytes = file.metadata().map_err(SourceError::Head)?.len();
    let mut head = [0; 104];
    let read = file.read_at(&mut head, 0).map_err(SourceError::Head)?;
    let header = Header::parse(head.get(..read).unwrap_or_default()).ok_or(Qcow2Error::Short)?;
    header.check()?;
    let hashed = file.try_clone().map_err(SourceError::Head)?;
    let storage =
        ImagoFile::from_open_file(file, StorageOpenOptions::new()).map_err(Qcow2Error::Open)?;
    let image: Qcow2<ImagoFile> =
        Qcow2::builder(storage).open(DenyImplicitOpenGate::default()).map_err(Qcow2Error::Open)?;
    let image = FormatAccess::new(image);
    let raw_bytes = image.size();
    let tap = Tap::new(Whole { file: hashed, offset: 0, wanted: checksum.is_some() }, checksum);
    let position = tap.position();
    let reader = Reader { image, offset: 0, raw_bytes, source_bytes, position };
    Ok(Source {
        reader: Box::new(Named::new(Format::Qcow2, reader)),
        tap,
        format: Format::Qcow2,
        raw_bytes: Some(raw_bytes),
        total_bytes: Some(source_bytes),
    })
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let version = u32_at(4)?;
        Some(Self {
            version,
            backing_file_offset: u64_at(8)?,
            disk_bytes: u64_at(24)?,
            crypt_method: u32_at(32)?,
            incompatible_features: if version >= 3 { u64_at(72)? } else { 0 },
        })
    }

    fn check(&self) -> Result<(), Qcow2Error> {
        let features = self.incompatible_features;
        if !(2..=3).contains(&self.version) {
            return Err(Qcow2Error::Version(self.version));
        }
        if self.backing_file_offset != 0 {
            return Err(Qcow2Error::OtherFile("a backing file"));
        }
        if features & EXTERNAL_DATA != 0 {
            return Err(Qcow2Error::OtherFile("an external data file"));
        }
        if self.crypt_method != 0 {
            return Err(Qcow2Error::Encrypted);
        }
        if features & CORRUPT != 0 {
            return Err(Qcow2Error::Corrupt);
        }
        if features & COMPRESSION_TYPE != 0 {
            return Err(Qcow2Error::Feature("zstd-compressed clusters"));
        }
        if features & !KNOWN != 0 {
            return Err(Qcow2Error::Feature("a feature that this bty doesn't know"));
        }
        if self.disk_bytes == 0 || self.disk_bytes > MAX_DISK_BYTES {
            return Err(Qcow2Error::Size(self.disk_bytes));
        }
        Ok(())
    }
}

/// The raw disk, from its first to its last byte.
struct Reader {
    image: FormatAccess<ImagoFile>,
    offset: u64,
    raw_bytes: u64,
    source_bytes: u64,
    position: super::Position,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = (self.raw_bytes - self.offset).min(BLOCK_BYTES);
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..size).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        self.image.read(&mut *buffer, self.offset)?;
        self.offset += u64::try_from(size).unwrap_or_default();
        // How far the file was read can't be told; how far the disk was, can.
        let share =
            u128::from(self.source_bytes) * u128::from(self.offset) / u128::from(self.raw_bytes);
        let now = u64::try_from(share).unwrap_or(u64::MAX);
        let step = now.saturating_sub(self.position.bytes());
        self.position.advance(usize::try_from(step).unwrap_or_default());
        Ok(size)
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: Header = Header {
        version: 3,
        backing_file_offset: 0,
        disk_bytes: 1 << 30,
        crypt_method: 0,
        incompatible_features: 1,
    };

    #[test]
    fn whatever_reaches_outside_of_the_file_is_refused() {
        assert!(GOOD.check().is_ok());
        let backing = Header { backing_file_offset: 1, ..GOOD };
        let data = Header { incompatible_features: EXTERNAL_DATA, ..GOOD };
        for header in [backing, data] {
            assert!(matches!(header.check(), Err(Qcow2Error::OtherFile(_))), "{header:?}");
        }
    }

    #[test]
    fn absurd_headers_are_refused() {
        let refused = [
            Header { version: 1, ..GOOD },
            Header { version: 4, ..GOOD },
            Header { disk_bytes: 0, ..GOOD },
            Header { disk_bytes: u64::MAX, ..GOOD },
            Header { crypt_method: 1, ..GOOD },
            Header { incompatible_features: CORRUPT, ..GOOD },
            Header { incompatible_features: 1 << 63, ..GOOD },
        ];
        for header in refused {
            assert!(header.check().is_err(), "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_not(bytes: Vec<u8>) {
            if let Some(header) = Header::parse(&bytes) {
                let _ = header.check();
            }
        }
    }
}
