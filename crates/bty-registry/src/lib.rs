//! The system of record: machines, images, runs, events, and what a machine does next.
//!
//! [`store`] is the database and the only module that speaks SQL; [`decide`] is pure and says what a machine does next;
//! [`work`] changes records, in transactions of the store and by decisions; [`images`] is the image store; [`receipt`] signs what a flash came to;
//! [`serve`] is the contract's services; [`access`] says who may call them. Nothing else in bty opens the database or writes the image store.

mod access;
mod change;
mod daemon;
mod decide;
mod images;
mod metrics;
mod problem;
mod receipt;
mod record;
mod rules;
mod serve;
mod settings;
mod store;
mod view;
mod work;

pub use access::UserNames;
pub use daemon::Registry;
pub use settings::Settings;

use std::process::ExitCode;

/// Runs `bty-registry` with the process's arguments.
///
/// Exit codes: those of every daemon, and 5 where the database is not one that this version may open: starting it again is of no use
/// then, and its unit doesn't.
pub fn main() -> ExitCode {
    bty_service::main::<Registry>()
}
