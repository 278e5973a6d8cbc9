//! What `bty-flasher write` did, as the appliance's receipts have it. Nobody signs it: only an appliance has a key.

use std::{fs, path::Path, time::SystemTime};

use bty_api::convert::timestamp;
use bty_disk::Disk;
use bty_types::{
    ErrorKind, ImageId,
    receipt::{self, Asked, Body, Bytes, FixUp, Receipt, Repeated, Step},
};

use super::Failure;
use crate::{engine::Record, fixup::FixUpResult};

/// Passes a file whose folder is there: that it isn't is no news for after a long flash.
pub(super) fn check_place(file: &Path) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let why = match (folder.is_dir(), file.is_dir()) {
        (true, false) => return Ok(()),
        (true, true) => format!("{} is a folder; name a file for the receipt", file.display()),
        (false, _) => format!("there is no folder {} for the receipt", folder.display()),
    };
    Err(Failure::new(ErrorKind::NotFound, format!("nothing was written: {why}")))
}

/// Writes the receipt of a write; `asked` is the image as it was named, its id where it was known, and the disk as it was named.
pub(super) fn write(
    file: &Path,
    asked: (&str, Option<ImageId>, String),
    (record, fix_ups): (&Record, &[FixUpResult]),
    disk: &Disk,
    started: SystemTime,
) -> Result<(), Failure> {
    let fix_ups = fix_ups.iter().map(fix_up).collect();
    let body = Body { fix_ups, ..body(asked, record, disk, started) };
    let document = Receipt::new(body).document();
    fs::write(file, document).map_err(|problem| {
        let message =
            format!("the disk is written, but not its receipt {}: {problem}", file.display());
        Failure::new(ErrorKind::Internal, message)
    })
}

fn body(
    (image, image_id, selector): (&str, Option<ImageId>, String),
    record: &Record,
    disk: &Disk,
    started: SystemTime,
) -> Body {
    let steps = record.steps.iter();
    Body {
        run: None,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: None,
        started_at: timestamp(started).to_string(),
        ended_at: timestamp(SystemTime::now()).to_string(),
        asked: Asked {
            image: image.to_owned(),
            image_id,
            index_digest: None,
            disk: selector,
            compare: record.compare.to_owned(),
            verify: record.verify.to_owned(),
            holes: record.holes.to_owned(),
        },
        disk: receipt::Disk {
            path: disk.path.clone(),
            serial: disk.serial.clone(),
            wwn: disk.wwn.clone(),
            model: disk.model.clone(),
            size_bytes: disk.size_bytes,
            sector_bytes: disk.logical_sector_bytes,
        },
        proved_id: record.proved.then_some(record.id),
        bytes: Bytes {
            raw: record.raw_bytes,
            compared: record.compared_bytes,
            right: record.right_bytes,
            fetched: record.fetched_bytes,
            written: record.written_bytes,
            zeroed: record.zeroed_bytes,
        },
        repeated: Repeated { chunks: record.refetched_chunks, requests: record.retried_requests },
        choice: record.choice.clone(),
        elapsed_ms: record.elapsed_ms,
        steps: steps
            .map(|took| Step::new(took.step.as_str().to_owned(), took.elapsed_ms, took.bytes))
            .collect(),
        fix_ups: Vec::new(),
    }
}

fn fix_up(result: &FixUpResult) -> FixUp {
    FixUp {
        name: result.name.clone(),
        outcome: result.outcome.as_str().to_owned(),
        detail: result.detail.clone(),
    }
}
