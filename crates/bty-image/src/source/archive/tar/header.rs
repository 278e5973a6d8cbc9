//! The header of a file, and what POSIX adds to it.

use std::io;

use crate::source::archive::Kind;

pub(super) const BLOCK_BYTES: u64 = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) kind: u8,
    pub(super) bytes: u64,
}

impl Header {
    /// Reads a block; `None` where it is the archive's end.
    pub(super) fn parse(block: &[u8; 512]) -> io::Result<Option<Self>> {
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let sum = block.iter().enumerate().fold(0_u64, |sum, (at, &byte)| {
            sum + u64::from(if CHECKSUM.contains(&at) { b' ' } else { byte })
        });
        if number(block, CHECKSUM.start, 8) != Some(sum) {
            return Err(Kind::Tar.damaged("a header's checksum is wrong"));
        }
        let bytes = number(block, 124, 12).ok_or_else(|| Kind::Tar.damaged("a size is none"))?;
        let kind = block.get(156).copied().unwrap_or_default();
        Ok(Some(Self { name: text(block, 0, 100).to_vec(), kind, bytes }))
    }
}

/// Text up to a NUL.
fn text(block: &[u8], at: usize, size: usize) -> &[u8] {
    let field = block.get(at..at + size).unwrap_or_default();
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or, where its first bit is set, in bytes.
pub(super) fn number(block: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = block.get(at..at + size)?;
    if let [0x80, bytes @ ..] = field {
        let (high, low) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        return low
            .first_chunk()
            .filter(|_| high.iter().all(|&byte| byte == 0))
            .map(|low| u64::from_be_bytes(*low));
    }
    let digits = field.split(|&byte| byte == 0).next()?.trim_ascii();
    if digits.is_empty() {
        return Some(0);
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// What a header of POSIX says of the file behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) name: Option<Vec<u8>>,
    pub(super) bytes: Option<u64>,
    /// The size with its holes, where it has some.
    pub(super) sparse_bytes: Option<u64>,
    /// The form of the map of its data, where it has some.
    pub(super) sparse_version: Option<(u64, u64)>,
}

impl Pax {
    /// Reads its records: length, key and value, each length with itself.
    pub(super) fn parse(mut records: &[u8]) -> io::Result<Self> {
        let damaged = || Kind::Tar.damaged("a header of POSIX is none");
        let (mut pax, mut major, mut minor, mut is_sparse) = (Self::default(), 0, 0, false);
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or_else(damaged)?;
            let number = || decimal(value).ok_or_else(damaged);
            match key {
                b"path" => pax.name = Some(value.to_vec()),
                b"GNU.sparse.name" => {
                    pax.name = Some(value.to_vec());
                    is_sparse = true;
                }
                b"size" => pax.bytes = Some(number()?),
                b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                    pax.sparse_bytes = Some(number()?);
                    is_sparse = true;
                }
                b"GNU.sparse.major" => major = number()?,
                b"GNU.sparse.minor" => minor = number()?,
                _ => {}
            }
            records = rest;
        }
        pax.sparse_version = is_sparse.then_some((major, minor));
        Ok(pax)
    }
}

fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(records.get(..space)?)?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    Some((pair.get(..equals)?, pair.get(equals + 1..)?, rest))
}

/// A number in decimal digits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}
