//! Which disk is meant. Exactly one, or an error that lists the disks there are.

use bty_types::{DiskSelector, ErrorKind};

use crate::{Disk, disk::list};

/// A selector that names no disk, or several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// None fits.
    #[error("there is no disk {selector}; {disks}")]
    Absent {
        /// What was asked for.
        selector: String,
        /// The disks there are.
        disks: String,
    },
    /// Several fit.
    #[error("{count} disks are {selector}; name one by its serial; {disks}")]
    Ambiguous {
        /// What was asked for.
        selector: String,
        /// How many fit.
        count: usize,
        /// The disks there are.
        disks: String,
    },
}

impl SelectError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Absent { .. } | Self::Ambiguous { .. } => ErrorKind::Precondition,
        }
    }

    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "DISK_ABSENT",
            Self::Ambiguous { .. } => "DISK_AMBIGUOUS",
        }
    }
}

/// The one disk that the selector names.
pub fn select<'a>(selector: &DiskSelector, disks: &'a [Disk]) -> Result<&'a Disk, SelectError> {
    let fits = |disk: &&Disk| match selector {
        DiskSelector::Serial(serial) => !disk.serial.is_empty() && disk.serial == *serial,
        DiskSelector::Wwn(wwn) => !disk.wwn.is_empty() && disk.wwn.eq_ignore_ascii_case(wwn),
        DiskSelector::Path(path) => disk.path == *path,
        // A disk that could not be written anyway (the stick that we run from, a card reader) is not a candidate.
        DiskSelector::Only => !disk.read_only && !disk.removable && disk.in_use.is_empty(),
    };
    let fitting: Vec<&Disk> = disks.iter().filter(fits).collect();
    let selector = selector.to_string();
    match fitting.as_slice() {
        [disk] => Ok(disk),
        [] => Err(SelectError::Absent { selector, disks: list(disks) }),
        several => {
            Err(SelectError::Ambiguous { selector, count: several.len(), disks: list(disks) })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn disk(path: &str, serial: &str) -> Disk {
        Disk { path: path.into(), serial: serial.into(), size_bytes: 1 << 30, ..Disk::default() }
    }

    #[test]
    fn the_disk_with_the_serial_is_chosen_and_no_other() {
        let disks = [disk("/dev/sda", "A"), disk("/dev/sdb", "B")];
        let chosen = select(&DiskSelector::Serial("B".into()), &disks).unwrap();
        assert_eq!(chosen.path, "/dev/sdb");
    }

    #[test]
    fn an_absent_serial_lists_the_disks_there_are() {
        let disks = [disk("/dev/sda", "A"), disk("/dev/sdb", "")];
        let shown = select(&DiskSelector::Serial("C".into()), &disks).unwrap_err();
        assert_eq!(shown.reason(), "DISK_ABSENT");
        let shown = shown.to_string();
        assert!(
            shown.contains("serial:C")
                && shown.contains("/dev/sda (serial A")
                && shown.contains("serial none"),
            "{shown}"
        );
    }

    #[test]
    fn only_means_the_one_that_could_be_written() {
        let stick = Disk { removable: true, ..disk("/dev/sdb", "STICK") };
        let disks = [disk("/dev/sda", "A"), stick.clone()];
        assert_eq!(select(&DiskSelector::Only, &disks).unwrap().path, "/dev/sda");
        let two = [disk("/dev/sda", "A"), disk("/dev/sdb", "B")];
        assert_eq!(select(&DiskSelector::Only, &two).unwrap_err().reason(), "DISK_AMBIGUOUS");
        assert_eq!(select(&DiskSelector::Only, &[stick]).unwrap_err().reason(), "DISK_ABSENT");
    }

    proptest! {
        #[test]
        fn a_disk_with_another_serial_is_never_chosen(serials in proptest::collection::vec("[A-C]{0,2}", 0..6), wanted in "[A-C]{1,2}") {
            let disks: Vec<Disk> =
                serials.iter().enumerate().map(|(at, serial)| disk(&format!("/dev/sd{at}"), serial)).collect();
            match select(&DiskSelector::Serial(wanted.clone()), &disks) {
                Ok(chosen) => prop_assert_eq!(&chosen.serial, &wanted),
                Err(_) => prop_assert_ne!(serials.iter().filter(|serial| **serial == wanted).count(), 1),
            }
        }
    }
}
