//! tar, as GNU tar, bsdtar and POSIX write it, with sparse files in the two forms that they write now.

mod header;
mod sparse;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use super::{Kind, shown, skip};
use header::{BLOCK_BYTES, Header, Pax};
use sparse::Segment;

/// What a header about the next file may have at most: names, times, attributes.
const MAX_PAX_BYTES: u64 = 1 << 20;
/// Headers before the one file.
const MAX_HEADERS: usize = 10_000;

/// The one file in a tar archive.
pub(in crate::source) struct Member<R> {
    reader: R,
    name: String,
    /// Its data in the archive; between them it is zeros.
    segments: VecDeque<Segment>,
    offset: u64,
    bytes: u64,
    /// What follows the data, up to whole blocks.
    padding: u64,
    has_ended: bool,
}

/// A file that the archive names.
struct Found {
    name: String,
    segments: VecDeque<Segment>,
    bytes: u64,
    stored_bytes: u64,
}

impl<R: Read> Member<R> {
    /// Reads up to the file's data.
    pub(in crate::source) fn open(mut reader: R) -> io::Result<Self> {
        let found = next_file(&mut reader).map_err(|problem| Kind::Tar.named(problem))?;
        let Found { name, segments, bytes, stored_bytes } =
            found.ok_or_else(|| Kind::Tar.empty())?;
        Kind::Tar.check_member(&name, bytes)?;
        let padding = padding(stored_bytes);
        Ok(Self { reader, name, segments, offset: 0, bytes, padding, has_ended: false })
    }

    /// Its size.
    pub(in crate::source) fn size_bytes(&self) -> u64 {
        self.bytes
    }

    fn end(&mut self) -> io::Result<()> {
        self.has_ended = true;
        skip(&mut self.reader, self.padding)?;
        match next_file(&mut self.reader)? {
            None => Ok(()),
            Some(second) => Err(Kind::Tar.several(&self.name, &second.name)),
        }
    }

    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes - self.offset;
        if left == 0 {
            return if self.has_ended { Ok(0) } else { self.end().map(|()| 0) };
        }
        let segment = self.segments.front_mut().filter(|segment| segment.bytes > 0);
        let before = segment.as_ref().map_or(left, |segment| segment.offset - self.offset);
        let read = match segment {
            Some(segment) if before == 0 => {
                let read = self.reader.by_ref().take(segment.bytes).read(buffer)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                segment.advance(read);
                if segment.bytes == 0 {
                    self.segments.pop_front();
                }
                read
            }
            _ => {
                let size = usize::try_from(before).unwrap_or(usize::MAX).min(buffer.len());
                buffer.iter_mut().take(size).for_each(|byte| *byte = 0);
                size
            }
        };
        self.offset += u64::try_from(read).unwrap_or_default();
        Ok(read)
    }
}

impl<R: Read> Read for Member<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.step(buffer).map_err(|problem| Kind::Tar.named(problem))
    }
}

fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES) - bytes
}

/// The next file; `None` at the archive's end. What is no file and no folder is shown as one, so that it is refused.
fn next_file(reader: &mut impl Read) -> io::Result<Option<Found>> {
    let mut pax = Pax::default();
    for _ in 0..MAX_HEADERS {
        let mut block = [0; 512];
        reader.read_exact(&mut block)?;
        let Some(header) = Header::parse(&block)? else { return Ok(None) };
        match header.kind {
            b'x' => pax = Pax::parse(&content(reader, header.bytes)?)?,
            b'L' => {
                let name = content(reader, header.bytes)?;
                pax.name = Some(name.split(|&byte| byte == 0).next().unwrap_or_default().to_vec());
            }
            // About all files, a long name of a link, a volume's name.
            b'g' | b'K' | b'V' => {
                content(reader, header.bytes)?;
            }
            // A folder, which some programs give a size.
            b'5' => pax = Pax::default(),
            _ => return found(reader, &block, header, pax).map(Some),
        }
    }
    Err(Kind::Tar.damaged("it has too many headers"))
}

fn content(reader: &mut impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    if bytes > MAX_PAX_BYTES {
        return Err(Kind::Tar.damaged("a header is larger than any"));
    }
    let mut content = Vec::new();
    reader.take(bytes).read_to_end(&mut content)?;
    if u64::try_from(content.len()).ok() != Some(bytes) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    skip(reader, padding(bytes))?;
    Ok(content)
}

fn found(reader: &mut impl Read, block: &[u8; 512], header: Header, pax: Pax) -> io::Result<Found> {
    let stored_bytes = pax.bytes.unwrap_or(header.bytes);
    let name = shown(&pax.name.unwrap_or(header.name));
    let (segments, bytes, data_bytes) = match (header.kind, pax.sparse_bytes) {
        (b'S', _) => {
            let (segments, bytes) = sparse::of_gnu(reader, block)?;
            (segments, bytes, stored_bytes)
        }
        (_, Some(bytes)) if pax.sparse_version.is_some() => {
            if pax.sparse_version != Some((1, 0)) {
                return Err(Kind::Tar.refused(&format!(
                    "has {name} in an old sparse form; pack it again: tar --format=gnu -Scf OUT IN"
                )));
            }
            let (segments, map_bytes) = sparse::of_pax(reader)?;
            let data_bytes = stored_bytes.checked_sub(map_bytes);
            let data_bytes = data_bytes.ok_or_else(|| Kind::Tar.damaged("a map has no end"))?;
            (segments, bytes, data_bytes)
        }
        (b'0' | b'7' | 0, _) => {
            let segments = VecDeque::from([Segment { offset: 0, bytes: stored_bytes }]);
            (segments, stored_bytes, stored_bytes)
        }
        // A link or a device: there is no second file that it could be.
        _ => return Err(Kind::Tar.refused(&format!("has {name} in it, which is no file"))),
    };
    sparse::check(&segments, bytes, data_bytes)?;
    Ok(Found { name, segments, bytes, stored_bytes })
}
