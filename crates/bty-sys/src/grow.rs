//! Making a mounted file system as large as its device, by the calls that each kernel driver has for it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

mod raw {
    //! The calls as nix makes them; unsafe, since the kernel can't check what a pointer points to.
    #![allow(missing_docs, reason = "named as in the kernel's headers")]

    use nix::{ioctl_read, ioctl_write_ptr};

    ioctl_write_ptr!(ext4_ioc_resize_fs, b'f', 16, u64);
    ioctl_write_ptr!(btrfs_ioc_resize, 0x94, 3, super::BtrfsArguments);
    ioctl_read!(xfs_ioc_fsgeometry_v1, b'X', 100, super::XfsGeometry);
    ioctl_write_ptr!(xfs_ioc_fsgrowfsdata, b'X', 110, super::XfsGrow);
}

/// `struct btrfs_ioctl_vol_args` (linux/btrfs.h).
#[derive(Debug)]
#[repr(C)]
#[allow(dead_code, reason = "the kernel reads and writes them")]
pub(crate) struct BtrfsArguments {
    fd: i64,
    name: [u8; 4088],
}

/// `struct xfs_fsop_geom_v1` (`fs/xfs/libxfs/xfs_fs.h`).
#[derive(Debug, Default)]
#[repr(C)]
#[allow(dead_code, reason = "the kernel reads and writes them")]
pub(crate) struct XfsGeometry {
    block_bytes: u32,
    rt_extent_blocks: u32,
    group_blocks: u32,
    groups: u32,
    log_blocks: u32,
    sector_bytes: u32,
    inode_bytes: u32,
    inode_percent: u32,
    data_blocks: u64,
    rt_blocks: u64,
    rt_extents: u64,
    log_start: u64,
    uuid: [u8; 16],
    stripe_unit: u32,
    stripe_width: u32,
    version: i32,
    flags: u32,
    log_sector_bytes: u32,
    rt_sector_bytes: u32,
    folder_block_bytes: u32,
}

/// `struct xfs_growfs_data` (`fs/xfs/libxfs/xfs_fs.h`).
#[derive(Debug)]
#[repr(C)]
#[allow(dead_code, reason = "the kernel reads and writes them")]
pub(crate) struct XfsGrow {
    blocks: u64,
    inode_percent: u32,
}

/// Makes ext4, mounted with its root at `root`, so many blocks large (`EXT4_IOC_RESIZE_FS`).
pub fn grow_ext4(root: BorrowedFd<'_>, blocks: u64) -> io::Result<()> {
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64, and `blocks` is one that lives through the call.
    unsafe { raw::ext4_ioc_resize_fs(root.as_fd().as_raw_fd(), &raw const blocks) }?;
    Ok(())
}

/// Makes btrfs, mounted with its root at `root`, as large as its one device (`BTRFS_IOC_RESIZE`).
pub fn grow_btrfs(root: BorrowedFd<'_>) -> io::Result<()> {
    let mut arguments = BtrfsArguments { fd: 0, name: [0; 4088] };
    let [a, b, c, ..] = &mut arguments.name;
    (*a, *b, *c) = (b'm', b'a', b'x');
    // SAFETY: BTRFS_IOC_RESIZE reads one struct btrfs_ioctl_vol_args, and `arguments` is one, its name ended by a zero, that lives
    // through the call.
    unsafe { raw::btrfs_ioc_resize(root.as_fd().as_raw_fd(), &raw const arguments) }?;
    Ok(())
}

/// Makes XFS, mounted with its root at `root`, fit a device of so many bytes (`XFS_IOC_FSGROWFSDATA`); says whether it was smaller.
pub fn grow_xfs(root: BorrowedFd<'_>, device_bytes: u64) -> io::Result<bool> {
    let fd = root.as_fd().as_raw_fd();
    let mut geometry = XfsGeometry::default();
    // SAFETY: XFS_IOC_FSGEOMETRY_V1 writes one struct xfs_fsop_geom_v1, and `geometry` is one that lives through the call.
    unsafe { raw::xfs_ioc_fsgeometry_v1(fd, &raw mut geometry) }?;
    let blocks = device_bytes / u64::from(geometry.block_bytes.max(512));
    if blocks <= geometry.data_blocks {
        return Ok(false);
    }
    let grow = XfsGrow { blocks, inode_percent: geometry.inode_percent };
    // SAFETY: XFS_IOC_FSGROWFSDATA reads one struct xfs_growfs_data, and `grow` is one that lives through the call.
    unsafe { raw::xfs_ioc_fsgrowfsdata(fd, &raw const grow) }?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_given_what_it_expects() {
        let sizes = (size_of::<BtrfsArguments>(), size_of::<XfsGeometry>(), size_of::<XfsGrow>());
        assert_eq!(sizes, (4096, 112, 16));
    }
}
