//! A read-only TFTP server for first-stage boot programs.

pub mod engine;
