//! Capture: a disk, or a file that is one, becomes an image.
//!
//! What the disk's file systems call free reads as zeros ([`pieces`]); a mounted disk is taken only while its file systems stand still
//! ([`frozen`]). The image goes into a file ([`file`]), or into a registry, which is sent what its base image lacks ([`upload`]).

pub(crate) mod chunks;
pub(crate) mod file;
pub(crate) mod frozen;
pub(crate) mod original;
pub(crate) mod pieces;
pub(crate) mod upload;
