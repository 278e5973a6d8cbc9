//! The gRPC contract of bty: what `proto/` says, as Rust.
//!
//! The modules [`types`], [`registry`], [`agent`], [`dhcp`], [`tftp`], [`httpd`], [`flasher`] and [`admin`] are generated from
//! `proto/` by `cargo xtask codegen`. Beside them: [`connect`] to a daemon, [`status`] between errors and gRPC status, and the
//! conversions of [`convert`] between messages and the types of `bty-types`.

pub mod connect;
pub mod convert;
pub mod fix_ups;
pub mod status;

#[path = "gen/mod.rs"]
#[allow(
    clippy::pedantic,
    clippy::large_enum_variant,
    clippy::or_fun_call,
    clippy::allow_attributes_without_reason,
    missing_docs,
    missing_debug_implementations,
    unused_qualifications,
    elided_lifetimes_in_paths,
    unreachable_pub,
    reason = "generated code"
)]
mod generated;

pub use generated::bty::{admin, agent, dhcp, flasher, httpd, registry, tftp, types};

/// The descriptors of every file of the contract (a `google.protobuf.FileDescriptorSet`), for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.binpb");
