//! zip (PKWARE's APPNOTE.TXT), read from its first file on: the directory at the end isn't needed for one file.

pub(in crate::source) mod directory;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead, Read, Take};

use flate2::{Crc, bufread::DeflateDecoder};

use super::{Kind, shown, skip};

const FILE: &[u8; 4] = b"PK\x03\x04";
const DIRECTORY: &[u8; 4] = b"PK\x01\x02";
const DESCRIPTOR: &[u8; 4] = b"PK\x07\x08";
/// Extra data for files that have been added to the archive's end.
const DIRECTORY_ENCRYPTION: &[u8; 4] = b"PK\x06\x08";
const ENCRYPTED: u16 = 1;
/// Sizes and checksum come behind the data.
const SIZES_BEHIND: u16 = 1 << 3;
/// The extra field with sizes of 64 bits.
const ZIP64: u16 = 1;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Folders before the one file.
const MAX_FOLDERS: usize = 10_000;

/// The header of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    name: Vec<u8>,
    flags: u16,
    packing: u16,
    checksum: u32,
    packed_bytes: u64,
    bytes: u64,
    /// Whether its sizes have 64 bits.
    is_large: bool,
}

/// The one file in a zip archive.
pub(in crate::source) struct Member<R: BufRead> {
    data: Data<R>,
    name: String,
    header: Header,
    read_bytes: u64,
    checksum: Crc,
}

enum Data<R: BufRead> {
    Stored(Take<R>),
    Deflated(DeflateDecoder<R>),
    Ended,
}

impl<R: BufRead> Member<R> {
    /// Reads up to the file's data.
    pub(in crate::source) fn open(mut reader: R) -> io::Result<Self> {
        let header = next_file(&mut reader).map_err(|problem| Kind::Zip.named(problem))?;
        let header = header.ok_or_else(|| Kind::Zip.empty())?;
        let name = shown(&header.name);
        if header.flags & ENCRYPTED != 0 {
            return Err(Kind::Zip.refused(&format!("has {name} encrypted; extract it first")));
        }
        let is_sized = header.flags & SIZES_BEHIND == 0;
        if is_sized {
            Kind::Zip.check_member(&name, header.bytes)?;
        }
        let data = match header.packing {
            DEFLATED => Data::Deflated(DeflateDecoder::new(reader)),
            STORED if is_sized => Data::Stored(reader.take(header.packed_bytes)),
            _ => {
                return Err(Kind::Zip.refused(&format!(
                    "has {name} packed in a way that is not read; extract the disk image from it first"
                )));
            }
        };
        Ok(Self { data, name, header, read_bytes: 0, checksum: Crc::new() })
    }

    /// Its size, where that is known before its end.
    pub(in crate::source) fn size_bytes(&self) -> Option<u64> {
        Some(self.header.bytes).filter(|_| self.header.flags & SIZES_BEHIND == 0)
    }

    /// Compares size and checksum, and looks at what follows.
    fn end(&mut self) -> io::Result<()> {
        let (mut reader, packed_bytes) = match std::mem::replace(&mut self.data, Data::Ended) {
            Data::Stored(stored) => {
                let left = stored.limit();
                (stored.into_inner(), self.header.packed_bytes - left)
            }
            Data::Deflated(decoder) => {
                let packed_bytes = decoder.total_in();
                (decoder.into_inner(), packed_bytes)
            }
            Data::Ended => return Ok(()),
        };
        let mut stated = self.header.clone();
        if stated.flags & SIZES_BEHIND != 0 {
            let is_large = stated.is_large || self.read_bytes.max(packed_bytes) > u32::MAX.into();
            (stated.checksum, stated.packed_bytes, stated.bytes) =
                descriptor(&mut reader, is_large)?;
        }
        let found = (self.checksum.sum(), packed_bytes, self.read_bytes);
        if found != (stated.checksum, stated.packed_bytes, stated.bytes) {
            return Err(Kind::Zip.damaged("its file has another size or checksum than it says"));
        }
        match next_file(&mut reader)? {
            None => Ok(()),
            Some(second) => Err(Kind::Zip.several(&self.name, &shown(&second.name))),
        }
    }

    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.data {
            Data::Stored(stored) => stored.read(buffer)?,
            Data::Deflated(decoder) => {
                decoder.read(buffer).map_err(|problem| match problem.kind() {
                    io::ErrorKind::InvalidInput => Kind::Zip.damaged("its file can't be unpacked"),
                    _ => problem,
                })?
            }
            Data::Ended => return Ok(0),
        };
        if read == 0 {
            self.end()?;
        }
        self.checksum.update(buffer.get(..read).unwrap_or_default());
        self.read_bytes += u64::try_from(read).unwrap_or_default();
        Ok(read)
    }
}

