//! Why a way to erase did not do it, and why a disk was not erased.

use std::{fmt, io};

use bty_types::ErrorKind;

use super::{PassedOver, Reading, Way};
use crate::commands::CommandError;

/// A way that did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A command failed.
    #[error("{}", .0.with_source())]
    Command(#[from] CommandError),
    /// The disk refuses to be written or read.
    #[error("{doing} failed at byte {offset}: {source}")]
    Disk {
        /// What was done.
        doing: &'static str,
        /// Where.
        offset: u64,
        /// Why it failed.
        source: io::Error,
    },
    /// The disk says that its sanitize failed.
    #[error("the disk began a sanitize, and says that it failed")]
    SanitizeFailed,
    /// The disk said that all is well, and it isn't.
    #[error(
        "the disk said that it was done, and {} of {} places that were looked at still hold what they held",
        .0.as_before, .0.places
    )]
    StillThere(Reading),
    /// What was made zero reads as something else.
    #[error("what was made zero reads as something else near byte {offset}: the disk is failing")]
    NotZero {
        /// Where.
        offset: u64,
    },
    /// The erase was answered well, and the password was still there.
    #[error("the disk said that it was erased and kept the password, which was taken off")]
    PasswordStayed,
    /// The erase failed, and the password could not be taken off.
    #[error(
        "the disk may be locked now, with the user password \"{password}\" ({}); run this again, or: hdparm --user-master u --security-unlock {password} DISK, then --security-disable",
        .problem.as_ref().map_or_else(|| "the erase was not confirmed".to_owned(), |problem| problem.with_source())
    )]
    Locked {
        /// What opens it.
        password: &'static str,
        /// What went wrong first.
        problem: Option<Box<CommandError>>,
    },
    /// Somebody called it off.
    #[error("it was called off")]
    Cancelled,
    /// Somebody called it off, and the disk goes on.
    #[error("it was called off, and the disk goes on")]
    GoesOn,
}

/// A disk that was not erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// It is busy with one that was begun earlier.
    #[error(
        "the disk is being erased already: {percent} % of a sanitize that was begun earlier; it goes on by itself, run this again when it is done"
    )]
    Busy {
        /// How far it is.
        percent: u32,
    },
    /// It has no such way; nothing was written.
    #[error("the disk can't be erased so; nothing was written:{}", lines(passed_over.iter().map(|passed| (passed.way, &passed.why))))]
    NotOffered {
        /// Why not.
        passed_over: Vec<PassedOver>,
    },
    /// Not even its edges could be written.
    #[error("the disk refuses to be written; is it failing, or locked?")]
    Blank(#[source] Failed),
    /// All that was tried failed.
    #[error(
        "the disk is NOT erased; its beginning and end are blank, all else may be as it was:{}{}",
        lines(attempts.iter().map(|(way, why)| (*way, why))),
        lines(passed_over.iter().map(|passed| (passed.way, &passed.why)))
    )]
    NothingDid {
        /// What was tried, and why it failed.
        attempts: Vec<(Way, Failed)>,
        /// What was not tried.
        passed_over: Vec<PassedOver>,
    },
    /// The disk may have a password now.
    #[error("the disk is NOT erased")]
    Locked(#[source] Failed),
    /// It was erased, and its edges can't be made zero.
    #[error("{} did it, and the disk's beginning and end can't be made zero", way.as_str())]
    Edges {
        /// What did it.
        way: Way,
        /// Why the edges aren't zero.
        problem: Failed,
    },
    /// Somebody called it off.
    #[error(
        "called off: the disk is not erased and not bootable{}",
        if *goes_on { "; it goes on by itself with the sanitize that was begun, and takes no data until that is done" } else { "" }
    )]
    Cancelled {
        /// Whether the disk goes on by itself.
        goes_on: bool,
    },
}

/// A line for each way.
fn lines(ways: impl Iterator<Item = (Way, impl fmt::Display)>) -> String {
    ways.map(|(way, why)| format!("\n  {}: {why}", way.as_str())).collect()
}

impl EraseError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Busy { .. } | Self::NotOffered { .. } => ErrorKind::Precondition,
            Self::Blank(_) | Self::NothingDid { .. } | Self::Locked(_) | Self::Edges { .. } => {
                ErrorKind::Unavailable
            }
            Self::Cancelled { .. } => ErrorKind::Cancelled,
        }
    }
}
