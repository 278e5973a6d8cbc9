//! What a client on the wire relies on.

mod exchanges;
mod network;
mod packets;
mod simulated;
