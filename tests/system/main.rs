//! The daemons together, as their clients and their operators meet them, without virtual machines.

mod bad_input;
mod capture;
mod command_line;
mod crowd;
mod foreign_client;
mod full_disk;
mod installed;
mod light;
mod limits;
mod many;
mod store;
