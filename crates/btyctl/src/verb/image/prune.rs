//! `btyctl image prune`.

use bty_api::registry::v1::{PruneImagesRequest, PruneImagesResponse, PrunedImage};
use bty_types::ErrorKind;

use super::Client;
use crate::{
    arguments::Prune,
    failure::Failure,
    output::{Output, bytes, short, table},
};

pub(super) async fn prune(
    wanted: &Prune,
    mut client: Client,
    output: Output,
) -> Result<(), Failure> {
    let older_than = wanted.older_than.unwrap_or_default();
    let older_than = prost_types::Duration::try_from(older_than).map_err(|_| {
        Failure::new(ErrorKind::InvalidInput, "--older-than: it is longer than time has been")
    })?;
    let request = PruneImagesRequest {
        keep: wanted.keep,
        older_than: Some(older_than),
        name: wanted.name.clone().unwrap_or_default(),
        dry_run: wanted.dry_run,
    };
    let pruned = client.prune_images(request).await?.into_inner();
    output.show(&pruned, |pruned| show(pruned, wanted.dry_run))
}

fn show(pruned: &PruneImagesResponse, is_dry_run: bool) -> String {
    if pruned.images.is_empty() && pruned.kept.is_empty() {
        return "nothing is that old".to_owned();
    }
    let rows = pruned.images.iter().chain(&pruned.kept).map(|image| {
        [short(&image.id), image.names.join(" "), bytes(image.stored_bytes), fate(image)]
    });
    let freed = bytes(pruned.freed_bytes);
    let sum = if is_dry_run { format!("would free {freed}") } else { format!("freed {freed}") };
    format!("{}\n{sum}", table(["ID", "NAMES", "STORED", "IMAGE"], rows))
}

fn fate(image: &PrunedImage) -> String {
    match (image.is_removed, image.kept_because.as_str()) {
        (true, _) => "goes".to_owned(),
        (false, "") => "stays, with other names".to_owned(),
        (false, why) => format!("stays: {why}"),
    }
}
