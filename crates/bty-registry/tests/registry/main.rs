//! The real registry from outside: the program, its sockets, its files, and power cuts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod access;
mod agent;
mod boot_entry;
mod captures;
mod durability;
mod fix_ups;
mod harness;
mod images;
mod machines;
mod oci;
mod publishers;
mod receipts;
mod resuming;
mod store;
mod web;
