//! lz4 frames (`lz4_Frame_format.md`), one or several.
//!
//! `lz4_flex` takes a frame that ends between two blocks for a whole one, since lz4's old format has no other end. This knows better: a
//! frame has ended only where its decoder stopped without asking for more than there is. Between frames nothing is asked of it.

use std::io::{self, BufRead, Read};

use lz4_flex::frame::FrameDecoder;

/// Unpacks one frame after the other.
pub(super) struct Frames<R: BufRead> {
    decoder: FrameDecoder<Watched<R>>,
    is_in_frame: bool,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        let watched = Watched { reader, has_ended: false };
        Self { decoder: FrameDecoder::new(watched), is_in_frame: false }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_in_frame && self.decoder.get_mut().reader.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.is_in_frame = true;
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if self.decoder.get_ref().has_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.is_in_frame = false;
        }
    }
}

/// Notes whether more was asked for than there is.
struct Watched<R> {
    reader: R,
    has_ended: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.has_ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::*;

    fn frame(raw: &[u8], mode: BlockMode, checksum: bool) -> Vec<u8> {
        let info = FrameInfo::new().block_mode(mode).content_checksum(checksum);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(raw).unwrap();
        encoder.finish().unwrap()
    }

    fn read(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut raw = Vec::new();
        Frames::new(packed).take(1 << 20).read_to_end(&mut raw)?;
        Ok(raw)
    }

    proptest! {
        #[test]
        fn frames_are_read_to_their_end_and_cut_ones_are_refused(
            raw in proptest::collection::vec(any::<u8>(), 0..200_000),
            linked: bool,
            checksum: bool,
            cut: proptest::sample::Index,
        ) {
            let mode = if linked { BlockMode::Linked } else { BlockMode::Independent };
            let one = frame(&raw, mode, checksum);
            prop_assert_eq!(read(&[one.as_slice(), &one].concat()).unwrap(), [raw.as_slice(), &raw].concat());
            let kept = 1 + cut.index(one.len() - 1);
            prop_assert_eq!(read(&one[..kept]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }

        #[test]
        fn any_bytes_are_read_or_refused(rest in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&rest);
            let _ = read(&[b"\x04\x22\x4d\x18".as_slice(), &rest].concat());
            let head = frame(b"a", BlockMode::Linked, false);
            let _ = read(&[&head[..7], rest.as_slice()].concat());
        }
    }
}
