//! What changes a machine's record: the operator's update, contacts on the boot path, the agent's check-in, reports and end,
//! and time that passes; and what takes images off the record.
//!
//! Each is one function on a [`crate::store::Transaction`]: it reads records, asks `decide`, and writes what follows together
//! with the events that tell of it. No SQL, no sockets, no clock but the transaction's.

mod check_in;
mod contact;
mod finish;
mod progress;
mod removal;
mod run_end;
mod sweep;
mod update;
mod way;

pub(crate) use check_in::{Boot, CheckIn, Plan, RETRY_AFTER, check_in};
pub(crate) use contact::{MAX_CONTACTS, Taken, printable, take_contacts};
pub(crate) use finish::{Outcome, finish};
pub(crate) use progress::{Progress, report_progress};
pub(crate) use removal::{delete_image, find_image, prunable_images, prune_images};
pub(crate) use sweep::sweep;
pub(crate) use update::{Edit, Update, delete_machine, find_machine, update_machine};
