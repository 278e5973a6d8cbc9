//! How full the store is.

use std::{collections::BTreeSet, fs, io};

use bty_api::registry::v1::GetUsageResponse;
use bty_types::ImageId;

use super::{Folder, ImportProblem};
use crate::record::Image;

impl Folder {
    /// How full the store is that has these images on record.
    pub(crate) fn usage(&self, images: &[Image]) -> Result<GetUsageResponse, ImportProblem> {
        let failed =
            ImportProblem::files(format!("reading the image store {}", self.root().display()));
        self.count(images).map_err(failed)
    }

    fn count(&self, images: &[Image]) -> io::Result<GetUsageResponse> {
        let mut missing: BTreeSet<ImageId> = images.iter().map(|image| image.id).collect();
        let nameless: BTreeSet<ImageId> =
            images.iter().filter(|image| image.names.is_empty()).map(|image| image.id).collect();
        let mut usage = GetUsageResponse::default();
        for entry in fs::read_dir(self.root())? {
            let entry = entry?;
            // It may be gone since it was listed.
            let Ok(metadata) = entry.metadata() else { continue };
            match Self::id_of(&entry.file_name()) {
                Some(id) => {
                    usage.stored_bytes += metadata.len();
                    missing.remove(&id);
                    if nameless.contains(&id) {
                        usage.unnamed_bytes += metadata.len();
                    }
                }
                None if Self::is_unfinished(&entry.file_name()) => {
                    usage.unfinished_bytes += metadata.len();
                }
                None => {}
            }
        }
        let room = rustix::fs::statvfs(self.root())?;
        usage.free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
        usage.capacity_bytes = room.f_blocks.saturating_mul(room.f_frsize);
        usage.images = u32::try_from(images.len()).unwrap_or(u32::MAX);
        usage.missing_ids = missing.iter().map(ToString::to_string).collect();
        Ok(usage)
    }
}
