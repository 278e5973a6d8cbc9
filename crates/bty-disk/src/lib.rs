//! A disk as a thing: what disks there are ([`discover`]), which one is meant ([`select`]), whether it may be written
//! ([`gate`]), how its bytes are read and written ([`device`]), how its partition table is changed ([`table`]), how it is
//! ([`health`]), and how all that it holds is made to go ([`erase`]); the last two by [`commands`] of its own protocol, [`ata`] or
//! [`nvme`].
//!
//! Discovery reads the kernel's own view (`/sys`, `/proc`) and needs no udev, so it works in an initramfs. Selection and gate are
//! functions of what was discovered. Nothing here knows images or networks.

pub mod ata;
pub mod commands;
pub mod device;
pub mod discover;
pub mod erase;
pub mod gate;
pub mod health;
pub mod nvme;
pub mod select;
pub mod table;

mod disk;

pub use disk::{Disk, InUse};
