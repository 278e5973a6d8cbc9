//! What is said of a run that flashed.

use std::time::SystemTime;

use bty_api::{convert::timestamp, registry::v1::FlashWork, types::v1::Disk as WireDisk};
use bty_types::receipt::{Asked, Body, Bytes, Disk, Machine, Receipt, Repeated, Step};

use crate::record::{FlashRecord, Run};

/// The receipt of this run of a machine of this name; `None` where it did not flash, or where its agent is older than receipts and did
/// not say what it did.
pub(crate) fn of(run: &Run, name: Option<String>) -> Option<Receipt> {
    let FlashRecord {
        proved_id, fetched_bytes, written_bytes, zeroed_bytes, elapsed_ms, work, ..
    } = run.record.clone()?;
    let FlashWork { raw_bytes, compared_bytes, right_bytes, refetched_chunks, .. } =
        work.clone()?;
    let FlashWork { retried_requests, compare, verify, holes, choice, steps, .. } = work?;
    Some(Receipt::new(Body {
        run: Some(run.id.clone()),
        agent_version: run.agent_version.clone(),
        machine: Some(Machine { mac: run.mac, name }),
        started_at: rfc3339(run.started_at),
        ended_at: rfc3339(run.ended_at?),
        asked: Asked {
            image: run.image.clone(),
            image_id: run.image_id,
            index_digest: Some(run.index_digest.clone()).filter(|digest| !digest.is_empty()),
            disk: run.disk_selector.clone(),
            compare,
            verify,
            holes,
        },
        disk: run.disk.clone().map(disk).unwrap_or_default(),
        proved_id: Some(proved_id),
        bytes: Bytes {
            raw: raw_bytes,
            compared: compared_bytes,
            right: right_bytes,
            fetched: fetched_bytes,
            written: written_bytes,
            zeroed: zeroed_bytes,
        },
        repeated: Repeated { chunks: refetched_chunks, requests: retried_requests },
        choice,
        elapsed_ms,
        steps: steps
            .into_iter()
            .map(|took| Step::new(took.name, took.elapsed_ms, took.bytes))
            .collect(),
    }))
}

fn rfc3339(at: SystemTime) -> String {
    timestamp(at).to_string()
}

fn disk(disk: WireDisk) -> Disk {
    Disk {
        path: disk.path,
        serial: disk.serial,
        wwn: disk.wwn,
        model: disk.model,
        size_bytes: disk.size_bytes,
        sector_bytes: disk.logical_sector_bytes,
    }
}
