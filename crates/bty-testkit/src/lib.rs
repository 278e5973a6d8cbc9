//! For tests and the demo: temporary daemons, namespaces, virtual disks, virtual machines.
//!
//! Everything here owns what it starts: a process, a namespace or a virtual machine ends with the value that stands for it,
//! and what a killed test left behind is swept by the next one. Nothing sleeps except [`wait::until`], which waits for a
//! condition. Most of it needs root, because namespaces and tap devices do; [`require_root`] says so.

pub mod appliance;
pub mod child;
pub mod clock;
pub mod console;
pub mod daemon;
pub mod dnsmasq;
pub mod kea;
pub mod namespace;
pub mod osimage;
pub mod packages;
pub mod readiness;
pub mod small_disk;
pub mod vm;
pub mod wait;

pub use child::{Child, Program};
pub use clock::Clock;
pub use daemon::{Daemon, DaemonSpec};
pub use dnsmasq::Dnsmasq;
pub use kea::Kea;
pub use namespace::{Host, Lan, Namespace, Port};
pub use small_disk::SmallDisk;
pub use vm::{Disk, DiskBus, Firmware, Machine, MachineSpec, Nic, NicModel};

/// An error unless this process is root, which namespaces, taps and the building of images need.
pub fn require_root() -> anyhow::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    anyhow::bail!(
        "the virtual lab needs root, for network namespaces and tap devices: run it with sudo"
    )
}
