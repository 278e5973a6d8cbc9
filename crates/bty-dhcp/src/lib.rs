//! DHCP for netboot: a proxy beside the LAN's own server, or a full server.

pub mod engine;
