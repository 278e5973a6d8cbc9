//! What firmware and operators rely on.

mod decision_table;
mod edk2;
mod foreign_bytes;
mod full_server;
mod golden;
mod lease_states;
mod other_servers;
mod packets;
mod real_clients;
mod subnets;
