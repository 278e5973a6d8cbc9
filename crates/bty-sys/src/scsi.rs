//! Commands to a SCSI device, past the block layer (scsi/sg.h).

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use nix::libc;

mod raw {
    //! The call as nix makes it; unsafe, since the kernel can't check what a pointer points to.
    #![allow(
        missing_docs,
        unreachable_pub,
        reason = "named as in scsi/sg.h, and as visible as the call"
    )]

    use nix::{ioctl_readwrite_bad, libc};

    /// `struct sg_io_hdr`.
    #[repr(C)]
    #[derive(Debug)]
    pub struct SgIoHeader {
        pub interface_id: libc::c_int,
        pub dxfer_direction: libc::c_int,
        pub cmd_len: libc::c_uchar,
        pub mx_sb_len: libc::c_uchar,
        pub iovec_count: libc::c_ushort,
        pub dxfer_len: libc::c_uint,
        pub dxferp: *mut libc::c_void,
        pub cmdp: *const libc::c_uchar,
        pub sbp: *mut libc::c_uchar,
        pub timeout: libc::c_uint,
        pub flags: libc::c_uint,
        pub pack_id: libc::c_int,
        pub usr_ptr: *mut libc::c_void,
        pub status: libc::c_uchar,
        pub masked_status: libc::c_uchar,
        pub msg_status: libc::c_uchar,
        pub sb_len_wr: libc::c_uchar,
        pub host_status: libc::c_ushort,
        pub driver_status: libc::c_ushort,
        pub resid: libc::c_int,
        pub duration: libc::c_uint,
        pub info: libc::c_uint,
    }

    ioctl_readwrite_bad!(sg_io, 0x2285, SgIoHeader);
}

const NO_DATA: libc::c_int = -1;
const TO_DEVICE: libc::c_int = -2;
const FROM_DEVICE: libc::c_int = -3;
const SENSE_BYTES: u8 = 64;

/// What a SCSI command moves.
#[derive(Debug)]
pub enum ScsiData<'a> {
    /// Nothing.
    None,
    /// The device fills this.
    FromDevice(&'a mut [u8]),
    /// The device is given this.
    ToDevice(&'a [u8]),
}

/// How a SCSI command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScsiAnswer {
    /// The device's status (SAM-5, section 5.3.1): 0 for GOOD, 2 for CHECK CONDITION.
    pub status: u8,
    /// Why the adapter could not deliver it; 0 where it did.
    pub host_status: u16,
    /// Sense data (SPC-5, section 4.4); empty where there is none.
    pub sense: Vec<u8>,
}

/// Has the device carry out this command descriptor block.
pub fn scsi_command(
    device: &File,
    block: &[u8],
    data: ScsiData<'_>,
    timeout: Duration,
) -> io::Result<ScsiAnswer> {
    let (dxfer_direction, dxferp, bytes) = match data {
        ScsiData::None => (NO_DATA, std::ptr::null_mut(), 0),
        ScsiData::FromDevice(to) => (FROM_DEVICE, to.as_mut_ptr().cast(), to.len()),
        // The kernel only reads it: the direction says so.
        ScsiData::ToDevice(from) => (TO_DEVICE, from.as_ptr().cast_mut().cast(), from.len()),
    };
    let mut sense = [0_u8; SENSE_BYTES as usize];
    let mut header = raw::SgIoHeader {
        interface_id: libc::c_int::from(b'S'),
        dxfer_direction,
        cmd_len: u8::try_from(block.len()).map_err(io::Error::other)?,
        mx_sb_len: SENSE_BYTES,
        iovec_count: 0,
        dxfer_len: u32::try_from(bytes).map_err(io::Error::other)?,
        dxferp,
        cmdp: block.as_ptr(),
        sbp: sense.as_mut_ptr(),
        timeout: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        flags: 0,
        pack_id: 0,
        usr_ptr: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: `header` is the structure that the call wants, laid out as in C. The kernel reads cmd_len bytes of `block`, moves at most
    // dxfer_len bytes of the caller's data in the direction named, and writes at most mx_sb_len to `sense`; all live through the call.
    unsafe { raw::sg_io(device.as_fd().as_raw_fd(), &raw mut header) }?;
    let sense = sense.get(..usize::from(header.sb_len_wr)).unwrap_or(&sense).to_vec();
    Ok(ScsiAnswer { status: header.status, host_status: header.host_status, sense })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_scsi_disk_refuses() {
        let file = File::open("/dev/null").unwrap();
        let second = Duration::from_secs(1);
        assert!(scsi_command(&file, &[0; 6], ScsiData::None, second).is_err());
        let mut room = [0; 36];
        let inquiry = [0x12, 0, 0, 0, 36, 0];
        assert!(scsi_command(&file, &inquiry, ScsiData::FromDevice(&mut room), second).is_err());
    }
}
