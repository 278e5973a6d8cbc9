//! Sockets that systemd holds for us, by the names of their units' `FileDescriptorName=`.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

/// The sockets that systemd passed. A daemon takes the ones it knows by name and binds its own where one is missing.
#[derive(Debug, Clone, Default)]
pub struct Sockets(Arc<Mutex<HashMap<String, Vec<OwnedFd>>>>);

impl Sockets {
    /// What systemd passed to this process; nothing where it was started otherwise.
    pub(crate) fn from_systemd() -> io::Result<Self> {
        let mut by_name: HashMap<String, Vec<OwnedFd>> = HashMap::new();
        for (name, socket) in bty_sys::listen_fds_with_names()? {
            by_name.entry(name).or_default().push(socket);
        }
        Ok(Self(Arc::new(Mutex::new(by_name))))
    }

    /// Takes the sockets of this name; none where systemd passed none. A second call gets none.
    pub fn take(&self, name: &str) -> Vec<OwnedFd> {
        let mut by_name = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.remove(name).unwrap_or_default()
    }
}
