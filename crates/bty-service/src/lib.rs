//! What makes a program a bty daemon.
//!
//! A daemon implements [`Daemon`] and its `main` calls [`main`]. It gets: one TOML file with drop-ins, environment and flags
//! ([`config`]); logs to the journal or the terminal; sockets from systemd or its own ([`Sockets`]); readiness and watchdog;
//! a shutdown that drains ([`Context::shutdown`]); owned tasks ([`Context::spawn`]); the two gRPC doors with health,
//! reflection and the admin service ([`door`]); metrics; and, for the daemons on the boot path, what machines are told
//! ([`BootLink`]), whose address one is ([`neighbours`]), and how to answer a datagram from where it came to ([`datagram`]), and how to serve
//! a folder to strangers ([`open_beneath`]), and time that nobody sets ([`SteadyClock`]). It knows nothing of netboot, images or disks.

pub mod config;
pub mod datagram;
pub mod door;
pub mod neighbours;

mod admin;
mod beneath;
mod boot_link;
mod clock;
mod command_line;
mod context;
mod daemon;
mod log;
mod readiness;
mod sockets;
mod tasks;

pub use beneath::open_beneath;
pub use boot_link::BootLink;
pub use clock::{ClockWatch, SteadyClock};
pub use context::{Context, Paths};
pub use daemon::{Daemon, main, main_with};
pub use readiness::Heartbeat;
pub use sockets::Sockets;
pub use tasks::{Refused, RunError};
