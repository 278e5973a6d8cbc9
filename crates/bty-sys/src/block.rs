//! What block devices are asked by ioctl (linux/fs.h).

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::libc;

mod raw {
    //! The calls as nix makes them; unsafe, since the kernel can't check what a pointer points to.
    #![allow(missing_docs, reason = "named as in linux/fs.h")]

    use nix::{ioctl_none, ioctl_read_bad, ioctl_write_ptr_bad, libc, request_code_none};

    ioctl_none!(blkrrpart, 0x12, 95);
    ioctl_read_bad!(blksszget, request_code_none!(0x12, 104), libc::c_int);
    ioctl_read_bad!(blkpbszget, request_code_none!(0x12, 123), libc::c_uint);
    ioctl_write_ptr_bad!(blkdiscard, request_code_none!(0x12, 119), [u64; 2]);
    ioctl_write_ptr_bad!(blksecdiscard, request_code_none!(0x12, 125), [u64; 2]);
    ioctl_write_ptr_bad!(blkzeroout, request_code_none!(0x12, 127), [u64; 2]);
}

/// Sizes of a device's logical and physical sectors, in bytes.
pub fn sector_sizes(device: &File) -> io::Result<(u32, u32)> {
    let fd = device.as_fd().as_raw_fd();
    let mut logical: libc::c_int = 0;
    let mut physical: libc::c_uint = 0;
    // SAFETY: BLKSSZGET writes one int, and `logical` is one that lives through the call.
    unsafe { raw::blksszget(fd, &raw mut logical) }?;
    // SAFETY: BLKPBSZGET writes one unsigned int, and `physical` is one that lives through the call.
    unsafe { raw::blkpbszget(fd, &raw mut physical) }?;
    Ok((u32::try_from(logical).map_err(io::Error::other)?, physical))
}

/// Makes these bytes of a device read as zeros, by the fastest means that the device has (`BLKZEROOUT`); offset and length are
/// multiples of its sector.
pub fn zero_out(device: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let range = [offset, bytes];
    // SAFETY: BLKZEROOUT reads two u64, and `range` is two that live through the call.
    unsafe { raw::blkzeroout(device.as_fd().as_raw_fd(), &raw const range) }?;
    Ok(())
}

/// Tells a device that these bytes are of no more use (`BLKDISCARD`); what they read as afterwards is up to it. Offset and length are
/// multiples of its sector.
pub fn discard(device: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let range = [offset, bytes];
    // SAFETY: BLKDISCARD reads two u64, and `range` is two that live through the call.
    unsafe { raw::blkdiscard(device.as_fd().as_raw_fd(), &raw const range) }?;
    Ok(())
}

/// The same, and the device is to erase every copy that it has of them (`BLKSECDISCARD`); few can.
pub fn secure_discard(device: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let range = [offset, bytes];
    // SAFETY: BLKSECDISCARD reads two u64, and `range` is two that live through the call.
    unsafe { raw::blksecdiscard(device.as_fd().as_raw_fd(), &raw const range) }?;
    Ok(())
}

/// Has the kernel read the device's partition table again (`BLKRRPART`).
pub fn reread_partitions(device: &File) -> io::Result<()> {
    // SAFETY: BLKRRPART takes no argument.
    unsafe { raw::blkrrpart(device.as_fd().as_raw_fd()) }?;
    Ok(())
}
