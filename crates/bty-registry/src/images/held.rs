//! The file of an image that the store holds, opened to be read, and what may be wrong with it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    sync::Arc,
};

use bty_api::status;
use bty_image::{
    container::{Index, IndexError},
    verify::VerifyError,
};
use bty_types::{ErrorKind, ImageId};
use tonic::Status;

use super::Folder;
use crate::problem::Problem;

/// Why an image's file can't be read, proved or compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum HeldProblem {
    /// It is on record without a file.
    #[error("the file of {0} is gone from the image store: import the image again")]
    Gone(ImageId),
    /// Its file can't be opened or read.
    #[error("reading the file of {id} in the image store")]
    Read {
        /// The image.
        id: ImageId,
        /// Why not.
        source: io::Error,
    },
    /// Its file's index is damaged.
    #[error(
        "the file of {id} in the image store is damaged: import the image again, which replaces it"
    )]
    Index {
        /// The image.
        id: ImageId,
        /// How.
        source: IndexError,
    },
    /// Its file is another image's.
    #[error(
        "the file of {id} in the image store holds {found}: import the image again, which replaces it"
    )]
    Other {
        /// The image.
        id: ImageId,
        /// What it holds.
        found: ImageId,
    },
    /// It was not proved to the end.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The record can't be read or written.
    #[error(transparent)]
    Record(#[from] Problem),
    /// The thread that read is gone.
    #[error("reading the file of an image ended without a result; the log says more")]
    Thread,
}

impl HeldProblem {
    /// What kind of failure this is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Gone(_) | Self::Other { .. } => ErrorKind::Corrupt,
            // A version that we don't know is no wrong input here: nobody but us wrote the file.
            Self::Index { source, .. } => match source.kind() {
                ErrorKind::InvalidInput => ErrorKind::Corrupt,
                kind => kind,
            },
            Self::Read { .. } => ErrorKind::Unavailable,
            Self::Verify(problem) => problem.kind(),
            Self::Record(problem) => problem.kind(),
            Self::Thread => ErrorKind::Internal,
        }
    }

    /// The word for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Gone(_) => "IMAGE_GONE",
            Self::Index { .. } | Self::Other { .. } => "IMAGE_DAMAGED",
            Self::Verify(VerifyError::Cancelled) => "CANCELLED",
            Self::Read { .. } | Self::Verify(_) | Self::Thread => "STORE",
            Self::Record(problem) => problem.reason(),
        }
    }

    /// Whether the image's file has to be replaced.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Index { .. } | Self::Other { .. }) && self.kind() == ErrorKind::Corrupt
    }
}

impl From<HeldProblem> for Status {
    fn from(problem: HeldProblem) -> Self {
        match problem {
            HeldProblem::Record(problem) => problem.into(),
            problem => status::from_error(problem.kind(), problem.reason(), &problem),
        }
    }
}

/// The file of an image. It stays readable while it is held, also where the image is removed meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(super) id: ImageId,
    pub(super) file: Arc<File>,
}

impl Held {
    /// Opens it.
    pub(crate) fn open(folder: &Folder, id: ImageId) -> Result<Self, HeldProblem> {
        match File::open(folder.path(id)) {
            Ok(file) => Ok(Self { id, file: Arc::new(file) }),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Err(HeldProblem::Gone(id)),
            Err(source) => Err(HeldProblem::Read { id, source }),
        }
    }

    /// Whether this is the file that the image still has, and not one that was replaced or removed since it was opened.
    pub(super) fn is_placed(&self, folder: &Folder) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let (held, placed) = (self.file.metadata(), fs::metadata(folder.path(self.id)));
        held.map(identity).ok().zip(placed.map(identity).ok()).is_some_and(|(a, b)| a == b)
    }

    /// Its index, which is this image's.
    pub(super) fn index(&self) -> Result<Index, HeldProblem> {
        let id = self.id;
        let index = Index::read(&*self.file).map_err(|source| HeldProblem::Index { id, source })?;
        if index.id() != id {
            return Err(HeldProblem::Other { id, found: index.id() });
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_or_removed_is_not_the_one_that_is_placed() {
        let at = tempfile::tempdir().unwrap();
        let (folder, id) = (Folder::open(at.path().to_owned()).unwrap(), ImageId::new([7; 32]));
        folder.place(&folder.begin().unwrap(), id).unwrap();
        let held = Held::open(&folder, id).unwrap();
        assert!(held.is_placed(&folder));
        folder.place(&folder.begin().unwrap(), id).unwrap();
        assert!(!held.is_placed(&folder));
        folder.remove(id).unwrap();
        assert!(!held.is_placed(&folder));
    }
}
