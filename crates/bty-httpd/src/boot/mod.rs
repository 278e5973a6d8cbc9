//! What a machine that boots from the network is told: pure functions of what is known of it.
//!
//! No socket, clock or task in here; the shell in [`crate::plain`] brings the request, the time and the state.

pub(crate) mod attempt;
pub(crate) mod query;
pub(crate) mod script;
pub(crate) mod token;
