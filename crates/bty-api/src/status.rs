//! Between errors and gRPC status: one table, for every daemon and client.

use std::{collections::HashMap, error::Error, fmt::Write as _};

use bty_types::ErrorKind;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `ErrorInfo` that bty sends.
pub const DOMAIN: &str = "bty";

/// The gRPC code of a kind of failure.
pub const fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidInput => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::AlreadyExists,
        ErrorKind::Precondition => Code::FailedPrecondition,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The kind of failure that a gRPC code stands for.
pub const fn kind(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidInput,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists | Code::Aborted => ErrorKind::Conflict,
        Code::FailedPrecondition => ErrorKind::Precondition,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::Denied,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::ResourceExhausted => ErrorKind::Exhausted,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal => ErrorKind::Internal,
    }
}

/// The status for an error: its kind's code, its whole chain as the message, and `reason` (a word such as `DISK_MOUNTED`) for
/// programs.
pub fn from_error(kind: ErrorKind, reason: &str, error: &dyn Error) -> Status {
    Status::with_error_details(code(kind), chain(error), info(reason))
}

/// The status for a request that is wrong.
pub fn invalid(error: &dyn Error) -> Status {
    from_error(ErrorKind::InvalidInput, "INVALID_ARGUMENT", error)
}

/// The status for a request that lacks a field.
pub fn missing(field: &str) -> Status {
    let message = format!("the field {field:?} is missing");
    Status::with_error_details(Code::InvalidArgument, message, info("MISSING_FIELD"))
}

fn info(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

/// The word for programs in a status that bty sent; empty where there is none.
pub fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .filter(|info| info.domain == DOMAIN)
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// An error and what caused it, outermost first, with ": " between. A cause that was told already is not told twice.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            let _ = write!(text, ": {told}");
        }
        cause = error.source();
    }
    text
}

/// A status as a person reads it. Where it came from this side, as that of a failed connection does, its cause says what failed.
pub fn shown(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(deeper) = cause.and_then(Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| status.message().to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for sent in ErrorKind::ALL {
            assert_eq!(kind(code(sent)), sent);
        }
    }

    #[test]
    fn a_status_carries_the_chain_and_the_reason() {
        #[derive(Debug, thiserror::Error)]
        #[error("opening /dev/sda")]
        struct Outer(#[source] std::io::Error);

        let error = Outer(std::io::Error::other("no such device"));
        let status = from_error(ErrorKind::NotFound, "DISK_ABSENT", &error);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "opening /dev/sda: no such device");
        assert_eq!(reason(&status), "DISK_ABSENT");
        assert_eq!(reason(&Status::internal("x")), "");
    }
}
