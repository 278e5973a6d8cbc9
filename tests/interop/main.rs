//! Clients that nobody here wrote, each on a host of its own in the virtual LAN, and the real daemons.

mod dhcp_clients;
mod dhcp_servers;
mod http_clients;
mod tftp_clients;
