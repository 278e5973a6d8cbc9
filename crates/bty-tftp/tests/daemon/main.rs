//! The real program on loopback, with clients that others wrote and one that misbehaves on purpose.

mod client;
mod peers;
mod requests;
mod server;
