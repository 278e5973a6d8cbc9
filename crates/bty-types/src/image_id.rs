//! The identity of an image: the BLAKE3 of the raw disk bytes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// The BLAKE3 hash of an image's raw disk bytes: what `b3sum disk.img` prints.
///
/// Written `blake3:` and 64 lower-case hexadecimal digits; read with or without the prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageId([u8; 32]);

const PREFIX: &str = "blake3:";
const WANTED: &str = "an image id";

impl ImageId {
    /// The id with these 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits without the `blake3:` prefix, as file names and `b3sum` have them.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The first 12 digits, for tables and progress lines. Not an identity.
    pub fn short(&self) -> String {
        self.hex().chars().take(12).collect()
    }
}

impl From<blake3::Hash> for ImageId {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl FromStr for ImageId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits = text.strip_prefix(PREFIX).unwrap_or(text);
        blake3::Hash::from_hex(digits)
            .map(Self::from)
            .map_err(|_| ParseError::new(WANTED, text, "it is not 64 hexadecimal digits"))
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for ImageId {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<ImageId> for String {
    fn from(id: ImageId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_b3sum_prints() {
        let id = ImageId::from(blake3::hash(b""));
        let b3sum = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(id.to_string(), format!("blake3:{b3sum}"));
        assert_eq!(b3sum.parse::<ImageId>(), Ok(id));
        assert_eq!(id.to_string().parse::<ImageId>(), Ok(id));
        assert_eq!(id.short(), "af1349b9f5f9");
    }

    #[test]
    fn refuses_other_digests() {
        for text in
            ["", "blake3:", "sha256:af1349", &"g".repeat(64), &"a".repeat(63), &"a".repeat(65)]
        {
            assert!(text.parse::<ImageId>().is_err(), "{text:?} was accepted");
        }
    }
}
