//! What a machine that boots from the network is told: pure functions of what is known of it.
//!
//! No socket, clock or task in here; the shell in [`crate::plain`] brings the request, the time and the state.

pub mod attempt;
pub mod grub;
pub mod query;
pub mod script;
pub mod token;
