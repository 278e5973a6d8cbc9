//! What is in an image, as it is recorded.

use std::sync::Arc;

use bty_api::registry::v1::{FileSystem, ImageContents};
use bty_image::{
    ReadAt as _,
    container::RawDisk,
    inspect::{self, Contents, HEAD_BYTES, inspect},
};
use bty_types::ImageId;
use tokio_util::sync::CancellationToken;

use super::{Folder, Held, HeldProblem, Importer};
use crate::problem::Problem;

/// What is in an image and in its partitions.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) contents: ImageContents,
    /// In the order of the partitions.
    pub(super) file_systems: Vec<Option<FileSystem>>,
}

impl From<Contents> for Seen {
    fn from(found: Contents) -> Self {
        let contents = ImageContents {
            used_bytes: found.used_bytes(),
            file_system: found.whole.map(file_system),
            os: found.os.unwrap_or_default().to_owned(),
            hints: found.hints,
            architectures: found.architectures.into_iter().map(ToOwned::to_owned).collect(),
        };
        let file_systems = found.partitions.into_iter().map(|found| found.map(file_system));
        Self { contents, file_systems: file_systems.collect() }
    }
}

fn file_system(found: inspect::FileSystem) -> FileSystem {
    let inspect::FileSystem { kind, label, uuid, size_bytes, used_bytes } = found;
    FileSystem { kind: kind.to_owned(), label, uuid, size_bytes, used_bytes }
}

impl Importer {
    /// Looks into the images on record that nobody has looked into: an older bty imported them.
    pub(crate) async fn look_into_old(self: Arc<Self>, shutdown: CancellationToken) {
        let reading = self.store.read(|snapshot| Ok::<_, Problem>(snapshot.images()?));
        let images = match reading.await {
            Ok(images) => images,
            Err(problem) => {
                tracing::warn!(err = %bty_api::status::chain(&problem), "images can't be looked into");
                return;
            }
        };
        for id in images.iter().filter(|image| image.contents.is_none()).map(|image| image.id) {
            if shutdown.is_cancelled() {
                return;
            }
            if let Err(problem) = self.look_into(id).await {
                let problem = bty_api::status::chain(&problem);
                tracing::warn!(err = %problem, image = %id, "an image can't be looked into");
            }
        }
    }

    async fn look_into(&self, id: ImageId) -> Result<(), HeldProblem> {
        let folder = self.folder.clone();
        let looking = tokio::task::spawn_blocking(move || look(&folder, id));
        let Seen { contents, file_systems } = looking.await.unwrap_or(Err(HeldProblem::Thread))?;
        let recording = self.store.write(move |transaction| {
            transaction.image_looked_into(id, &contents, &file_systems)?;
            Ok::<_, Problem>(())
        });
        Ok(recording.await?)
    }
}

fn look(folder: &Folder, id: ImageId) -> Result<Seen, HeldProblem> {
    let failed = |source| HeldProblem::Read { id, source };
    let held = Held::open(folder, id)?;
    let index = held.index()?;
    let disk = RawDisk::new(&*held.file, &index).map_err(failed)?;
    let most = u64::try_from(HEAD_BYTES).unwrap_or(u64::MAX);
    let bytes = usize::try_from(index.raw_bytes().min(most)).unwrap_or(HEAD_BYTES);
    let mut beginning = vec![0; bytes];
    disk.read_exact_at(&mut beginning, 0).map_err(failed)?;
    Ok(inspect::contents(&disk, &inspect(&beginning)).into())
}
