//! Unpacking one unit of a disk, which is small and known in size.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{damaged, to_usize};

/// The window of a unit is no larger than a unit, which has at most 2 MiB.
const ZSTD_WINDOW_LOG: u32 = 22;

/// How a unit is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Packing {
    /// Without header and checksum.
    Deflate,
    /// Deflate within both.
    Zlib,
    Zstd,
}

impl Packing {
    /// Fills `out` at least as far as is needed of it. What follows the packed data, as sectors are whole, is not part of it.
    pub(super) fn unpack(self, packed: &[u8], out: &mut [u8], needed: usize) -> io::Result<()> {
        let written = match self {
            Self::Deflate => inflate(Decompress::new(false), packed, out)?.0,
            Self::Zlib => match inflate(Decompress::new(true), packed, out)? {
                (written, Status::StreamEnd) => written,
                _ => return Err(damaged("a packed part has no end")),
            },
            Self::Zstd => decompress(packed, out)?,
        };
        if written < needed {
            return Err(damaged("a packed part is too short"));
        }
        Ok(())
    }
}

fn inflate(mut inflater: Decompress, packed: &[u8], out: &mut [u8]) -> io::Result<(usize, Status)> {
    let status = inflater
        .decompress(packed, out, FlushDecompress::Finish)
        .map_err(|_| damaged("a packed part can't be unpacked"))?;
    Ok((to_usize(inflater.total_out()), status))
}

fn decompress(packed: &[u8], out: &mut [u8]) -> io::Result<usize> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    let mut input = InBuffer::around(packed);
    let mut output = OutBuffer::around(out);
    loop {
        let before = (input.pos(), output.pos());
        let remaining = decoder
            .run(&mut input, &mut output)
            .map_err(|_| damaged("a packed part can't be unpacked"))?;
        // A frame has ended, or nothing more comes of what there is.
        if remaining == 0 || before == (input.pos(), output.pos()) {
            break;
        }
    }
    Ok(output.pos())
}
