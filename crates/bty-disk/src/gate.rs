//! Whether a disk may be written: everything that speaks against it, before the first byte.

use bty_types::ErrorKind;

use crate::{Disk, disk::list};

/// What an image needs of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of the raw disk; 0 where that is not known before the end.
    pub raw_bytes: u64,
    /// The sector size that its partition table was made for; 0 where any will do.
    pub sector_bytes: u32,
}

/// A disk that must not be written. Each says which, and the disks there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The kernel refuses writes.
    #[error("{disk} is read-only; is there a switch on it, or is it failing? {disks}")]
    ReadOnly {
        /// The disk's node.
        disk: String,
        /// The disks there are.
        disks: String,
    },
    /// The running system is on it.
    #[error("{disk} is the disk that this system runs from; {disks}")]
    System {
        /// The disk's node.
        disk: String,
        /// The disks there are.
        disks: String,
    },
    /// A file system on it is mounted.
    #[error("{disk} is mounted; unmount it first; {disks}")]
    Mounted {
        /// The disk's node.
        disk: String,
        /// The disks there are.
        disks: String,
    },
    /// Something else uses it.
    #[error("{disk} is in use; stop what uses it first; {disks}")]
    InUse {
        /// The disk's node.
        disk: String,
        /// The disks there are.
        disks: String,
    },
    /// It has no room.
    #[error("{disk} is too small: the image needs {needs} bytes, the disk has {has}; {disks}")]
    TooSmall {
        /// The disk's node.
        disk: String,
        /// What the image needs.
        needs: u64,
        /// What the disk has.
        has: u64,
        /// The disks there are.
        disks: String,
    },
    /// Its sectors have another size than the image's partition table counts in.
    #[error(
        "{disk} has sectors of {has} bytes, and the image is made for {needs}: it would not boot; {disks}"
    )]
    SectorSize {
        /// The disk's node.
        disk: String,
        /// What the image needs.
        needs: u32,
        /// What the disk has.
        has: u32,
        /// The disks there are.
        disks: String,
    },
}

impl GateError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadOnly { .. }
            | Self::System { .. }
            | Self::Mounted { .. }
            | Self::InUse { .. }
            | Self::TooSmall { .. }
            | Self::SectorSize { .. } => ErrorKind::Precondition,
        }
    }

    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ReadOnly { .. } => "DISK_READ_ONLY",
            Self::System { .. } => "DISK_IS_SYSTEM",
            Self::Mounted { .. } => "DISK_MOUNTED",
            Self::InUse { .. } => "DISK_IN_USE",
            Self::TooSmall { .. } => "DISK_TOO_SMALL",
            Self::SectorSize { .. } => "DISK_SECTOR_SIZE",
        }
    }
}

/// Passes a disk that may be written with an image that needs this. `disks` are all there are, for the person who chose wrongly.
pub fn gate(disk: &Disk, needs: Needs, disks: &[Disk]) -> Result<(), GateError> {
    let (name, disks) = (disk.path.clone(), || list(disks));
    if disk.is_system() {
        return Err(GateError::System { disk: name, disks: disks() });
    }
    if disk.is_mounted() {
        return Err(GateError::Mounted { disk: name, disks: disks() });
    }
    if !disk.in_use.is_empty() {
        return Err(GateError::InUse { disk: name, disks: disks() });
    }
    if disk.read_only {
        return Err(GateError::ReadOnly { disk: name, disks: disks() });
    }
    let (needed, has) = (needs.raw_bytes.max(1), disk.size_bytes);
    if has < needed {
        return Err(GateError::TooSmall { disk: name, needs: needed, has, disks: disks() });
    }
    let (needed, has) = (needs.sector_bytes, disk.logical_sector_bytes);
    if needed != 0 && needed != has {
        return Err(GateError::SectorSize { disk: name, needs: needed, has, disks: disks() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::InUse;

    fn good() -> Disk {
        Disk {
            path: "/dev/sda".into(),
            serial: "S1".into(),
            size_bytes: 1000,
            logical_sector_bytes: 512,
            ..Disk::default()
        }
    }

    fn mounted(at: &str) -> InUse {
        InUse::Mounted { device: "/dev/sda1".into(), at: at.into() }
    }

    fn held() -> InUse {
        InUse::Held { device: "/dev/sda2".into(), by: "/dev/md0".into() }
    }

    #[test]
    fn each_thing_that_speaks_against_a_disk_stops_it_and_the_disks_are_listed() {
        let needs = Needs { raw_bytes: 1000, sector_bytes: 512 };
        assert_eq!(gate(&good(), needs, &[good()]), Ok(()));
        let swap = InUse::Swap { device: "/dev/sda2".into() };
        let refused = [
            (Disk { read_only: true, ..good() }, "DISK_READ_ONLY"),
            (Disk { in_use: vec![held(), mounted("/")], ..good() }, "DISK_IS_SYSTEM"),
            (Disk { in_use: vec![held(), mounted("/mnt")], ..good() }, "DISK_MOUNTED"),
            (Disk { in_use: vec![held()], ..good() }, "DISK_IN_USE"),
            (Disk { in_use: vec![swap], ..good() }, "DISK_IN_USE"),
            (Disk { size_bytes: 999, ..good() }, "DISK_TOO_SMALL"),
            (Disk { size_bytes: 0, ..good() }, "DISK_TOO_SMALL"),
            (Disk { logical_sector_bytes: 4096, ..good() }, "DISK_SECTOR_SIZE"),
        ];
        let other = Disk { path: "/dev/sdb".into(), serial: "S2".into(), ..good() };
        for (disk, reason) in refused {
            let problem = gate(&disk, needs, &[disk.clone(), other.clone()]).unwrap_err();
            assert_eq!(problem.reason(), reason);
            let shown = problem.to_string();
            assert!(
                shown.starts_with("/dev/sda ")
                    && shown.contains("/dev/sda (serial S1")
                    && shown.contains("/dev/sdb (serial S2"),
                "{shown}"
            );
        }
    }

    #[test]
    fn an_image_without_a_table_fits_any_sector_size() {
        let disk = Disk { logical_sector_bytes: 4096, ..good() };
        assert_eq!(gate(&disk, Needs { raw_bytes: 1000, sector_bytes: 0 }, &[]), Ok(()));
    }

    proptest! {
        #[test]
        fn a_disk_in_use_never_passes(mounts in proptest::collection::vec("/[a-z]{0,9}", 0..3), is_held: bool, raw_bytes: u64, sector_bytes: u32) {
            let mut in_use: Vec<InUse> = mounts.iter().map(|at| mounted(at)).collect();
            if is_held || in_use.is_empty() {
                in_use.push(held());
            }
            let disk = Disk { in_use, size_bytes: u64::MAX, ..good() };
            let needs = Needs { raw_bytes, sector_bytes };
            prop_assert!(gate(&disk, needs, &[]).is_err());
        }
    }
}
