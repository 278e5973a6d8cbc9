//! A publisher's list of checksums: `SHA256SUMS` and the like.

use crate::Checksum;

/// The checksums of several files, as sha256sum, sha512sum and BSD's sha256 write them (`--tag`).
///
/// Lines that say something else (comments, a signature around the list, other algorithms) are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChecksumList(Vec<(String, Checksum)>);

/// Why a list doesn't say what a file's checksum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotListed {
    /// It has no checksum in it.
    #[error("it has no SHA-256 and no SHA-512 checksum in it")]
    Empty,
    /// It has others.
    #[error("it has no checksum of that file")]
    Absent,
    /// Several files in it are called so.
    #[error("it has several files of that name, with other checksums")]
    Ambiguous,
}

impl ChecksumList {
    /// Reads a list.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(entry).collect())
    }

    /// The files, without the folders that they are in, and their checksums.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Checksum)> {
        self.0.iter().map(|(name, checksum)| (name.as_str(), *checksum))
    }

    /// The checksum of the file of this name; SHA-512 where the list has both.
    pub fn of(&self, name: &str) -> Result<Checksum, NotListed> {
        if self.0.is_empty() {
            return Err(NotListed::Empty);
        }
        let mut found: [Option<Checksum>; 2] = [None; 2];
        for (_, checksum) in self.entries().filter(|(listed, _)| *listed == name) {
            let [sha512, sha256] = &mut found;
            let slot = match checksum {
                Checksum::Sha512(_) => sha512,
                Checksum::Sha256(_) => sha256,
            };
            if slot.replace(checksum).is_some_and(|other| other != checksum) {
                return Err(NotListed::Ambiguous);
            }
        }
        found.into_iter().flatten().next().ok_or(NotListed::Absent)
    }
}

fn entry(line: &str) -> Option<(String, Checksum)> {
    let line = line.trim_end();
    let (digits, name) = tagged(line).or_else(|| {
        // Behind the digits one blank, then another for text or a star for bytes.
        let (digits, name) = line.split_once(' ')?;
        Some((digits, name.strip_prefix(['*', ' ']).unwrap_or(name)))
    })?;
    let algorithm = match digits.len() {
        64 => "sha256",
        128 => "sha512",
        _ => return None,
    };
    let checksum = format!("{algorithm}:{}", digits.to_ascii_lowercase()).parse().ok()?;
    let name = name.rsplit('/').next().unwrap_or_default();
    (!name.is_empty()).then(|| (name.to_owned(), checksum))
}

/// BSD's form: `SHA256 (NAME) = DIGITS`.
fn tagged(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("SHA256 (").or_else(|| line.strip_prefix("SHA512 ("))?;
    let (name, digits) = rest.rsplit_once(") = ")?;
    Some((digits, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sha256(digits: &str) -> Checksum {
        format!("sha256:{}", digits.repeat(32)).parse().unwrap()
    }

    #[test]
    fn every_form_of_a_line_is_read() {
        let (a, b) = ("0a".repeat(32), "0B".repeat(32));
        for list in [
            format!("{a}  disk.img\n{b}  other.img\n"),
            format!("{a} *disk.img\r\n{b} *other.img\r\n"),
            format!("{a}  ./disk.img\n{b}  some/folder/other.img"),
            format!("# disk.img: 5 bytes\nSHA256 (disk.img) = {a}\nSHA256 (other.img) = {b}\n"),
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{a} *disk.img\n{b} *other.img\n-----BEGIN PGP SIGNATURE-----\n\niQ==\n"
            ),
            format!("d41d8cd98f00b204e9800998ecf8427e  disk.img\n{a}  disk.img\n{b}  other.img\n"),
        ] {
            let list = ChecksumList::parse(&list);
            assert_eq!(list.of("disk.img"), Ok(sha256("0a")), "{list:?}");
            assert_eq!(list.of("other.img"), Ok(sha256("0b")), "{list:?}");
            assert_eq!(list.of("disk"), Err(NotListed::Absent));
        }
    }

    #[test]
    fn a_name_is_found_once_or_not() {
        let (a, b, long) = ("0a".repeat(32), "0b".repeat(32), "0c".repeat(64));
        let list = ChecksumList::parse(&format!(
            "{a}  x/disk.img\n{b}  y/disk.img\n{a}  z/one\n{a}  one\n"
        ));
        assert_eq!(list.of("disk.img"), Err(NotListed::Ambiguous));
        assert_eq!(list.of("one"), Ok(sha256("0a")));
        let both = ChecksumList::parse(&format!("{a}  one\n{long}  one\n"));
        assert!(matches!(both.of("one"), Ok(Checksum::Sha512(_))));
        assert_eq!(ChecksumList::parse("<html>Not found</html>").of("one"), Err(NotListed::Empty));
    }

    proptest! {
        #[test]
        fn any_text_is_a_list(text: String, name: String) {
            let _ = ChecksumList::parse(&text).of(&name);
        }

        #[test]
        fn what_is_listed_is_found(names in proptest::collection::hash_set("[a-z][a-z .)(=*]{0,8}[a-z]", 1..8), tagged: bool) {
            let digits = |number: usize| format!("{number:064x}");
            let lines = names.iter().enumerate().map(|(number, name)| {
                if tagged {
                    format!("SHA256 ({name}) = {}\n", digits(number))
                } else {
                    format!("{}  {name}\n", digits(number))
                }
            });
            let list = ChecksumList::parse(&lines.collect::<String>());
            for (number, name) in names.iter().enumerate() {
                prop_assert_eq!(list.of(name), Ok(format!("sha256:{}", digits(number)).parse().unwrap()));
            }
        }
    }
}
