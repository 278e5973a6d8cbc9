//! The name of a file as a client writes it, made into a path that stays below the folder.

use std::fmt;

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// A path below the served folder: parts of printable text, joined by `/`, none of them hidden, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName(String);

/// Why a name can't be one of a file here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It is not text, or too long.
    #[error("the file name is not printable text of at most {MAX_NAME_BYTES} bytes")]
    NotText,
    /// It names the folder itself.
    #[error("the file name is empty")]
    Empty,
    /// It has a part that leads elsewhere.
    #[error("the file name has a part that begins with a dot")]
    Dotted,
}

impl FileName {
    /// Reads a name. Leading and doubled slashes mean nothing, and a backslash is a slash: DOS-born clients write them.
    pub fn parse(raw: &[u8]) -> Result<Self, BadName> {
        // Some boot ROMs take one byte too many from their DHCP option: the end mark, 255, or padding.
        let end =
            raw.iter().rposition(|byte| !matches!(byte, 0xff | b' ')).map_or(0, |last| last + 1);
        let raw = raw.get(..end).unwrap_or_default();
        let text = std::str::from_utf8(raw).map_err(|_| BadName::NotText)?;
        if text.len() > MAX_NAME_BYTES || text.contains(char::is_control) {
            return Err(BadName::NotText);
        }
        let parts: Vec<&str> =
            text.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.is_empty() {
            return Err(BadName::Empty);
        }
        if parts.iter().any(|part| part.starts_with('.')) {
            return Err(BadName::Dotted);
        }
        Ok(Self(parts.join("/")))
    }

    /// The path below the folder.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same name in lower case, where that is another one: some BIOS ROMs ask in upper case for what DHCP named in lower.
    pub fn lower_case(&self) -> Option<Self> {
        let lower = self.0.to_ascii_lowercase();
        (lower != self.0).then_some(Self(lower))
    }

    /// Whether this is what iPXE looks for beside itself and runs instead of asking by DHCP.
    pub fn is_autoexec(&self) -> bool {
        self.0.rsplit('/').next() == Some("autoexec.ipxe")
    }

    /// Whether this is a program that firmware starts, by its ending.
    pub fn is_boot_program(&self) -> bool {
        const ENDINGS: [&str; 6] = ["efi", "kpxe", "kkpxe", "pxe", "0", "lkrn"];
        let ending = self.0.rsplit_once('.').map(|(_, ending)| ending);
        ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_made_plain() {
        for raw in [
            "x64/snponly.efi",
            "/x64/snponly.efi",
            "//x64//snponly.efi",
            "\\x64\\snponly.efi",
            "./x64/./snponly.efi",
            "x64/snponly.efi ",
        ] {
            assert_eq!(FileName::parse(raw.as_bytes()).unwrap().as_str(), "x64/snponly.efi");
        }
        let with_end_mark = FileName::parse(b"undionly.kpxe\xff").unwrap();
        assert_eq!(with_end_mark.as_str(), "undionly.kpxe");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for raw in ["..", "../x", "x/..", "x/../../y", "\\..\\x", ".hidden", "x/.y", "..."] {
            assert_eq!(FileName::parse(raw.as_bytes()), Err(BadName::Dotted), "{raw}");
        }
        for raw in ["", "/", "\\", ".", "./", "\u{ff}"] {
            let got = FileName::parse(raw.as_bytes());
            assert!(got == Err(BadName::Empty) || raw == "\u{ff}", "{raw}: {got:?}");
        }
        for raw in [b"a\nb".as_slice(), b"a\x80b", &[b'x'; 513]] {
            assert_eq!(FileName::parse(raw), Err(BadName::NotText));
        }
    }

    #[test]
    fn upper_case_has_a_lower_case_twin() {
        let name = FileName::parse(b"X64/SNPONLY.EFI").unwrap();
        assert_eq!(name.lower_case().unwrap().as_str(), "x64/snponly.efi");
        assert_eq!(name.lower_case().unwrap().lower_case(), None);
        assert!(name.is_boot_program());
        assert!(!FileName::parse(b"autoexec.ipxe").unwrap().is_boot_program());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_name_that_leads_elsewhere(raw in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(name) = FileName::parse(&raw) {
                prop_assert!(!name.as_str().starts_with('/'));
                prop_assert!(name.as_str().split('/').all(|part| !part.is_empty() && !part.starts_with('.')));
            }
        }

        #[test]
        fn dots_and_slashes_never_lead_elsewhere(raw in "[./\\\\a]{0,20}") {
            if let Ok(name) = FileName::parse(raw.as_bytes()) {
                prop_assert!(name.as_str().split('/').all(|part| part.bytes().next() == Some(b'a')));
            }
        }
    }
}
