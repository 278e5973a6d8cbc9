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
    #[error("{count} disks are {selector}; name one by its serial or WWN; {disks}")]
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
        DiskSelector::Wwn(wwn) => !disk.wwn.is_empty() && bare(&disk.wwn) == bare(wwn),
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

/// Tools write the same number as `0x5000…`, `naa.5000…` and `wwn-0x5000…`.
fn bare(wwn: &str) -> String {
    let wwn = wwn.to_ascii_lowercase();
    let kinds = ["wwn-0x", "naa.", "0x"];
    kinds.iter().find_map(|kind| wwn.strip_prefix(kind)).unwrap_or(&wwn).to_owned()
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

    #[test]
    fn a_wwn_is_known_however_tools_write_it() {
        let sda = Disk { wwn: "0x5000c500a1b2c3d4".into(), ..disk("/dev/sda", "") };
        let nvme = Disk { wwn: "eui.0025385b61b0a1c2".into(), ..disk("/dev/nvme0n1", "") };
        let disks = [sda, nvme, disk("/dev/sdb", "")];
        for (wwn, path) in [
            ("0x5000C500A1B2C3D4", "/dev/sda"),
            ("naa.5000c500a1b2c3d4", "/dev/sda"),
            ("5000c500a1b2c3d4", "/dev/sda"),
            ("eui.0025385b61b0a1c2", "/dev/nvme0n1"),
        ] {
            assert_eq!(select(&DiskSelector::Wwn(wwn.into()), &disks).unwrap().path, path);
        }
        for wwn in ["5000c500a1b2c3d", "0x", "naa."] {
            let problem = select(&DiskSelector::Wwn(wwn.into()), &disks).unwrap_err();
            assert_eq!(problem.reason(), "DISK_ABSENT");
        }
    }

    proptest! {
        #[test]
        fn a_disk_with_another_serial_is_never_chosen(serials in proptest::collection::vec("[A-C]{0,2}", 0..6), wanted in "[A-C]{1,2}") {
            let disks: Vec<Disk> =
                serials.iter().enumerate().map(|(at, serial)| disk(&format!("/dev/sd{at}"), serial)).collect();
            let is_one = serials.iter().filter(|serial| **serial == wanted).count() == 1;
            let chosen = select(&DiskSelector::Serial(wanted.clone()), &disks).ok();
            prop_assert_eq!(chosen.map(|disk| disk.serial.clone()), is_one.then_some(wanted));
        }
    }
}
