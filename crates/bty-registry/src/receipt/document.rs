//! What is said of a run that flashed.

use std::time::SystemTime;

use bty_api::{
    convert::timestamp,
    registry::v1::{FixUpOutcome, FixUpResult},
    types::v1::Disk as WireDisk,
};
use bty_types::receipt::{Asked, Body, Bytes, Disk, FixUp, Machine, Receipt, Repeated, Step};

use crate::record::Run;

/// The receipt of this run of a machine of this name; `None` where it did not flash, or where its agent is older than receipts and did
/// not say what it did.
pub(crate) fn of(run: &Run, name: Option<String>) -> Option<Receipt> {
    let record = run.record.as_ref()?;
    let work = record.work.as_ref()?;
    let steps = work.steps.iter();
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
            compare: work.compare.clone(),
            verify: work.verify.clone(),
            holes: work.holes.clone(),
        },
        disk: run.disk.clone().map(disk).unwrap_or_default(),
        proved_id: Some(record.proved_id),
        bytes: Bytes {
            raw: work.raw_bytes,
            compared: work.compared_bytes,
            right: work.right_bytes,
            fetched: record.fetched_bytes,
            written: record.written_bytes,
            zeroed: record.zeroed_bytes,
        },
        repeated: Repeated { chunks: work.refetched_chunks, requests: work.retried_requests },
        choice: work.choice.clone(),
        elapsed_ms: record.elapsed_ms,
        steps: steps
            .map(|took| Step::new(took.name.clone(), took.elapsed_ms, took.bytes))
            .collect(),
        fix_ups: record.fix_ups.iter().map(fix_up).collect(),
    }))
}

fn fix_up(result: &FixUpResult) -> FixUp {
    let outcome = match result.outcome() {
        FixUpOutcome::Done => "done",
        FixUpOutcome::NotNeeded => "not-needed",
        FixUpOutcome::Failed => "failed",
        FixUpOutcome::Unspecified => "unknown",
    };
    FixUp { name: result.name.clone(), outcome: outcome.to_owned(), detail: result.detail.clone() }
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
