//! A boot entry of the firmware: the content of a variable `Boot####` (`EFI_LOAD_OPTION`: UEFI 2.10, section 3.1.3).

use super::device_path::{self, HardDrive, Node};

/// The firmware boots it.
const ACTIVE: u32 = 1;
/// What sort of program it is; zero for what boots a system.
const CATEGORY: u32 = 0x1f00;

/// A boot entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOption {
    /// Its attributes.
    pub attributes: u32,
    /// What people are shown.
    pub label: String,
    /// Where it leads; empty where the path is none.
    pub path: Vec<Node>,
    /// Whether its program gets arguments. fwupd's entry is the system's own loader with one, and updates firmware.
    pub has_arguments: bool,
}

impl LoadOption {
    /// Reads one; `None` where the bytes are none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (attributes, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let units = rest.as_chunks::<2>().0;
        let end = units.iter().position(|unit| *unit == [0, 0])?;
        let (label, rest) = rest.split_at_checked(2 * end)?;
        let rest = rest.get(2..)?;
        let (path, arguments) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        Some(Self {
            attributes: u32::from_le_bytes(*attributes),
            label: device_path::text(label),
            path: device_path::parse(path).unwrap_or_default(),
            has_arguments: !arguments.is_empty(),
        })
    }

    /// An entry that boots this file of this partition.
    pub fn build(label: &str, drive: &HardDrive, file: &str) -> Vec<u8> {
        let path = device_path::of_file(drive, file);
        let mut bytes = ACTIVE.to_le_bytes().to_vec();
        bytes.extend(u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(label.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        bytes.extend(path);
        bytes
    }

    /// Whether it is a plain way to this file: one that the firmware boots, without arguments.
    pub fn boots(&self, drive: &HardDrive, file: &str) -> bool {
        let is_plain = self.attributes & (ACTIVE | CATEGORY) == ACTIVE && !self.has_arguments;
        let leads_there = device_path::file_of(&self.path)
            .is_some_and(|(on, to)| on == *drive && to.eq_ignore_ascii_case(file));
        is_plain && leads_there
    }

    /// Whether it boots from a network.
    pub fn is_network(&self) -> bool {
        self.path.contains(&Node::Network)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::device_path::Signature, *};

    const DRIVE: HardDrive =
        HardDrive { partition: 1, start: 2048, size: 4096, signature: Signature::Mbr(0x1234_5678) };
    const FILE: &str = "\\EFI\\BOOT\\BOOTX64.EFI";

    fn built() -> Vec<u8> {
        LoadOption::build("bty: S1", &DRIVE, FILE)
    }

    #[test]
    fn only_a_plain_active_entry_for_the_very_file_boots_it() {
        let boots = |bytes: &[u8]| LoadOption::parse(bytes).unwrap().boots(&DRIVE, FILE);
        assert!(boots(&built()));
        let changed = |at: usize, byte: u8| {
            let mut bytes = built();
            bytes[at] = byte;
            bytes
        };
        assert!(!boots(&changed(0, 0)), "inactive");
        assert!(!boots(&changed(1, 1)), "an application");
        assert!(!boots(&[built(), vec![0]].concat()), "with arguments");
        let option = LoadOption::parse(&built()).unwrap();
        assert!(option.boots(&DRIVE, "\\efi\\boot\\bootx64.efi"), "FAT knows no case");
        assert!(!option.boots(&DRIVE, "\\EFI\\debian\\shimx64.efi"));
        assert!(!option.boots(&HardDrive { start: 4096, ..DRIVE }, FILE), "another partition");
        assert!(!option.is_network());
    }

    #[test]
    fn what_is_cut_off_is_no_entry() {
        let bytes = built();
        for length in 0..bytes.len() {
            assert_eq!(LoadOption::parse(&bytes[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn an_entry_reads_back(label in "[^\0]{0,40}", file in "\\\\EFI\\\\[a-z.]{1,40}") {
            let option = LoadOption::parse(&LoadOption::build(&label, &DRIVE, &file)).unwrap();
            prop_assert_eq!(&option.label, &label);
            prop_assert!(option.boots(&DRIVE, &file));
        }

        #[test]
        fn any_bytes_are_parsed_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = LoadOption::parse(&bytes);
        }

        #[test]
        fn damage_is_parsed_or_not(at in 0..100_usize, byte: u8) {
            let mut bytes = built();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = LoadOption::parse(&bytes);
        }
    }
}
