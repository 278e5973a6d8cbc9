//! Sizes of raw disks that compressed files state, found without unpacking them.
//!
//! gzip and bzip2 state none that could be believed: gzip's is modulo 4 GiB, and of its last member only. What is found here is
//! for a person's progress bar and for refusing a disk that is too small; the decoders prove what they read themselves.

use crate::{ReadAt, container};

const XZ_HEADER: &[u8] = b"\xfd7zXZ\0";
const XZ_HEADER_BYTES: u64 = 12;
const XZ_FOOTER_BYTES: u64 = 12;
const XZ_FOOTER_MAGIC: &[u8] = b"YZ";
/// An xz index of a 16 TiB disk in blocks of 24 MiB has 8 MiB.
const MAX_XZ_INDEX_BYTES: u64 = 8 << 20;
const MAX_XZ_STREAMS: usize = 1024;

/// What a zstd file states: a container its disk's size, and any other file nothing that holds for all of its frames.
pub(super) fn of_zstd(file: &impl ReadAt) -> Option<u64> {
    container::stated_raw_bytes(file)
}

/// The least that the first frame of zstd data with these first bytes comes to.
pub(super) fn of_first_frame(head: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(head).ok().flatten()
}

/// What the indexes of an xz file's streams (xz-file-format.txt, sections 2 and 4) add up to.
pub(super) fn of_xz(file: &impl ReadAt) -> Option<u64> {
    let mut end = file.length().ok()?;
    let mut raw_bytes = 0_u64;
    for _ in 0..MAX_XZ_STREAMS {
        let (start, stream_raw_bytes) = xz_stream(file, end)?;
        raw_bytes = raw_bytes.checked_add(stream_raw_bytes)?;
        if start == 0 {
            return Some(raw_bytes);
        }
        end = start;
    }
    None
}

/// Where the stream that ends here (or before zero padding) begins, and its raw size.
fn xz_stream(file: &impl ReadAt, mut end: u64) -> Option<(u64, u64)> {
    let footer = loop {
        let mut footer = [0; 12];
        file.read_exact_at(&mut footer, end.checked_sub(XZ_FOOTER_BYTES)?).ok()?;
        if footer.get(8..)? != [0; 4] {
            break footer;
        }
        end -= 4;
    };
    let [_, _, _, _, b0, b1, b2, b3, _, _, magic @ ..] = footer;
    let index_bytes = (u64::from(u32::from_le_bytes([b0, b1, b2, b3])) + 1) * 4;
    if magic != XZ_FOOTER_MAGIC || index_bytes > MAX_XZ_INDEX_BYTES {
        return None;
    }
    let index_start = end.checked_sub(XZ_FOOTER_BYTES + index_bytes)?;
    let mut index = vec![0; usize::try_from(index_bytes).ok()?];
    file.read_exact_at(&mut index, index_start).ok()?;
    let (blocks_bytes, raw_bytes) = xz_index(&index)?;
    let start = index_start.checked_sub(blocks_bytes)?.checked_sub(XZ_HEADER_BYTES)?;
    let mut header = [0; 6];
    file.read_exact_at(&mut header, start).ok()?;
    (header == XZ_HEADER).then_some((start, raw_bytes))
}

/// Size of the blocks in the file, and of what they unpack to.
fn xz_index(index: &[u8]) -> Option<(u64, u64)> {
    let (&0, mut rest) = index.split_first()? else { return None };
    let records = xz_number(&mut rest)?;
    let (mut blocks_bytes, mut raw_bytes) = (0_u64, 0_u64);
    for _ in 0..records {
        let unpadded = xz_number(&mut rest)?;
        blocks_bytes = blocks_bytes.checked_add(unpadded.checked_next_multiple_of(4)?)?;
        raw_bytes = raw_bytes.checked_add(xz_number(&mut rest)?)?;
    }
    Some((blocks_bytes, raw_bytes))
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow (section 1.2).
fn xz_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_end_of_a_file_states_a_size_or_not(mut bytes in proptest::collection::vec(any::<u8>(), 0..512), backward in 0..64_u8) {
            let _ = of_xz(&bytes.as_slice());
            let _ = of_zstd(&bytes.as_slice());
            bytes.extend([0, 0, 0, 0, backward, 0, 0, 0, 0, 4, b'Y', b'Z']);
            let _ = of_xz(&bytes.as_slice());
            let _ = of_first_frame(&bytes);
        }
    }
}
