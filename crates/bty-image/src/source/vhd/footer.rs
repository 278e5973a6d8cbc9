//! The footer, which says what kind of VHD it is and how large its disk is.

use crate::fields::{u32_be, u64_be};

/// What it begins with.
pub(in crate::source) const COOKIE: &[u8] = b"conectix";
pub(super) const FOOTER_BYTES: u64 = 512;
const CHECKSUM_AT: usize = 64;

/// What a VHD is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Fixed,
    Dynamic,
    Differencing,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) kind: Kind,
    pub(super) disk_bytes: u64,
    /// Where the header of the table is.
    pub(super) data_offset: u64,
}

impl Footer {
    /// A footer whose checksum is right.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<512>()?;
        if !bytes.starts_with(COOKIE) || !is_sum(bytes, CHECKSUM_AT) {
            return None;
        }
        let kind = match u32_be(bytes, 60)? {
            2 => Kind::Fixed,
            3 => Kind::Dynamic,
            4 => Kind::Differencing,
            _ => Kind::Other,
        };
        // The geometry before it is of old programs, and stops at 127 GiB.
        Some(Self { kind, disk_bytes: u64_be(bytes, 48)?, data_offset: u64_be(bytes, 16)? })
    }
}

/// Whether the number there is the complement of the sum of all other bytes.
pub(super) fn is_sum(bytes: &[u8], checksum_at: usize) -> bool {
    let own = checksum_at..checksum_at + 4;
    let others = bytes.iter().enumerate().filter(|(at, _)| !own.contains(at));
    let sum = others.fold(0_u32, |sum, (_, &byte)| sum.wrapping_add(byte.into()));
    u32_be(bytes, checksum_at) == Some(!sum)
}
