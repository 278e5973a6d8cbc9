//! Which disk of a machine an image may be written to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// How an operator names the disk of a machine.
///
/// Serial and WWN name one disk in the world; a path names a place that another disk may take, and `only` names none: both are
/// used only because the operator wrote them. Written `serial:S`, `wwn:W`, `path:/dev/P` or `only`. Blanks around a serial or
/// WWN do not count (firmware pads them); an empty one matches nothing and is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DiskSelector {
    /// The disk with exactly this serial number.
    Serial(String),
    /// The disk with exactly this World Wide Name, compared without regard to case.
    Wwn(String),
    /// Whatever disk has this device node.
    Path(String),
    /// The machine's one disk that could be flashed; an error where there are none or several.
    Only,
}

const WANTED: &str = "a disk selector";
const MAX_CHARS: usize = 256;

impl FromStr for DiskSelector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason| Err(ParseError::new(WANTED, text, reason));
        if text.len() > MAX_CHARS || text.chars().any(char::is_control) {
            return refuse("it has over 256 characters, or control characters");
        }
        if text == "only" {
            return Ok(Self::Only);
        }
        let Some((by, value)) = text.split_once(':') else {
            return refuse("it is none of serial:S, wwn:W, path:/dev/P and only");
        };
        let value = value.trim();
        match by {
            _ if value.is_empty() => refuse("nothing follows the colon"),
            "serial" => Ok(Self::Serial(value.to_owned())),
            "wwn" => Ok(Self::Wwn(value.to_ascii_lowercase())),
            "path" if value.starts_with("/dev/") && !value.split('/').any(|part| part == "..") => {
                Ok(Self::Path(value.to_owned()))
            }
            "path" => refuse("a path begins with /dev/ and has no '..'"),
            _ => refuse("it is none of serial:S, wwn:W, path:/dev/P and only"),
        }
    }
}

impl fmt::Display for DiskSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(serial) => write!(f, "serial:{serial}"),
            Self::Wwn(wwn) => write!(f, "wwn:{wwn}"),
            Self::Path(path) => write!(f, "path:{path}"),
            Self::Only => f.write_str("only"),
        }
    }
}

impl TryFrom<String> for DiskSelector {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<DiskSelector> for String {
    fn from(selector: DiskSelector) -> Self {
        selector.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for text in
            ["serial:WD-123 4", "wwn:0x5000c500a1b2c3d4", "path:/dev/disk/by-path/pci-0", "only"]
        {
            assert_eq!(text.parse::<DiskSelector>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn padding_that_firmware_adds_does_not_count() {
        assert_eq!("serial:  S1  ".parse(), Ok(DiskSelector::Serial("S1".into())));
    }

    #[test]
    fn an_empty_serial_selects_nothing_and_is_refused() {
        for text in [
            "",
            "serial:",
            "serial:   ",
            "wwn:",
            "path:sda",
            "path:/dev/../etc/passwd",
            "first",
            "serial:a\nb",
        ] {
            assert!(text.parse::<DiskSelector>().is_err(), "{text:?} was accepted");
        }
    }
}
