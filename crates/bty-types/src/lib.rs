//! The vocabulary of bty.
//!
//! Text from the LAN, a file, a disk or a person is parsed once, at the edge, into one of these types; inside bty there are
//! no `String` MACs, digests or names. Nothing here does I/O or knows a protocol.

mod boot_chain;
mod boot_entry;
mod checksum;
mod checksum_list;
mod disk_selector;
mod error_kind;
pub mod fix_ups;
mod image_id;
mod image_name;
mod mac;
mod parse_error;
mod policy;
pub mod receipt;

pub use boot_chain::BootChain;
pub use boot_entry::BootEntry;
pub use checksum::Checksum;
pub use checksum_list::{ChecksumList, NotListed};
pub use disk_selector::DiskSelector;
pub use error_kind::ErrorKind;
pub use fix_ups::FixUps;
pub use image_id::ImageId;
pub use image_name::{ImageName, ImageSelector};
pub use mac::MacAddr;
pub use parse_error::ParseError;
pub use policy::Policy;
