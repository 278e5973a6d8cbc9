//! The MAC address that a machine is known by.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// An EUI-48 address of one machine's network card: never the group (multicast) or the all-zero address.
///
/// Read from `52:54:00:77:00:01`, `52-54-00-77-00-01` (iPXE's `hexhyp`) or `525400770001`, in either case; written with colons
/// in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

const WANTED: &str = "a MAC address";

impl MacAddr {
    /// The address with these bytes, in transmission order.
    pub fn new(bytes: [u8; 6]) -> Result<Self, ParseError> {
        let mac = Self(bytes);
        if bytes == [0; 6] {
            return Err(ParseError::new(WANTED, &mac.to_string(), "all bytes are zero"));
        }
        if bytes[0] & 1 == 1 {
            return Err(ParseError::new(WANTED, &mac.to_string(), "it is a group address"));
        }
        Ok(mac)
    }

    /// The six bytes in transmission order.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// `52-54-00-77-00-01`: the form that iPXE writes and that is safe in paths and URLs.
    pub fn hyphenated(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl FromStr for MacAddr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason| ParseError::new(WANTED, text, reason);
        let digits: String = match text.len() {
            12 => text.to_owned(),
            17 => {
                let separator = text.as_bytes().get(2).copied().map(char::from);
                let Some(separator @ (':' | '-')) = separator else {
                    return Err(refuse("its bytes are separated by neither ':' nor '-'"));
                };
                if text.split(separator).any(|part| part.len() != 2) {
                    return Err(refuse("it is not six pairs of digits"));
                }
                text.replace(separator, "")
            }
            _ => return Err(refuse("it is neither 12 digits nor six pairs")),
        };
        let digits = digits.as_bytes();
        if digits.len() != 12 {
            return Err(refuse("it is not six pairs of digits"));
        }
        let mut bytes = [0; 6];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| {
                pair.get(at)
                    .and_then(|&digit| char::from(digit).to_digit(16))
                    .and_then(|value| u8::try_from(value).ok())
                    .ok_or_else(|| refuse("it has a digit that is not hexadecimal"))
            };
            *byte = digit(0)? << 4 | digit(1)?;
        }
        Self::new(bytes)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for MacAddr {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_three_ways_people_and_firmware_write_it() {
        let want = MacAddr::new([0x52, 0x54, 0, 0x77, 0, 0xab]).unwrap();
        for text in ["52:54:00:77:00:ab", "52-54-00-77-00-AB", "5254007700AB"] {
            assert_eq!(text.parse::<MacAddr>().as_ref(), Ok(&want), "{text}");
        }
        assert_eq!(want.to_string(), "52:54:00:77:00:ab");
        assert_eq!(want.hyphenated(), "52-54-00-77-00-ab");
    }

    #[test]
    fn refuses_what_is_not_one_machines_address() {
        for text in [
            "",
            "52:54:00:77:00",
            "52:54:00:77:00:0g",
            "52:54-00:77:00:01",
            "5:254:00:77:00:01",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "52:54:00:77:00:01 ",
            "５２:54:00:77:00",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes: [u8; 6]) {
            if let Ok(mac) = MacAddr::new(bytes) {
                prop_assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
                prop_assert_eq!(mac.hyphenated().parse::<MacAddr>().unwrap(), mac);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<MacAddr>();
        }
    }
}
