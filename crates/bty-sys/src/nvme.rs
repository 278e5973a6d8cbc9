//! Commands to an NVMe controller, past the block layer (`linux/nvme_ioctl.h`).

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

mod raw {
    //! The calls as nix makes them; unsafe, since the kernel can't check what a pointer points to.
    #![allow(
        missing_docs,
        unreachable_pub,
        reason = "named as in linux/nvme_ioctl.h, and as visible as the call"
    )]

    use nix::{ioctl_none_bad, ioctl_readwrite, request_code_none};

    /// `struct nvme_passthru_cmd`.
    #[repr(C)]
    #[derive(Debug, Default)]
    pub struct PassthruCommand {
        pub opcode: u8,
        pub flags: u8,
        pub rsvd1: u16,
        pub nsid: u32,
        pub cdw2: u32,
        pub cdw3: u32,
        pub metadata: u64,
        pub addr: u64,
        pub metadata_len: u32,
        pub data_len: u32,
        pub cdw10: u32,
        pub cdw11: u32,
        pub cdw12: u32,
        pub cdw13: u32,
        pub cdw14: u32,
        pub cdw15: u32,
        pub timeout_ms: u32,
        pub result: u32,
    }

    ioctl_none_bad!(nvme_ioctl_id, request_code_none!(b'N', 0x40));
    ioctl_readwrite!(nvme_ioctl_admin_cmd, b'N', 0x41, PassthruCommand);
}

/// An admin command that brings data, or has none to move. The fields are those of a submission queue entry (NVMe Base 2.0, section 3.3.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NvmeCommand {
    /// Which command.
    pub opcode: u8,
    /// The namespace.
    pub namespace: u32,
    /// Command dword 10.
    pub dword10: u32,
    /// Command dword 11.
    pub dword11: u32,
    /// How long the controller may take.
    pub timeout: Duration,
}

/// The number of the namespace that this block device is.
pub fn nvme_namespace(device: &File) -> io::Result<u32> {
    // SAFETY: NVME_IOCTL_ID takes no argument.
    let id = unsafe { raw::nvme_ioctl_id(device.as_fd().as_raw_fd()) }?;
    u32::try_from(id).map_err(io::Error::other)
}

/// Has the controller carry out a command that fills `data`, and gives its status: 0 where all went well, else status code type and code
/// (section 3.3.3.2.1) without the phase.
pub fn nvme_admin(device: &File, command: NvmeCommand, data: &mut [u8]) -> io::Result<u16> {
    let mut passed = raw::PassthruCommand {
        opcode: command.opcode,
        nsid: command.namespace,
        addr: if data.is_empty() { 0 } else { data.as_mut_ptr().expose_provenance() as u64 },
        data_len: u32::try_from(data.len()).map_err(io::Error::other)?,
        cdw10: command.dword10,
        cdw11: command.dword11,
        timeout_ms: u32::try_from(command.timeout.as_millis()).unwrap_or(u32::MAX),
        ..raw::PassthruCommand::default()
    };
    // SAFETY: `passed` is the structure that the call wants, laid out as in C; the kernel writes at most data_len bytes to addr, which is
    // `data`, ours alone through the call.
    let status = unsafe { raw::nvme_ioctl_admin_cmd(device.as_fd().as_raw_fd(), &raw mut passed) }?;
    u16::try_from(status).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_is_as_long_as_the_kernels() {
        assert_eq!(size_of::<raw::PassthruCommand>(), 72);
    }

    #[test]
    fn what_is_no_nvme_disk_refuses() {
        let file = File::open("/dev/null").unwrap();
        assert!(nvme_namespace(&file).is_err());
        let command = NvmeCommand { opcode: 6, ..NvmeCommand::default() };
        assert!(nvme_admin(&file, command, &mut [0; 4096]).is_err());
    }
}
