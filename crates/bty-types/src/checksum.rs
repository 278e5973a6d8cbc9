//! A publisher's checksum of the file that an image is imported from.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// The SHA-256 or SHA-512 that a publisher gives for a file as it is downloaded (compressed or not).
///
/// Written `sha256:` or `sha512:` and lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Checksum {
    /// SHA-256, 32 bytes.
    Sha256([u8; 32]),
    /// SHA-512, 64 bytes.
    Sha512([u8; 64]),
}

const WANTED: &str = "a checksum";

impl FromStr for Checksum {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason| ParseError::new(WANTED, text, reason);
        match text.split_once(':') {
            Some(("sha256", digits)) => unhex(digits)
                .map(Self::Sha256)
                .ok_or_else(|| refuse("sha256 has 64 hexadecimal digits")),
            Some(("sha512", digits)) => unhex(digits)
                .map(Self::Sha512)
                .ok_or_else(|| refuse("sha512 has 128 hexadecimal digits")),
            _ => Err(refuse("it does not begin with 'sha256:' or 'sha512:'")),
        }
    }
}

fn unhex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let pair = digits.get(2 * index..2 * index + 2)?;
        // from_str_radix would take "+f".
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes): (_, &[u8]) = match self {
            Self::Sha256(bytes) => ("sha256:", bytes),
            Self::Sha512(bytes) => ("sha512:", bytes),
        };
        f.write_str(name)?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Checksum {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for text in [format!("sha256:{}", "0f".repeat(32)), format!("sha512:{}", "a1".repeat(64))] {
            assert_eq!(text.parse::<Checksum>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_wrong_lengths_and_algorithms() {
        let plus = format!("sha256:{}", "+f".repeat(32));
        for text in ["", "sha256:", "md5:00", "sha256:zz", plus.as_str(), "sha512:0f"] {
            assert!(text.parse::<Checksum>().is_err(), "{text:?} was accepted");
        }
    }
}
