//! The real registry from outside: the program, its sockets, its files, and power cuts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod access;
mod agent;
mod boot_entry;
mod durability;
mod harness;
mod images;
mod machines;
mod oci;
mod publishers;
mod resuming;
mod store;
mod web;
