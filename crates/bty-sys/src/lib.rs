//! System calls that need unsafe code: ioctls, aligned buffers, named file descriptors.
//!
//! The one crate that may have any. Every block says why it is sound; everything that it gives is safe to use.

#![allow(unsafe_code, reason = "this is the one crate that may")]

mod aligned;
mod block;
mod ethtool;
mod freeze;
mod grow;
mod listen_fds;
mod loop_device;
mod nvme;
mod scsi;

pub use aligned::{ALIGNMENT, AlignedBuf};
pub use block::{discard, reread_partitions, sector_sizes, secure_discard, zero_out};
pub use ethtool::{Offload, turn_off, turn_off_eee};
pub use freeze::{freeze, thaw};
pub use grow::{grow_btrfs, grow_ext4, grow_xfs};
pub use listen_fds::listen_fds_with_names;
pub use loop_device::LoopDevice;
pub use nvme::{NvmeCommand, nvme_admin, nvme_namespace};
pub use scsi::{ScsiAnswer, ScsiData, scsi_command};
