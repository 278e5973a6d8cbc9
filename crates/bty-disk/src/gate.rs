//! Whether a disk may be written: everything that speaks against it, before the first byte.

use bty_types::ErrorKind;

use crate::Disk;

/// What an image needs of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of the raw disk; 0 where that is not known before the end.
    pub raw_bytes: u64,
    /// The sector size that its partition table was made for; 0 where any will do.
    pub sector_bytes: u32,
}

/// A disk that must not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The kernel refuses writes.
    #[error("{disk} is read-only; is there a switch on it, or is it failing?")]
    ReadOnly {
        /// The disk.
        disk: String,
    },
    /// Something uses it.
    #[error("{disk} is in use; unmount it and stop what uses it")]
    InUse {
        /// The disk, with what uses it.
        disk: String,
    },
    /// It has no room.
    #[error("{disk} is too small: the image needs {needs} bytes, the disk has {has}")]
    TooSmall {
        /// The disk.
        disk: String,
        /// What the image needs.
        needs: u64,
        /// What the disk has.
        has: u64,
    },
    /// Its sectors have another size than the image's partition table counts in.
    #[error(
        "{disk} has sectors of {has} bytes, and the image is made for {needs}: it would not boot"
    )]
    SectorSize {
        /// The disk.
        disk: String,
        /// What the image needs.
        needs: u32,
        /// What the disk has.
        has: u32,
    },
}

impl GateError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadOnly { .. }
            | Self::InUse { .. }
            | Self::TooSmall { .. }
            | Self::SectorSize { .. } => ErrorKind::Precondition,
        }
    }

    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ReadOnly { .. } => "DISK_READ_ONLY",
            Self::InUse { .. } => "DISK_IN_USE",
            Self::TooSmall { .. } => "DISK_TOO_SMALL",
            Self::SectorSize { .. } => "DISK_SECTOR_SIZE",
        }
    }
}

/// Passes a disk that may be written with an image that needs this.
pub fn gate(disk: &Disk, needs: Needs) -> Result<(), GateError> {
    let shown = disk.to_string();
    if disk.read_only {
        return Err(GateError::ReadOnly { disk: shown });
    }
    if !disk.in_use.is_empty() {
        return Err(GateError::InUse { disk: shown });
    }
    if disk.size_bytes < needs.raw_bytes.max(1) {
        return Err(GateError::TooSmall {
            disk: shown,
            needs: needs.raw_bytes,
            has: disk.size_bytes,
        });
    }
    if needs.sector_bytes != 0 && needs.sector_bytes != disk.logical_sector_bytes {
        let (needs, has) = (needs.sector_bytes, disk.logical_sector_bytes);
        return Err(GateError::SectorSize { disk: shown, needs, has });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn good() -> Disk {
        Disk {
            path: "/dev/sda".into(),
            size_bytes: 1000,
            logical_sector_bytes: 512,
            ..Disk::default()
        }
    }

    #[test]
    fn each_thing_that_speaks_against_a_disk_stops_it() {
        let needs = Needs { raw_bytes: 1000, sector_bytes: 512 };
        assert_eq!(gate(&good(), needs), Ok(()));
        let refused = [
            (Disk { read_only: true, ..good() }, "DISK_READ_ONLY"),
            (Disk { in_use: vec!["/dev/sda1 is mounted on /".into()], ..good() }, "DISK_IN_USE"),
            (Disk { size_bytes: 999, ..good() }, "DISK_TOO_SMALL"),
            (Disk { logical_sector_bytes: 4096, ..good() }, "DISK_SECTOR_SIZE"),
        ];
        for (disk, reason) in refused {
            assert_eq!(gate(&disk, needs).unwrap_err().reason(), reason);
        }
    }

    #[test]
    fn an_image_without_a_table_fits_any_sector_size() {
        let disk = Disk { logical_sector_bytes: 4096, ..good() };
        assert_eq!(gate(&disk, Needs { raw_bytes: 1000, sector_bytes: 0 }), Ok(()));
    }

    proptest! {
        #[test]
        fn a_disk_in_use_never_passes(uses in proptest::collection::vec("[a-z]{1,9}", 1..3), raw_bytes: u64, sector_bytes: u32) {
            let disk = Disk { in_use: uses, size_bytes: u64::MAX, ..good() };
            let needs = Needs { raw_bytes, sector_bytes };
            prop_assert!(gate(&disk, needs).is_err());
        }
    }
}
