//! What is known of a disk.

use std::fmt;

/// A block device that is a whole disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// Device node, such as `/dev/nvme0n1`.
    pub path: String,
    /// Serial number without padding; empty where there is none. That of the USB device that it is in, where it has none of its own
    /// and no WWN.
    pub serial: String,
    /// World Wide Name; empty where there is none.
    pub wwn: String,
    /// Vendor and model.
    pub model: String,
    /// How it is attached: `nvme`, `sata`, `scsi`, `usb`, `virtio`, `mmc`, `loop`, or empty.
    pub transport: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical sector size in bytes.
    pub logical_sector_bytes: u32,
    /// Physical sector size in bytes.
    pub physical_sector_bytes: u32,
    /// Whether it has platters.
    pub rotational: bool,
    /// Whether a person can pull it out.
    pub removable: bool,
    /// Whether the kernel refuses writes.
    pub read_only: bool,
    /// What uses it; empty where it is free.
    pub in_use: Vec<InUse>,
}

/// Something that uses a disk or a partition of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InUse {
    /// A file system is mounted.
    Mounted {
        /// The disk's or partition's node.
        device: String,
        /// Where.
        at: String,
    },
    /// The kernel swaps to it.
    Swap {
        /// The disk's or partition's node.
        device: String,
    },
    /// Device mapper, md or the like is built on it.
    Held {
        /// The disk's or partition's node.
        device: String,
        /// What is built on it.
        by: String,
    },
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { device, at } => write!(f, "{device} is mounted on {at}"),
            Self::Swap { device } => write!(f, "{device} is swap"),
            Self::Held { device, by } => write!(f, "{device} is held by {by}"),
        }
    }
}

impl Disk {
    /// Whether the running system is on it.
    pub fn is_system(&self) -> bool {
        self.in_use.iter().any(|use_| matches!(use_, InUse::Mounted { at, .. } if at == "/"))
    }

    /// Whether a file system on it is mounted.
    pub fn is_mounted(&self) -> bool {
        self.in_use.iter().any(|use_| matches!(use_, InUse::Mounted { .. }))
    }
}

impl fmt::Display for Disk {
    /// One line that lets a person tell it from the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none =
            |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
        #[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
        let gigabytes = self.size_bytes as f64 / 1e9;
        let number = match (self.serial.as_str(), self.wwn.as_str()) {
            ("", wwn) if !wwn.is_empty() => format!("WWN {wwn}"),
            (serial, _) => format!("serial {}", or_none(serial)),
        };
        write!(
            f,
            "{} ({number}, {gigabytes:.1} GB, sectors of {} bytes, model {})",
            self.path,
            self.logical_sector_bytes,
            or_none(&self.model)
        )?;
        if self.read_only {
            f.write_str(", read-only")?;
        }
        for use_ in &self.in_use {
            write!(f, ", {use_}")?;
        }
        Ok(())
    }
}

/// The disks there are, a line each, for errors about the wrong one.
pub(crate) fn list(disks: &[Disk]) -> String {
    if disks.is_empty() {
        return "this machine shows no disks: is a driver missing, or a cable?".to_owned();
    }
    let lines: Vec<String> = disks.iter().map(|disk| format!("\n  {disk}")).collect();
    format!("the disks of this machine are:{}", lines.concat())
}
