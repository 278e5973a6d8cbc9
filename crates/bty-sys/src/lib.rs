//! System calls that need unsafe code: ioctls, aligned buffers, named file descriptors.

#![allow(unsafe_code, reason = "this is the one crate that may")]

mod listen_fds;

pub use listen_fds::listen_fds_with_names;
