//! How people call an image: `name:tag`, or its id.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{ImageId, ParseError};

/// A `name:tag` that points at one image at a time and can be moved, as in OCI.
///
/// A name has 1 to 128 characters of `a-z 0-9 . _ - /`, begins and ends with a letter or digit and has no two separators in a
/// row; a tag has 1 to 128 of `A-Z a-z 0-9 . _ -` and begins with a letter, digit or `_` (the OCI distribution rules, without
/// a registry host). The tag is `latest` where none is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    name: String,
    tag: String,
}

const WANTED: &str = "an image name";
const MAX_CHARS: usize = 128;
const DEFAULT_TAG: &str = "latest";

impl ImageName {
    /// The part before the colon.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part after the colon.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl FromStr for ImageName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason| Err(ParseError::new(WANTED, text, reason));
        let (name, tag) = text.split_once(':').unwrap_or((text, DEFAULT_TAG));
        if name.is_empty() || name.len() > MAX_CHARS || tag.is_empty() || tag.len() > MAX_CHARS {
            return refuse("name and tag have 1 to 128 characters each");
        }
        if !name.bytes().all(|byte| is_name_alphanumeric(byte) || is_separator(byte)) {
            return refuse("a name has only a-z, 0-9, '.', '_', '-' and '/'");
        }
        if !name.split(['.', '_', '-', '/']).all(|part| part.bytes().any(is_name_alphanumeric)) {
            return refuse(
                "a name begins and ends with a letter or digit and has no two separators in a row",
            );
        }
        let tag_byte =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if !tag.bytes().all(tag_byte) || tag.starts_with(['.', '-']) {
            return refuse(
                "a tag has only letters, digits, '_', '.' and '-' and does not begin with '.' or '-'",
            );
        }
        Ok(Self { name: name.to_owned(), tag: tag.to_owned() })
    }
}

fn is_name_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'.' | b'_' | b'-' | b'/')
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

impl TryFrom<String> for ImageName {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.to_string()
    }
}

/// Which image is meant: the one that a name points at now, or one for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageSelector {
    /// Whatever image the name points at when it is looked at.
    Name(ImageName),
    /// This image and no other.
    Id(ImageId),
}

impl FromStr for ImageSelector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        text.parse().map(Self::Name)
    }
}

impl fmt::Display for ImageSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl TryFrom<String> for ImageSelector {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<ImageSelector> for String {
    fn from(selector: ImageSelector) -> Self {
        selector.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_latest() {
        assert_eq!("debian".parse::<ImageName>().unwrap().to_string(), "debian:latest");
        assert_eq!(
            "lab/debian-13:v1.2".parse::<ImageName>().unwrap().to_string(),
            "lab/debian-13:v1.2"
        );
    }

    #[test]
    fn refuses_what_would_not_be_a_safe_path_or_oci_name() {
        for text in [
            "", ":", "a:", ":a", "../etc", "a/../b", "a//b", "/a", "a/", "A", "a b", "a:b:c",
            "a:.x", "a:-x", ".a", "a..b", "ü", "a:\n",
        ] {
            assert!(text.parse::<ImageName>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_selector_is_an_id_where_it_reads_as_one() {
        let hex = "ab".repeat(32);
        let id: ImageId = hex.parse().unwrap();
        assert_eq!(hex.parse::<ImageSelector>(), Ok(ImageSelector::Id(id)));
        assert_eq!(id.to_string().parse::<ImageSelector>(), Ok(ImageSelector::Id(id)));
        let name: ImageName = "debian:13".parse().unwrap();
        assert_eq!("debian:13".parse::<ImageSelector>(), Ok(ImageSelector::Name(name)));
    }
}
