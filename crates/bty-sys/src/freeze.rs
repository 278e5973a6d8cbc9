//! Mounted file systems that write nothing for a while (linux/fs.h, `FIFREEZE` and `FITHAW`).

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::libc;

mod raw {
    //! The calls as nix makes them; unsafe, since the kernel can't check what a pointer points to.
    #![allow(missing_docs, reason = "named as in linux/fs.h")]

    use nix::{ioctl_readwrite, libc};

    ioctl_readwrite!(fifreeze, b'X', 119, libc::c_int);
    ioctl_readwrite!(fithaw, b'X', 120, libc::c_int);
}

/// Has the file system that this folder is in write out everything and then stand still: whoever writes to it waits. An error where it
/// does already (`EBUSY`), or can't.
pub fn freeze(folder: &File) -> io::Result<()> {
    let mut unused: libc::c_int = 0;
    // SAFETY: FIFREEZE reads at most one int, and `unused` is one that lives through the call.
    unsafe { raw::fifreeze(folder.as_fd().as_raw_fd(), &raw mut unused) }?;
    Ok(())
}

/// Has it go on.
pub fn thaw(folder: &File) -> io::Result<()> {
    let mut unused: libc::c_int = 0;
    // SAFETY: FITHAW reads at most one int, and `unused` is one that lives through the call.
    unsafe { raw::fithaw(folder.as_fd().as_raw_fd(), &raw mut unused) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_frozen_is_an_error() {
        let file = File::open("/proc/self/status").unwrap();
        assert!(freeze(&file).is_err() && thaw(&file).is_err());
    }
}
