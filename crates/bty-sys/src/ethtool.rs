//! What a network card does for the kernel, turned off by ioctl (linux/ethtool.h).

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsFd, AsRawFd},
};

use nix::libc;

mod raw {
    //! The call as nix makes it; unsafe, since the kernel can't check what a pointer points to.
    #![allow(missing_docs, reason = "named as in linux/sockios.h")]

    use nix::{ioctl_readwrite_bad, libc};

    ioctl_readwrite_bad!(siocethtool, 0x8946, libc::ifreq);
}

/// Work that a card, or the kernel on its behalf, does on packets; the values are the commands that set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Offload {
    /// Checksums of what comes.
    ReceiveChecksum = 0x15,
    /// Checksums of what goes.
    SendChecksum = 0x17,
    /// Packets gathered from several pieces.
    ScatterGather = 0x19,
    /// TCP cut into packets by the card.
    TcpSegmentation = 0x1f,
    /// The same by the kernel, late.
    GenericSegmentation = 0x24,
    /// Packets of one connection joined as they come.
    GenericReceive = 0x2c,
}

impl Offload {
    /// All of them, in the order in which they can be turned off: segmentation needs what comes after it.
    pub const ALL: [Self; 6] = [
        Self::TcpSegmentation,
        Self::GenericSegmentation,
        Self::GenericReceive,
        Self::ScatterGather,
        Self::SendChecksum,
        Self::ReceiveChecksum,
    ];
}

/// Sets Energy-Efficient Ethernet (`ETHTOOL_SEEE`).
const SET_EEE: u32 = 0x45;

/// Has a network card leave this work alone.
pub fn turn_off(card: &str, offload: Offload) -> io::Result<()> {
    // struct ethtool_value: the command, and what to set.
    set(card, &mut [offload as u32, 0])
}

/// Has a network card never sleep between packets (IEEE 802.3az).
pub fn turn_off_eee(card: &str) -> io::Result<()> {
    // struct ethtool_eee: the command, then nine fields, all of them off.
    let mut eee = [0; 10];
    eee[0] = SET_EEE;
    set(card, &mut eee)
}

/// `command` is one of ethtool's structures, which all begin with their command.
fn set(card: &str, command: &mut [u32]) -> io::Result<()> {
    // SAFETY: ifreq is plain data, for which all zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if card.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(card.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
    // Any socket will do.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the name ends with a zero, since it is shorter than its field; the data is a structure that is as long as its command
    // wants, and lives and is ours alone through the call.
    unsafe { raw::siocethtool(socket.as_fd().as_raw_fd(), &raw mut request) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_is_not_there_is_an_error() {
        for name in ["nocard0", "a-name-that-no-card-can-have"] {
            assert!(turn_off(name, Offload::GenericReceive).is_err(), "{name}");
            assert!(turn_off_eee(name).is_err(), "{name}");
        }
    }
}
