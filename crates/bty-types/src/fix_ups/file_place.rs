//! Where on a disk a file is put.

use std::{fmt, str::FromStr};

use crate::ParseError;

/// A partition, as a person names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionChoice {
    /// By its number, from 1.
    Number(u32),
    /// The one with the system's root file system.
    Root,
    /// The EFI system partition.
    Esp,
}

/// A path within a file system, from its root: `/` before each part, none of them `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilePath(String);

/// A file's place, written `PART:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilePlace {
    /// The partition.
    pub partition: PartitionChoice,
    /// The path in its file system.
    pub path: FilePath,
}

const MOST_PATH_BYTES: usize = 1024;
const MOST_NAME_BYTES: usize = 255;

impl FromStr for PartitionChoice {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "root" => Ok(Self::Root),
            "esp" => Ok(Self::Esp),
            number => match number.parse() {
                Ok(number @ 1..=1024) => Ok(Self::Number(number)),
                _ => Err(ParseError::new("a partition", text, "it is its number, root or esp")),
            },
        }
    }
}

impl fmt::Display for PartitionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Root => f.write_str("root"),
            Self::Esp => f.write_str("esp"),
        }
    }
}

impl FilePath {
    /// The folders on the way, and the file's name.
    pub fn parts(&self) -> (Vec<&str>, &str) {
        let mut parts: Vec<&str> = self.0.split('/').skip(1).collect();
        let name = parts.pop().unwrap_or_default();
        (parts, name)
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FilePath {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason| Err(ParseError::new("a path in a file system", text, reason));
        let Some(parts) = text.strip_prefix('/') else { return refuse("it begins with /") };
        if text.len() > MOST_PATH_BYTES || text.chars().any(|c| c.is_control() || c == '\\') {
            return refuse("it has over 1024 bytes, a backslash or control characters");
        }
        if parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refuse("a part of it is empty, . or ..");
        }
        if parts.split('/').any(|part| part.len() > MOST_NAME_BYTES) {
            return refuse("a part of it has over 255 bytes");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FilePlace {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (partition, path) = text.split_once(':').ok_or_else(|| {
            ParseError::new("a file's place", text, "it is PART:/path, such as root:/etc/motd")
        })?;
        Ok(Self { partition: partition.parse()?, path: path.parse()? })
    }
}

impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back() {
        for text in ["3:/etc/motd", "root:/a b/c:d=e", "esp:/x"] {
            assert_eq!(text.parse::<FilePlace>().unwrap().to_string(), text);
        }
        let place: FilePlace = "root:/etc/ssh/sshd_config".parse().unwrap();
        assert_eq!(place.path.parts(), (vec!["etc", "ssh"], "sshd_config"));
    }

    #[test]
    fn what_could_lead_out_is_refused() {
        for text in [
            "",
            "3",
            "0:/x",
            "2000:/x",
            "home:/x",
            "1:",
            "1:x",
            "1:/",
            "1:/a//b",
            "1:/a/",
            "1:/..",
            "1:/a/../b",
            "1:/./a",
            "1:/a\0",
            "1:/a\\b",
            "1:/a\nb",
        ] {
            assert!(text.parse::<FilePlace>().is_err(), "{text:?} was accepted");
        }
        assert!(format!("1:/{}", "x".repeat(256)).parse::<FilePlace>().is_err());
        assert!(format!("1:{}", "/x".repeat(513)).parse::<FilePlace>().is_err());
    }
}
