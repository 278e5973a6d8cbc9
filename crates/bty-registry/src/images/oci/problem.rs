//! Why an artifact can't be had from an OCI registry.

use bty_types::{Checksum, ErrorKind};

/// Why an artifact can't be had from an OCI registry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciProblem {
    /// The manifest is none.
    #[error("its manifest can't be read: {why}")]
    Manifest {
        /// What is wrong with it.
        why: String,
    },
    /// There are several manifests.
    #[error("it is an index of several manifests; import one of them by its digest: {found}")]
    Index {
        /// Those.
        found: String,
    },
    /// No layer is a disk.
    #[error(
        "none of its layers is a disk image; found: {found}. A disk is known by its file's name (such as disk.qcow2 or disk.img.zst, as \
         oras push gives it) or its media type"
    )]
    NoDisk {
        /// The layers.
        found: String,
    },
    /// Several layers are disks.
    #[error(
        "it has several layers that may be the disk image: {found}; push the one that is meant alone"
    )]
    SeveralDisks {
        /// The layers.
        found: String,
    },
    /// The manifest is another one.
    #[error(
        "its manifest has {found}, and {wanted} was asked for or announced: it was changed on its way"
    )]
    Digest {
        /// What was asked for, or what the registry said.
        wanted: Box<Checksum>,
        /// What came.
        found: Box<Checksum>,
    },
    /// The registry asks for a user and a password.
    #[error("the registry asks for a user and a password: give them in a file (--registry-auth)")]
    LoginNeeded,
    /// They don't fit into a header.
    #[error("the user or password has characters that can't be sent")]
    LoginUnfit,
    /// They are wrong, or not good for this.
    #[error(
        "{realm} gives no token for it ({status}): the user or password is wrong, is missing, or may not read it"
    )]
    LoginRefused {
        /// The server of tokens.
        realm: String,
        /// What it says.
        status: reqwest::StatusCode,
    },
    /// The registry sends to no server of tokens.
    #[error("the registry sends to {realm:?} for a token, which is no URL for that")]
    Realm {
        /// Where it sends to.
        realm: String,
    },
    /// What should be a token is none.
    #[error("{realm} gives no token in its answer")]
    NoToken {
        /// The server of tokens.
        realm: String,
    },
    /// It still refuses.
    #[error(
        "the registry refuses it ({status}): a wrong user or password, no such artifact, or one that may not be read"
    )]
    Refused {
        /// What it says.
        status: reqwest::StatusCode,
    },
}

impl OciProblem {
    /// What kind of failure this is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Manifest { .. }
            | Self::Index { .. }
            | Self::NoDisk { .. }
            | Self::SeveralDisks { .. }
            | Self::LoginUnfit => ErrorKind::InvalidInput,
            Self::Digest { .. } => ErrorKind::Corrupt,
            Self::LoginNeeded | Self::LoginRefused { .. } | Self::Refused { .. } => {
                ErrorKind::Denied
            }
            Self::Realm { .. } | Self::NoToken { .. } => ErrorKind::Unavailable,
        }
    }

    /// The word for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Manifest { .. }
            | Self::Index { .. }
            | Self::NoDisk { .. }
            | Self::SeveralDisks { .. } => "SOURCE_UNSUPPORTED",
            Self::Digest { .. } => "CHECKSUM_MISMATCH",
            Self::LoginNeeded | Self::LoginUnfit | Self::LoginRefused { .. } => "LOGIN_REFUSED",
            Self::Refused { .. } | Self::Realm { .. } | Self::NoToken { .. } => {
                "SOURCE_UNREACHABLE"
            }
        }
    }
}
