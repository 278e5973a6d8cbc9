//! From a selector to a device that may be written: discovery, selection, gate, and a last look at what was opened.

use std::time::Duration;

use bty_disk::{
    Disk,
    device::{BlockDevice, OpenError, Target},
    discover::System,
    gate::{GateError, Needs, gate},
    health::{self, Health},
    select::{SelectError, select},
};
use bty_types::{DiskSelector, ErrorKind};

/// A disk that must not or can't be written; nothing was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// What disks there are can't be read.
    #[error("looking for disks in /sys")]
    Discover(#[source] std::io::Error),
    /// None or several are meant.
    #[error("choosing the disk")]
    Select(#[from] SelectError),
    /// It must not be written.
    #[error("checking the disk")]
    Gate(#[from] GateError),
    /// It is about to fail.
    #[error(
        "{path} is about to fail ({findings}); replace it, or write it all the same (--failing-disk-ok)"
    )]
    Failing {
        /// The device.
        path: String,
        /// What it says.
        findings: String,
    },
    /// It can't be opened.
    #[error("opening the disk")]
    Open(#[from] OpenError),
    /// What was opened is not what was chosen.
    #[error("{path} changed between choosing and opening it: {what}; nothing was written")]
    Changed {
        /// The device.
        path: String,
        /// What is different.
        what: &'static str,
    },
}

impl TargetError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Discover(_) => ErrorKind::Internal,
            Self::Select(problem) => problem.kind(),
            Self::Gate(problem) => problem.kind(),
            Self::Open(problem) => problem.kind(),
            Self::Failing { .. } | Self::Changed { .. } => ErrorKind::Precondition,
        }
    }

    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Discover(_) => "DISCOVERY_FAILED",
            Self::Select(problem) => problem.reason(),
            Self::Gate(problem) => problem.reason(),
            Self::Open(problem) => problem.reason(),
            Self::Failing { .. } => "DISK_FAILING",
            Self::Changed { .. } => "DISK_CHANGED",
        }
    }
}

/// The disk that the selector names, if it may be written with an image that needs this. A device that is named by its path may be
/// one that is not listed, such as a loop device.
pub(crate) fn choose(
    system: &System,
    selector: &DiskSelector,
    needs: Needs,
) -> Result<Disk, TargetError> {
    let (disk, disks) = look_up(system, selector)?;
    gate(&disk, needs, &disks)?;
    Ok(disk)
}

/// The disk that the selector names, to be read only.
pub(crate) fn find(system: &System, selector: &DiskSelector) -> Result<Disk, TargetError> {
    look_up(system, selector).map(|(disk, _)| disk)
}

/// The disk that the selector names, and all disks.
fn look_up(system: &System, selector: &DiskSelector) -> Result<(Disk, Vec<Disk>), TargetError> {
    let mut disks = system.disks().map_err(TargetError::Discover)?;
    let disk = match selector {
        DiskSelector::Path(path) => match system.named(path) {
            Some(named) => {
                if disks.iter().all(|disk| disk.path != named.path) {
                    disks.push(named.clone());
                }
                named
            }
            None => select(selector, &disks)?.clone(),
        },
        DiskSelector::Serial(_) | DiskSelector::Wwn(_) | DiskSelector::Only => {
            select(selector, &disks)?.clone()
        }
    };
    Ok((disk, disks))
}

/// How long a disk may take to say how it is.
const HEALTH_LIMIT: Duration = Duration::from_secs(20);

/// Passes a disk that doesn't say that it is about to fail, and one that says nothing.
pub(crate) fn check_health(disk: &Disk, failing_is_ok: bool) -> Result<(), TargetError> {
    if failing_is_ok {
        return Ok(());
    }
    let health = health::of_all(std::slice::from_ref(disk), HEALTH_LIMIT).pop();
    match health.filter(Health::is_failing) {
        None => Ok(()),
        Some(health) => {
            let (path, findings) = (disk.path.clone(), health.findings.join("; "));
            Err(TargetError::Failing { path, findings })
        }
    }
}

/// Opens the chosen disk for us alone, and looks once more whether it is the chosen one.
pub(crate) fn open(system: &System, disk: &Disk) -> Result<BlockDevice, TargetError> {
    let device = BlockDevice::open(disk.path.as_ref())?;
    match difference(disk, system.named(&disk.path).as_ref(), device.size_bytes()) {
        None => Ok(device),
        Some(what) => Err(TargetError::Changed { path: disk.path.clone(), what }),
    }
}

/// What is different between the disk that was chosen and the one that was opened.
fn difference(chosen: &Disk, now: Option<&Disk>, opened_bytes: u64) -> Option<&'static str> {
    let Some(now) = now else { return Some("it is gone") };
    if now.serial != chosen.serial || now.wwn != chosen.wwn {
        return Some("its serial number is another");
    }
    (opened_bytes != chosen.size_bytes).then_some("its size is another")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_was_swapped_before_it_was_opened_is_noticed() {
        let chosen = Disk { serial: "S1".into(), size_bytes: 1000, ..Disk::default() };
        assert_eq!(difference(&chosen, Some(&chosen), 1000), None);
        let (other, nameless, wwn) = (
            Disk { serial: "S2".into(), ..chosen.clone() },
            Disk { serial: String::new(), ..chosen.clone() },
            Disk { wwn: "eui.1".into(), ..chosen.clone() },
        );
        for now in [other, nameless, wwn] {
            let found = difference(&chosen, Some(&now), 1000);
            assert_eq!(found, Some("its serial number is another"));
        }
        assert_eq!(difference(&chosen, Some(&chosen), 999), Some("its size is another"));
        assert_eq!(difference(&chosen, None, 1000), Some("it is gone"));
    }
}
