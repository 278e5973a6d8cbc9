//! What sort of failure an error is: the one scale that gRPC codes, HTTP codes and exit codes are read from.

/// The sort of a failure. Every library error maps onto one by an exhaustive match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong; asking again does not help.
    InvalidInput,
    /// What was named does not exist.
    NotFound,
    /// It exists already, or somebody changed it in between.
    Conflict,
    /// The world is not in the state that the request needs: a disk is mounted, a serial differs.
    Precondition,
    /// The caller may not do this.
    Denied,
    /// A daemon, a peer or a device does not answer; asking later may help.
    Unavailable,
    /// Bytes are not what their digest says.
    Corrupt,
    /// Out of space, leases, sessions or another bounded thing.
    Exhausted,
    /// Somebody called it off.
    Cancelled,
    /// It took longer than it was given.
    DeadlineExceeded,
    /// A fault of bty or of the machine it runs on.
    Internal,
}

impl ErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 11] = [
        Self::InvalidInput,
        Self::NotFound,
        Self::Conflict,
        Self::Precondition,
        Self::Denied,
        Self::Unavailable,
        Self::Corrupt,
        Self::Exhausted,
        Self::Cancelled,
        Self::DeadlineExceeded,
        Self::Internal,
    ];

    /// The exit code of a program that ends with this kind of failure. Stable and documented (docs/usage/exit-codes.md).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::InvalidInput => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Precondition => 5,
            Self::Denied => 6,
            Self::Unavailable => 7,
            Self::Corrupt => 8,
            Self::Exhausted => 9,
            Self::DeadlineExceeded => 10,
            Self::Cancelled => 130,
        }
    }

    /// The HTTP status of a response that reports this kind of failure.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidInput => 400,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Precondition => 412,
            Self::Cancelled => 499,
            Self::Internal => 500,
            Self::Corrupt => 502,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
            Self::Exhausted => 507,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_its_own_exit_code() {
        let codes: HashSet<u8> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
        assert!(!codes.contains(&0), "a failure must not look like success");
    }
}
