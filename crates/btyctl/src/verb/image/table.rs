//! Images as people see them.

use bty_api::registry::v1::Image;

use crate::output::{ago, bytes, facts, short, table, time};

pub(super) fn list(images: &[Image]) -> String {
    if images.is_empty() {
        return "no images; import one: btyctl image import FILE".to_owned();
    }
    let rows = images.iter().map(|image| {
        [
            image.names.join(" "),
            short(&image.id),
            bytes(image.raw_bytes),
            bytes(image.stored_bytes),
            boots(image),
            ago(image.imported_at.as_ref()),
            if image.wrong_chunks > 0 {
                "damaged".to_owned()
            } else {
                ago(image.verified_at.as_ref())
            },
        ]
    });
    table(["NAME", "ID", "DISK", "STORED", "BOOTS", "IMPORTED", "VERIFIED"], rows)
}

fn boots(image: &Image) -> String {
    match (image.boots_bios, image.boots_uefi) {
        (true, true) => "BIOS, UEFI",
        (true, false) => "BIOS",
        (false, true) => "UEFI",
        (false, false) => "unknown",
    }
    .to_owned()
}

pub(super) fn show(image: &Image) -> String {
    let partitions = image.partitions.iter().map(|partition| {
        format!(
            "{} at {}, {}, type {} {}",
            partition.number,
            bytes(partition.start_bytes),
            bytes(partition.size_bytes),
            partition.r#type,
            partition.name
        )
    });
    facts(&[
        ("names", image.names.join(" ")),
        ("id", image.id.clone()),
        (
            "disk",
            format!(
                "{} ({} bytes), {} of it not zero",
                bytes(image.raw_bytes),
                image.raw_bytes,
                bytes(image.mapped_bytes)
            ),
        ),
        (
            "stored",
            format!(
                "{} in chunks of {}",
                bytes(image.stored_bytes),
                bytes(image.chunk_bytes.into())
            ),
        ),
        ("source", format!("{} ({})", image.source, image.source_format)),
        ("imported", time(image.imported_at.as_ref())),
        ("boots", boots(image)),
        ("table", image.partition_table.clone()),
        ("partitions", partitions.collect::<Vec<_>>().join("\n            ")),
        ("index", image.index_digest.clone()),
        ("verified", verified(image)),
    ])
}

fn verified(image: &Image) -> String {
    let at = time(image.verified_at.as_ref());
    match image.wrong_chunks {
        0 => at,
        wrong => format!("{at}: damaged, {wrong} chunks are wrong; import the image again"),
    }
}
