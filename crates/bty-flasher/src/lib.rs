//! Writes, verifies and proves disks.
//!
//! One [`engine`] behind three faces: the agent in the live system, the command, and the daemon for docked disks. The engine
//! takes an image from a [`supply`] to a disk; the faces choose both and show how it goes.

pub mod engine;
pub mod firmware;
pub mod fixup;
pub mod supply;

mod agent;
mod any_offset;
mod calm;
mod capture;
mod command;
mod daemon;
mod drivers;
mod progress_text;
mod target;
mod wire;

use std::process::ExitCode;

/// Runs `bty-flasher` with the process's arguments.
pub fn main() -> ExitCode {
    command::main()
}
