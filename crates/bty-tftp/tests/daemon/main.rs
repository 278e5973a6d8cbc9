//! The real program on loopback, with clients that others wrote and one that misbehaves on purpose.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod lan;
mod peers;
mod requests;
mod server;
