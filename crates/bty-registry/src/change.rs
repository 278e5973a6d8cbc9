//! What watchers are told.

use bty_api::registry::v1::{Event, Machine, MachineBoot, Run};

/// Something that changed, as messages of the contract, after it was committed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// A machine is like this now.
    Machine {
        /// The machine.
        machine: Box<Machine>,
        /// What it is told at its boot, where that changed.
        boot: Option<MachineBoot>,
    },
    /// A machine was deleted.
    MachineDeleted {
        /// Its address.
        mac: String,
        /// When.
        revision: u64,
    },
    /// A run is like this now.
    Run(Box<Run>),
    /// Something happened.
    Event(Event),
}
