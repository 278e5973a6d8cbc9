//! Why a request is refused or fails, and what gRPC says of it.

use bty_api::status;
use bty_types::{ErrorKind, ParseError};
use tonic::{Code, Status};

use crate::store::{JobError, StoreError};

/// Why a request is refused or fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Problem {
    /// A field can't be read.
    #[error("the field {field:?} is wrong")]
    Field {
        /// The field.
        field: &'static str,
        /// Why.
        source: ParseError,
    },
    /// A field has a value that makes no sense there.
    #[error("the field {field:?} is wrong: {reason}")]
    Value {
        /// The field.
        field: &'static str,
        /// Why, and what to write instead.
        reason: String,
    },
    /// A field that is needed is absent.
    #[error("the field {0:?} is missing")]
    Missing(&'static str),
    /// No such machine.
    #[error("the machine {0:?} is not known (btyctl machine list shows all)")]
    NoMachine(String),
    /// No such run.
    #[error("the run {0:?} is not on record")]
    NoRun(String),
    /// The run has no receipt.
    #[error(
        "the run {0} has no receipt: only one that flashed a disk and proved it has, by an agent that is no older than receipts"
    )]
    NoReceipt(String),
    /// Several runs' ids begin so.
    #[error("several runs begin with {0:?}: give more digits")]
    ManyRuns(String),
    /// No such image.
    #[error("the image {0:?} is not in the store (btyctl image list shows all)")]
    NoImage(String),
    /// No such token.
    #[error("there is no token {0:?}")]
    NoToken(String),
    /// The name of a token is taken.
    #[error("there is a token {0:?} already: revoke it, or choose another name")]
    TokenExists(String),
    /// The name of a machine is taken.
    #[error("the name {name:?} belongs to the machine {mac} already")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        mac: String,
    },
    /// The machine was changed by somebody else meanwhile.
    #[error("the machine is in generation {found}, not {expected}: somebody changed it meanwhile")]
    GenerationMoved {
        /// What the caller expected.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A run is under way.
    #[error("the run {0} is under way: wait for its end")]
    RunUnderWay(String),
    /// Something still needs the image.
    #[error("{0}")]
    ImageInUse(String),
    /// The registry is full.
    #[error("{0}")]
    Full(String),
    /// The run isn't this machine's, or is over.
    #[error("the run {0} is not under way on this machine")]
    NotItsRun(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Problem {
    /// What kind of failure this is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Field { .. } | Self::Value { .. } | Self::Missing(_) | Self::ManyRuns(_) => {
                ErrorKind::InvalidInput
            }
            Self::NoMachine(_)
            | Self::NoRun(_)
            | Self::NoReceipt(_)
            | Self::NoImage(_)
            | Self::NoToken(_) => ErrorKind::NotFound,
            Self::TokenExists(_) | Self::NameTaken { .. } | Self::GenerationMoved { .. } => {
                ErrorKind::Conflict
            }
            Self::RunUnderWay(_) | Self::ImageInUse(_) | Self::NotItsRun(_) => {
                ErrorKind::Precondition
            }
            Self::Full(_) => ErrorKind::Exhausted,
            Self::Store(problem) => problem.kind(),
        }
    }

    /// The word for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Field { .. } | Self::Value { .. } => "INVALID_ARGUMENT",
            Self::Missing(_) => "MISSING_FIELD",
            Self::NoMachine(_) => "MACHINE_UNKNOWN",
            Self::NoRun(_) => "RUN_UNKNOWN",
            Self::NoReceipt(_) => "NO_RECEIPT",
            Self::ManyRuns(_) => "RUN_AMBIGUOUS",
            Self::NoImage(_) => "IMAGE_UNKNOWN",
            Self::NoToken(_) => "TOKEN_UNKNOWN",
            Self::TokenExists(_) => "TOKEN_EXISTS",
            Self::NameTaken { .. } => "NAME_TAKEN",
            Self::GenerationMoved { .. } => "GENERATION_MOVED",
            Self::RunUnderWay(_) => "RUN_UNDER_WAY",
            Self::ImageInUse(_) => "IMAGE_IN_USE",
            Self::Full(_) => "REGISTRY_FULL",
            Self::NotItsRun(_) => "RUN_NOT_YOURS",
            Self::Store(_) => "STORE",
        }
    }

    /// A field that can't be read.
    pub(crate) fn field(field: &'static str) -> impl FnOnce(ParseError) -> Self {
        move |source| Self::Field { field, source }
    }

    /// A field whose value makes no sense.
    pub(crate) fn value(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Value { field, reason: reason.into() }
    }
}

impl JobError for Problem {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(problem) => Some(problem),
            _ => None,
        }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        if problem.kind() == ErrorKind::Internal || problem.kind() == ErrorKind::Corrupt {
            tracing::error!(err = %status::chain(&problem), "a request failed");
        }
        let told = status::from_error(problem.kind(), problem.reason(), &problem);
        match problem {
            // AIP-154 and the contract: a stale precondition of the caller is ABORTED, not ALREADY_EXISTS.
            Problem::GenerationMoved { .. } => Self::with_details(
                Code::Aborted,
                told.message(),
                bytes::Bytes::copy_from_slice(told.details()),
            ),
            _ => told,
        }
    }
}
