//! A part of a file or device as a block device of its own (linux/loop.h, loop(4)).

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, libc};

mod raw {
    //! The calls as nix makes them; unsafe, since the kernel can't check what a pointer points to.
    #![allow(missing_docs, reason = "named as in linux/loop.h")]

    use nix::{ioctl_none_bad, ioctl_write_ptr_bad};

    ioctl_none_bad!(loop_ctl_get_free, 0x4c82);
    ioctl_write_ptr_bad!(loop_configure, 0x4c0a, super::Config);
}

/// Gone when nobody has it open any more: a killed process leaves none behind.
const AUTOCLEAR: u32 = 4;
/// Past the page cache of what is below.
const DIRECT_IO: u32 = 16;
/// Somebody else may take the number that the kernel gave.
const TRIES: u32 = 32;

/// `struct loop_info64`.
#[derive(Debug)]
#[repr(C)]
#[allow(dead_code, reason = "the kernel reads and writes them")]
pub(crate) struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[derive(Debug)]
#[repr(C)]
#[allow(dead_code, reason = "the kernel reads and writes them")]
pub(crate) struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A block device over a part of another. Gone when it is dropped and nothing on it is mounted.
#[derive(Debug)]
pub struct LoopDevice {
    file: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Makes one over these bytes of a device that is open for reading and writing; offset and length are multiples of its sector.
    pub fn over(below: &File, offset: u64, bytes: u64, sector_bytes: u32) -> io::Result<Self> {
        let control = File::options().read(true).write(true).open("/dev/loop-control")?;
        let fd = below.as_fd().as_raw_fd();
        let config = Config {
            fd: u32::try_from(fd).map_err(io::Error::other)?,
            block_size: sector_bytes,
            info: Info {
                device: 0,
                inode: 0,
                rdevice: 0,
                offset,
                size_limit: bytes,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: AUTOCLEAR | DIRECT_IO,
                file_name: [0; 64],
                crypt_name: [0; 64],
                encrypt_key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        };
        for _ in 0..TRIES {
            // SAFETY: LOOP_CTL_GET_FREE takes no argument.
            let number: libc::c_int =
                unsafe { raw::loop_ctl_get_free(control.as_fd().as_raw_fd()) }?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let file = File::options().read(true).write(true).open(&path)?;
            // SAFETY: LOOP_CONFIGURE reads one struct loop_config, and `config` is one that lives through the call.
            let made = unsafe {
                raw::loop_configure(file.as_fd().as_raw_fd(), std::ptr::from_ref(&config))
            };
            match made {
                Ok(_) => return Ok(Self { file, path }),
                Err(Errno::EBUSY) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Its node, such as `/dev/loop3`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns when everything that was written to it is on what is below.
    pub fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_given_what_it_expects() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }
}
