//! What the kernel tells of devices that come (Documentation/core-api/kobject.rst, and `lib/kobject_uevent.c` for the format).

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};

/// The kernel's own messages; udev's are in another group.
const KERNEL_GROUP: u32 = 1;
/// The kernel's `UEVENT_BUFFER_SIZE`, and the line before it.
const MESSAGE_BYTES: usize = 8192;

/// A socket that hears of devices.
#[derive(Debug)]
pub(super) struct Uevents(OwnedFd);

impl Uevents {
    /// Opens it.
    pub(super) fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let socket =
            socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self(socket))
    }

    /// Waits for the next message; gives the alias of a device that came, where the message is of one.
    pub(super) fn next_modalias(&self) -> io::Result<Option<String>> {
        let mut message = [0; MESSAGE_BYTES];
        match recv(self.0.as_raw_fd(), &mut message, MsgFlags::empty()) {
            Ok(size) => Ok(modalias(message.get(..size).unwrap_or_default())),
            // Interrupted, or more came than there was room for.
            Err(Errno::EINTR | Errno::ENOBUFS) => Ok(None),
            Err(problem) => Err(problem.into()),
        }
    }
}

/// `add@/devices/...`, then `KEY=VALUE`, each with a NUL behind it.
fn modalias(message: &[u8]) -> Option<String> {
    let mut parts = message.split(|&byte| byte == 0);
    parts.next()?.starts_with(b"add@").then_some(())?;
    let alias = parts.find_map(|part| part.strip_prefix(b"MODALIAS="))?;
    Some(String::from_utf8_lossy(alias).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_that_come_have_an_alias() {
        let message = b"add@/devices/pci0\0ACTION=add\0MODALIAS=scsi:t-0x00\0SEQNUM=9\0";
        assert_eq!(modalias(message).as_deref(), Some("scsi:t-0x00"));
        assert_eq!(modalias(b"remove@/devices/pci0\0MODALIAS=scsi:t-0x00\0"), None);
        assert_eq!(modalias(b"add@/devices/pci0\0ACTION=add\0"), None);
        assert_eq!(modalias(b""), None);
    }
}
