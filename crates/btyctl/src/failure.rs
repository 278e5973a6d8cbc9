//! Why a command failed, as a person and a script see it.

use bty_api::status;
use bty_types::ErrorKind;
use tonic::{Code, Status};

use crate::output::plain;

/// What to do where one may not.
const DENIED: &str = "run as root, or as a member of the group bty";

/// A failure: what happened, what sort it is, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure on this side.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// With advice.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Somebody pressed ctrl-c.
    pub(crate) fn interrupted() -> Self {
        Self::new(ErrorKind::Cancelled, "interrupted")
    }

    /// A file or stream on this side.
    pub(crate) fn io(what: &str, problem: &std::io::Error) -> Self {
        let kind = match problem.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            std::io::ErrorKind::StorageFull => ErrorKind::Exhausted,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, format!("{what}: {problem}"))
    }

    /// What sort of failure it is.
    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Shows it on standard error.
    pub(crate) fn show(&self) {
        eprintln!("error: {}", plain(&self.message));
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if is_closed_to_us(&status) {
            return Self::new(ErrorKind::Denied, status::shown(&status)).hint(DENIED);
        }
        // A connection that the daemon ends as it restarts takes the calls on it along, as if somebody had called them off.
        let is_lost =
            status.code() == Code::Cancelled && std::error::Error::source(&status).is_some();
        let code = if is_lost { Code::Unavailable } else { status.code() };
        let failure = Self::new(status::kind(code), status::shown(&status));
        match (code, status::reason(&status).as_str()) {
            (Code::Unavailable, "") => failure.hint(
                "is the daemon running? try: systemctl status 'bty-*'; other sockets: --run-dir or BTY_RUN_DIR",
            ),
            (Code::PermissionDenied, "") => failure.hint(DENIED),
            _ => failure,
        }
    }
}

/// Whether the kernel did not let us to the daemon's socket.
fn is_closed_to_us(status: &Status) -> bool {
    let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied)
}
