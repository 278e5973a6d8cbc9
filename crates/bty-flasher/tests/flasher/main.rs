//! The real `bty-flasher` against real block devices (loop devices, so these tests need root), servers and a server of plans.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod agent;
mod capture;
mod cut;
mod daemon;
mod disk;
mod erase;
mod faults;
mod fetch;
mod fix_ups;
mod image;
mod plans;
mod refuse;
mod server;
mod tls;
mod verify;
mod write;