impl<R: BufRead> Read for Member<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.step(buffer).map_err(|problem| Kind::Zip.named(problem))
    }
}

/// The header of the next file; `None` where the directory begins.
fn next_file(reader: &mut impl Read) -> io::Result<Option<Header>> {
    for _ in 0..MAX_FOLDERS {
        let mut magic = [0; 4];
        reader.read_exact(&mut magic)?;
        match &magic {
            FILE => {}
            DIRECTORY | DIRECTORY_ENCRYPTION => return Ok(None),
            _ => return Err(Kind::Zip.damaged("what follows a file is no file")),
        }
        let header = header(reader)?;
        if !header.name.ends_with(b"/") {
            return Ok(Some(header));
        }
        skip(reader, header.packed_bytes)?;
    }
    Err(Kind::Zip.damaged("it has too many folders"))
}

fn header(reader: &mut impl Read) -> io::Result<Header> {
    let mut fields = [0; 26];
    reader.read_exact(&mut fields)?;
    let mut fields = Fields(&fields);
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let mut parse = || {
        let (_version, flags, packing, _time) =
            (fields.u16()?, fields.u16()?, fields.u16()?, fields.u32()?);
        let (checksum, packed_bytes, bytes) =
            (fields.u32()?, fields.u32()?.into(), fields.u32()?.into());
        let (name_bytes, extra_bytes) = (fields.u16()?, fields.u16()?);
        let name = Vec::new();
        let header =
            Header { name, flags, packing, checksum, packed_bytes, bytes, is_large: false };
        Some((header, name_bytes, extra_bytes))
    };
    let (mut header, name_bytes, extra_bytes) = parse().ok_or_else(cut)?;
    header.name = vec![0; name_bytes.into()];
    reader.read_exact(&mut header.name)?;
    let mut extra = vec![0; extra_bytes.into()];
    reader.read_exact(&mut extra)?;
    if let Some((bytes, packed_bytes)) = large_sizes(Fields(&extra)) {
        header.is_large = true;
        if header.bytes == u64::from(u32::MAX) {
            header.bytes = bytes;
        }
        if header.packed_bytes == u64::from(u32::MAX) {
            header.packed_bytes = packed_bytes;
        }
    }
    Ok(header)
}

/// The sizes of 64 bits that an extra field has; in a file's header it has both.
fn large_sizes(mut extra: Fields<'_>) -> Option<(u64, u64)> {
    loop {
        let (kind, bytes) = (extra.u16()?, extra.u16()?);
        let (field, rest) = extra.0.split_at_checked(bytes.into())?;
        if kind == ZIP64 {
            let mut field = Fields(field);
            return Some((field.u64()?, field.u64()?));
        }
        extra = Fields(rest);
    }
}

/// Checksum, packed and unpacked size, behind the data.
fn descriptor(reader: &mut impl Read, is_large: bool) -> io::Result<(u32, u64, u64)> {
    let mut first = [0; 4];
    reader.read_exact(&mut first)?;
    // Its magic may be left out.
    if &first == DESCRIPTOR {
        reader.read_exact(&mut first)?;
    }
    let mut size = || -> io::Result<u64> {
        let mut number = [0; 8];
        reader.read_exact(number.get_mut(..if is_large { 8 } else { 4 }).unwrap_or_default())?;
        Ok(u64::from_le_bytes(number))
    };
    Ok((u32::from_le_bytes(first), size()?, size()?))
}

/// Numbers, one behind the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
