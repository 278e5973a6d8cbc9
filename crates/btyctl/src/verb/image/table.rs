//! Images as people see them.

use bty_api::registry::v1::{FileSystem, Image, Partition};

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
    let partitions: Vec<String> = image.partitions.iter().map(partition).collect();
    let contents = image.contents.clone().unwrap_or_default();
    let lines = |lines: &[String]| lines.join("\n            ");
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
        ("partitions", lines(&partitions)),
        ("holds", contents.file_system.as_ref().map(file_system).unwrap_or_default()),
        ("used", contents.used_bytes.map(bytes).unwrap_or_default()),
        ("system", contents.os.clone()),
        ("made for", contents.architectures.join(", ")),
        ("told by", lines(&contents.hints)),
        ("index", image.index_digest.clone()),
        ("verified", verified(image)),
    ])
}

fn partition(partition: &Partition) -> String {
    let Partition { number, start_bytes, size_bytes, r#type: kind, name, .. } = partition;
    let start = format!("{number} at {}, {}", bytes(*start_bytes), bytes(*size_bytes));
    let holds = partition.file_system.as_ref().map(file_system).unwrap_or_default();
    let parts = [start, name.clone(), holds, format!("type {kind}")];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

fn file_system(found: &FileSystem) -> String {
    let label = if found.label.is_empty() { "" } else { " " };
    let used = found.used_bytes.map(|used| format!(" ({} used)", bytes(used)));
    format!("{}{label}{}{}", found.kind, found.label, used.unwrap_or_default())
}

fn verified(image: &Image) -> String {
    let at = time(image.verified_at.as_ref());
    match image.wrong_chunks {
        0 => at,
        wrong => format!("{at}: damaged, {wrong} chunks are wrong; import the image again"),
    }
}
