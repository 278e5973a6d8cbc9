//! Why an import fails.

use std::{io, path::PathBuf};

use bty_api::status;
use bty_image::{
    assemble::AssembleError,
    import::ImportError,
    source::{FinishError, SourceError},
};
use bty_types::{Checksum, ErrorKind, NotListed};
use tonic::Status;

use super::{OciProblem, OpenPgpProblem};
use crate::problem::Problem;

/// Why an import fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ImportProblem {
    /// The file lies elsewhere.
    #[error("the file {} is below none of the folders that images may be imported from ({allowed}); see import_dirs", path.display())]
    Outside {
        /// The file.
        path: PathBuf,
        /// Where files may lie.
        allowed: String,
    },
    /// The file can't be opened.
    #[error("opening {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is a folder, device or pipe.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What it is not.
        path: PathBuf,
    },
    /// The server that has the image can't be reached, or breaks off.
    #[error("fetching {url}")]
    Fetch {
        /// The URL.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The server that has the image says no.
    #[error("fetching {url}: the server answered {status}")]
    Answer {
        /// The URL.
        url: String,
        /// What it said.
        status: reqwest::StatusCode,
    },
    /// It broke off before its end.
    #[error("fetching {url}: it ended before its end")]
    Short {
        /// The URL.
        url: String,
    },
    /// It broke off, and could not be gone on with.
    #[error(
        "fetching {url}: it broke off after {passed_bytes} bytes, and {tries} tries brought no more"
    )]
    GaveUp {
        /// The URL.
        url: String,
        /// How far it came.
        passed_bytes: u64,
        /// How often it was tried.
        tries: u32,
        /// Why it went no further the last time.
        source: Box<Self>,
    },
    /// It is another file than before.
    #[error(
        "fetching {url}: the connection broke off, and the file was replaced at the server meanwhile; import it again"
    )]
    Changed {
        /// The URL.
        url: String,
    },
    /// The server sends something else than was asked for.
    #[error(
        "fetching {url}: the connection broke off, and the server sends another part of the file than the rest that was asked for"
    )]
    Range {
        /// The URL.
        url: String,
    },
    /// It has another size than was said of it.
    #[error(
        "fetching {url}: the server sends {sent} bytes, and its manifest says that there are {stated}"
    )]
    Size {
        /// The URL.
        url: String,
        /// What was said.
        stated: u64,
        /// What comes.
        sent: u64,
    },
    /// It is not what its digest says.
    #[error(
        "fetching {url}: it has {found}, and its manifest says {wanted}: it was changed or damaged on its way"
    )]
    Digest {
        /// The URL.
        url: String,
        /// What its manifest says.
        wanted: Box<Checksum>,
        /// What it has.
        found: Box<Checksum>,
    },
    /// An artifact can't be had from an OCI registry.
    #[error("importing {reference}")]
    Oci {
        /// Which one.
        reference: String,
        /// Why not.
        source: OciProblem,
    },
    /// Something small is larger than anything of its sort.
    #[error(
        "fetching {url}: it has over {most} bytes, too many for a list of checksums, a signature, a manifest or a token"
    )]
    TooMuch {
        /// The URL.
        url: String,
        /// What it may have.
        most: usize,
    },
    /// The publisher's list doesn't say what the file's checksum is.
    #[error("looking for {name:?} in the checksums of {url}")]
    NotListed {
        /// The list's URL.
        url: String,
        /// The file's name.
        name: String,
        /// Why it isn't found.
        source: NotListed,
    },
    /// What should be signed isn't signed with the publisher's key.
    #[error(
        "checking the signature {url}: what it should sign is not the publisher's, or the key is another's"
    )]
    Signature {
        /// The signature's URL.
        url: String,
        /// What is wrong with it.
        source: minisign_verify::Error,
    },
    /// The same by OpenPGP.
    #[error("checking the signature {url}")]
    OpenPgp {
        /// The URL of the signature, or of what has its signature in it.
        url: String,
        /// What is wrong with it.
        source: OpenPgpProblem,
    },
    /// It can't be read as an image.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It can't be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// What comes of a captured disk can't be put together.
    #[error("taking the captured disk in")]
    Assemble(#[from] AssembleError),
    /// The store can't be written.
    #[error("{doing}")]
    Files {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The record can't be written.
    #[error(transparent)]
    Record(#[from] Problem),
    /// The thread that imported is gone.
    #[error("the import ended without a result; the log says more")]
    Thread,
}

impl ImportProblem {
    /// Something in the store that can't be done.
    pub(super) fn files(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Files { doing: doing.into(), source }
    }

    /// What kind of failure this is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Outside { .. } => ErrorKind::Denied,
            Self::Open { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            Self::NotAFile { .. } | Self::TooMuch { .. } | Self::NotListed { .. } => {
                ErrorKind::InvalidInput
            }
            Self::Signature { .. } | Self::Digest { .. } | Self::Size { .. } => ErrorKind::Corrupt,
            Self::OpenPgp { source, .. } => source.kind(),
            Self::Oci { source, .. } => source.kind(),
            Self::Fetch { .. }
            | Self::Short { .. }
            | Self::GaveUp { .. }
            | Self::Changed { .. }
            | Self::Range { .. } => ErrorKind::Unavailable,
            Self::Answer { status, .. } => match status.as_u16() {
                404 | 410 => ErrorKind::NotFound,
                401 | 403 => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            Self::Source(problem) => problem.kind(),
            Self::Import(problem) => problem.kind(),
            Self::Assemble(problem) => problem.kind(),
            Self::Files { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Exhausted
            }
            Self::Files { .. } | Self::Thread => ErrorKind::Internal,
            Self::Record(problem) => problem.kind(),
        }
    }

    /// The word for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Outside { .. } => "SOURCE_OUTSIDE",
            Self::Open { .. }
            | Self::Fetch { .. }
            | Self::Answer { .. }
            | Self::Short { .. }
            | Self::GaveUp { .. }
            | Self::Range { .. } => "SOURCE_UNREACHABLE",
            Self::Changed { .. } => "SOURCE_CHANGED",
            Self::Size { .. } | Self::Digest { .. } => "CHECKSUM_MISMATCH",
            Self::Oci { source, .. } => source.reason(),
            Self::OpenPgp {
                source: OpenPgpProblem::NoProgram | OpenPgpProblem::Run(_), ..
            } => "SIGNATURE_UNCHECKED",
            Self::TooMuch { .. } | Self::NotListed { .. } => "CHECKSUM_UNKNOWN",
            Self::Signature { .. } | Self::OpenPgp { .. } => "SIGNATURE_MISMATCH",
            Self::NotAFile { .. } | Self::Source(_) => "SOURCE_UNSUPPORTED",
            Self::Import(problem) => match problem {
                ImportError::Read { .. } | ImportError::NoDisk(_) => "SOURCE_DAMAGED",
                ImportError::Finish(FinishError::Checksum { .. }) => "CHECKSUM_MISMATCH",
                ImportError::Finish(FinishError::Read(_)) => "SOURCE_UNREACHABLE",
                ImportError::TooLarge(_) | ImportError::Bomb { .. } => "IMAGE_TOO_LARGE",
                ImportError::WrongId { .. } => "ID_MISMATCH",
                ImportError::Cancelled => "CANCELLED",
                ImportError::Write(_) | ImportError::Start(_) => "STORE",
            },
            Self::Assemble(problem) => match problem {
                AssembleError::Base { .. } | AssembleError::Write(_) => "STORE",
                AssembleError::WrongId { .. } => "ID_MISMATCH",
                AssembleError::NoDisk { .. }
                | AssembleError::Count { .. }
                | AssembleError::Frame { .. }
                | AssembleError::Chunk(_) => "SOURCE_DAMAGED",
            },
            Self::Files { .. } | Self::Thread => "STORE",
            Self::Record(problem) => problem.reason(),
        }
    }
}

/// Of which artifact it is, whoever knows that puts.
impl From<OciProblem> for ImportProblem {
    fn from(source: OciProblem) -> Self {
        Self::Oci { reference: String::new(), source }
    }
}

impl From<ImportProblem> for Status {
    fn from(problem: ImportProblem) -> Self {
        match problem {
            ImportProblem::Record(problem) => problem.into(),
            problem => status::from_error(problem.kind(), problem.reason(), &problem),
        }
    }
}
