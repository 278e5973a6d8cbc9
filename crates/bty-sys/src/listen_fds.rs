//! File descriptors that systemd passed to this process (`sd_listen_fds(3)`).

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The file descriptors that systemd passed, with the names that their units give them; none where it passed none.
///
/// Ownership can be given once: a second call in one process is an error.
pub fn listen_fds_with_names() -> io::Result<Vec<(String, OwnedFd)>> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("the sockets that systemd passed have been taken already"));
    }
    let passed = sd_notify::listen_fds_with_names()?;
    // SAFETY: the kernel opened these descriptors before exec for this process alone (LISTEN_PID is checked by sd-notify), no
    // other code of bty takes them by number, and the swap above makes sure that each is owned once.
    Ok(passed.map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) })).collect())
}
