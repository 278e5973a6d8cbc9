//! What a disk is told besides reading and writing: commands of its own protocol, past the block layer.

use std::{io, time::Duration};

use bty_sys::{NvmeCommand, ScsiAnswer, ScsiData};

use crate::{Disk, device::BlockDevice};

/// A disk's own commands. What a disk hasn't got is [`io::ErrorKind::Unsupported`].
pub trait Commands: Sync {
    /// The number of the NVMe namespace that it is.
    fn nvme_namespace(&self) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Carries out an NVMe admin command that fills `data`; gives the controller's status, 0 where all went well.
    fn nvme(&self, _command: NvmeCommand, _data: &mut [u8]) -> io::Result<u16> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Carries out a SCSI command.
    fn scsi(
        &self,
        _block: &[u8],
        _data: ScsiData<'_>,
        _timeout: Duration,
    ) -> io::Result<ScsiAnswer> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether it takes discards.
    fn takes_discards(&self) -> bool {
        false
    }

    /// Discards, and has the disk erase every copy.
    fn secure_discard(&self, _offset: u64, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Commands for BlockDevice {
    fn nvme_namespace(&self) -> io::Result<u32> {
        bty_sys::nvme_namespace(self.file())
    }

    fn nvme(&self, command: NvmeCommand, data: &mut [u8]) -> io::Result<u16> {
        bty_sys::nvme_admin(self.file(), command, data)
    }

    fn scsi(&self, block: &[u8], data: ScsiData<'_>, timeout: Duration) -> io::Result<ScsiAnswer> {
        bty_sys::scsi_command(self.file(), block, data, timeout)
    }

    fn takes_discards(&self) -> bool {
        self.has_queue_limit("discard_max_bytes")
    }

    fn secure_discard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        bty_sys::secure_discard(self.file(), offset, bytes)
    }
}

/// Whose commands a disk may understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// NVMe's.
    Nvme,
    /// ATA's, through SCSI (SAT-4). Whether it does shows only when it is asked: a SAS disk is attached the same way.
    Ata,
    /// The same, through a USB adapter, of which many don't pass them on, and some hang.
    AtaOverUsb,
    /// Neither: virtio, eMMC, a loop device.
    None,
}

impl Protocol {
    /// By how the disk is attached.
    pub fn of(disk: &Disk) -> Self {
        match disk.transport.as_str() {
            "nvme" => Self::Nvme,
            "sata" | "sas" | "scsi" => Self::Ata,
            "usb" => Self::AtaOverUsb,
            _ => Self::None,
        }
    }
}

/// A command that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The kernel did not pass it on, or the disk did not answer in time.
    #[error("{command} did not get through")]
    Io {
        /// Which command.
        command: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The adapter could not deliver it.
    #[error("{command} did not get through: the adapter reports 0x{host_status:02x}{}", if *host_status == 3 { ", a time-out" } else { "" })]
    Adapter {
        /// Which command.
        command: &'static str,
        /// The kernel's code of the adapter's state (`scsi/scsi_status.h`).
        host_status: u16,
    },
    /// Nothing there knows ATA.
    #[error(
        "it takes no ATA commands; USB adapters and RAID controllers often don't pass them on: attach the disk to a SATA port"
    )]
    NoAta,
    /// What came as an ATA disk's description is none.
    #[error("what it says of itself as an ATA disk is garbled; is it behind a USB adapter?")]
    Garbled,
    /// The ATA disk refuses.
    #[error("the disk refuses {command} (status 0x{status:02x}, error 0x{error:02x})")]
    Ata {
        /// Which command.
        command: &'static str,
        /// The status register (ACS-4, section 6.2).
        status: u8,
        /// The error register (section 6.3).
        error: u8,
    },
    /// The NVMe controller refuses.
    #[error("the controller refuses {command} (status 0x{status:03x})")]
    Nvme {
        /// Which command.
        command: &'static str,
        /// Status code type and code (NVMe Base 2.0, section 3.3.3.2.1).
        status: u16,
    },
}

impl CommandError {
    /// What is wrong, and what the kernel says of it: for a list, where each takes a line.
    pub(crate) fn with_source(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_follows_the_transport() {
        let cases = [
            ("nvme", Protocol::Nvme),
            ("sata", Protocol::Ata),
            ("sas", Protocol::Ata),
            ("usb", Protocol::AtaOverUsb),
            ("virtio", Protocol::None),
            ("loop", Protocol::None),
            ("mmc", Protocol::None),
            ("", Protocol::None),
        ];
        for (transport, protocol) in cases {
            let disk = Disk { transport: transport.into(), ..Disk::default() };
            assert_eq!(Protocol::of(&disk), protocol, "{transport}");
        }
    }
}
