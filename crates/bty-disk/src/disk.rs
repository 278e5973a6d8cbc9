//! What is known of a disk.

use std::fmt;

/// A block device that is a whole disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// Device node, such as `/dev/nvme0n1`.
    pub path: String,
    /// Serial number without padding; empty where there is none.
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
    /// What uses it, one sentence each; empty where it is free.
    pub in_use: Vec<String>,
}

impl fmt::Display for Disk {
    /// One line that lets a person tell it from the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none =
            |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
        #[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
        let gigabytes = self.size_bytes as f64 / 1e9;
        write!(
            f,
            "{} (serial {}, {gigabytes:.1} GB, sectors of {} bytes, model {})",
            self.path,
            or_none(&self.serial),
            self.logical_sector_bytes,
            or_none(&self.model)
        )?;
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
