//! `btyctl image diff`.

use bty_api::registry::v1::{DiffImagesRequest, DiffImagesResponse, ImageDiff, PartitionDiff};
use bty_types::ImageSelector;

use super::Client;
use crate::{
    failure::Failure,
    output::{Output, bytes, table},
};

pub(super) async fn diff(
    from: &ImageSelector,
    to: &ImageSelector,
    mut client: Client,
    output: Output,
) -> Result<(), Failure> {
    let request = DiffImagesRequest { from: from.to_string(), to: to.to_string() };
    let diff = client.diff_images(request).await?.into_inner();
    output.show(&diff, show)
}

fn show(diff: &DiffImagesResponse) -> String {
    let total = diff.total.unwrap_or_default();
    let mut rows: Vec<[String; 5]> = diff.partitions.iter().map(part).collect();
    rows.push(row("all".to_owned(), &total));
    table(["PARTITION", "SAME", "WRITTEN", "ZEROED", "FETCHED"], rows)
}

fn part(part: &PartitionDiff) -> [String; 5] {
    let called = match &part.partition {
        Some(partition) => format!("{} {}", partition.number, partition.name),
        None => "outside".to_owned(),
    };
    row(called.trim_end().to_owned(), &part.diff.unwrap_or_default())
}

fn row(called: String, diff: &ImageDiff) -> [String; 5] {
    let ImageDiff { same_bytes, written_bytes, zeroed_bytes, fetched_bytes } = *diff;
    [called, bytes(same_bytes), bytes(written_bytes), bytes(zeroed_bytes), bytes(fetched_bytes)]
}
