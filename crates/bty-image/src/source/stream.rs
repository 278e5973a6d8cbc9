//! A source read as a stream: what packed it is undone, the archive that it is in is opened.

use std::io::{BufReader, Cursor, Read};

use bty_types::Checksum;

use super::{
    Limits, Reader, Source, SourceError,
    archive::{tar, zip},
    detect::{self, Format},
    lz4, size,
    tap::{Named, Tap},
    vhd::Footless,
};

/// How much is read at a time from a compressed source.
const BUFFER_BYTES: usize = 256 * 1024;
/// How many of a source's first bytes tell its format.
const HEAD_BYTES: u64 = 64 * 1024;
/// What a VHD of fixed size has behind its disk.
const FOOTER_BYTES: u64 = 512;

/// The raw disk, as far as is known at its beginning.
struct Opened {
    format: Format,
    reader: Box<dyn Read + Send>,
    /// Size of the file in an archive.
    member_bytes: Option<u64>,
}

pub(super) fn open(
    stream: impl Read + Send + 'static,
    source_bytes: Option<u64>,
    checksum: Option<Checksum>,
    limits: Limits,
) -> Result<Source, SourceError> {
    let tap = Tap::new(stream, checksum);
    let head = head(&mut tap.clone())?;
    let format = detect::format(&head)?;
    let first_frame_raw_bytes = match format {
        Format::Zstd => size::of_first_frame(&head),
        _ => None,
    };
    let input = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(head).chain(tap.clone()));
    let opened = match format {
        Format::Raw => {
            let reader = Box::new(Named::new(format, input));
            Opened { format, reader, member_bytes: None }
        }
        Format::Tar => in_tar(input)?,
        Format::Zip => in_zip(input)?,
        Format::Gzip | Format::Xz | Format::Zstd | Format::Bzip2 | Format::Lz4 => {
            unpacked(format, input, limits)?
        }
        Format::Qcow2 | Format::Vhd | Format::Vhdx | Format::Vmdk | Format::Vdi => {
            return Err(SourceError::NeedsFile(format.as_str()));
        }
    };
    let reader = Reader::Stream(Footless::new(opened.reader));
    let mut source = Source::new(reader, tap, opened.format, source_bytes);
    source.raw_bytes = source_bytes.filter(|_| opened.format == Format::Raw);
    source.first_frame_raw_bytes = first_frame_raw_bytes.filter(|_| opened.format == format);
    source.member_raw_bytes = opened.member_bytes.map(|bytes| bytes.saturating_sub(FOOTER_BYTES));
    Ok(source)
}

fn head(reader: &mut impl Read) -> Result<Vec<u8>, SourceError> {
    let mut head = Vec::new();
    reader.take(HEAD_BYTES).read_to_end(&mut head).map_err(SourceError::Head)?;
    Ok(head)
}

fn unpacked(
    format: Format,
    input: BufReader<impl Read + Send + 'static>,
    limits: Limits,
) -> Result<Opened, SourceError> {
    let mut named = Named::new(format, decoder(format, input, limits)?);
    let head = head(&mut named)?;
    let found = detect::format(&head)?;
    let reader = Cursor::new(head).chain(named);
    match found {
        Format::Raw => Ok(Opened { format, reader: Box::new(reader), member_bytes: None }),
        Format::Tar => in_tar(reader),
        _ => Err(packed_twice()),
    }
}

fn decoder(
    format: Format,
    input: BufReader<impl Read + Send + 'static>,
    limits: Limits,
) -> Result<Box<dyn Read + Send>, SourceError> {
    Ok(match format {
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Format::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(limits.memory_bytes, flags)
                .map_err(|problem| SourceError::Head(problem.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Format::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(input).map_err(SourceError::Head)?;
            decoder.window_log_max(limits.zstd_window_log()).map_err(SourceError::Head)?;
            Box::new(decoder)
        }
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Format::Lz4 => Box::new(lz4::Frames::new(input)),
        _ => Box::new(input),
    })
}

fn in_tar(reader: impl Read + Send + 'static) -> Result<Opened, SourceError> {
    let member = tar::Member::open(reader).map_err(SourceError::Head)?;
    let bytes = member.size_bytes();
    in_archive(Format::Tar, member, Some(bytes))
}

fn in_zip(input: BufReader<impl Read + Send + 'static>) -> Result<Opened, SourceError> {
    let member = zip::Member::open(input).map_err(SourceError::Head)?;
    let bytes = member.size_bytes();
    in_archive(Format::Zip, member, bytes)
}

fn in_archive(
    format: Format,
    mut member: impl Read + Send + 'static,
    member_bytes: Option<u64>,
) -> Result<Opened, SourceError> {
    let head = head(&mut member)?;
    match detect::format(&head)? {
        Format::Raw => {
            let reader = Box::new(Cursor::new(head).chain(member));
            Ok(Opened { format, reader, member_bytes })
        }
        _ => Err(packed_twice()),
    }
}

/// A disk image in a packed file or an archive has to be a raw one.
fn packed_twice() -> SourceError {
    SourceError::Unsupported {
        what: "packed twice",
        advice: "unpack it once and import what comes out",
    }
}
