//! The image store: files that are written here and nowhere else.
//!
//! An import runs on a thread of its own and writes to a file that nobody sees; only what is whole, checked and on the disk gets
//! its name, and only then its row in the database. Whatever ends an import before that (an error, a client that goes away, the
//! daemon's end, a power cut) leaves nothing behind: the file goes at once, or when the registry starts again.

mod below;
mod capture;
mod compare;
mod contents;
mod conversion;
mod download;
mod feed;
mod fetch;
mod files;
mod held;
mod import;
mod oci;
mod openpgp;
mod problem;
mod prune;
mod publisher;
mod usage;
mod verify;
mod witness;

pub(crate) use capture::{Base, Capture, CaptureEvent, Counts, Part};
pub(crate) use compare::compare;
pub(crate) use feed::{Feed, Feeder, feed};
pub(crate) use fetch::{Fetcher, url};
pub(crate) use files::Folder;
pub(crate) use held::{Held, HeldProblem};
pub(crate) use import::{ImportEvent, Importer, Job, Origin, WAITING, events};
pub(crate) use oci::{Artifact, Login, OciProblem, Reference, SCHEME as OCI_SCHEME};
pub(crate) use openpgp::OpenPgpProblem;
pub(crate) use problem::ImportProblem;
pub(crate) use prune::{Aged, Policy, aged};
pub(crate) use publisher::Publisher;
pub(crate) use verify::{VERIFICATIONS_WAITING, VerifyEvent, verify_events};
