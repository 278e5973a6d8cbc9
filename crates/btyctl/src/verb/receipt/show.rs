//! A receipt as a person reads it.

use std::fmt::Write as _;

use bty_types::receipt::{Asked, Body, FixUp, Receipt, Step};

use crate::output::{bytes, facts, table};

/// What it says.
pub(super) fn receipt(receipt: &Receipt) -> String {
    let Body { asked, disk, bytes: moved, repeated, .. } = &receipt.body;
    let body = &receipt.body;
    let machine = body.machine.as_ref().map(|machine| match &machine.name {
        Some(name) => format!("{} ({name})", machine.mac),
        None => machine.mac.to_string(),
    });
    let proved = body.proved_id.map_or_else(|| "nothing".to_owned(), |id| id.to_string());
    let again = match (repeated.chunks, repeated.requests) {
        (0, 0) => "nothing".to_owned(),
        (chunks, requests) => format!("{chunks} chunks that came wrong, {requests} requests"),
    };
    let mut text = facts(&[
        ("run", body.run.clone().unwrap_or_default()),
        ("machine", machine.unwrap_or_default()),
        ("image", asked.image.clone()),
        ("image id", asked.image_id.map(|id| id.to_string()).unwrap_or_default()),
        ("index", asked.index_digest.clone().unwrap_or_default()),
        ("asked for", format!("{}, {}", asked.disk, options(asked))),
        ("disk", disk.path.clone()),
        ("serial", disk.serial.clone()),
        ("wwn", disk.wwn.clone()),
        ("model", disk.model.clone()),
        ("size", format!("{} in sectors of {}", bytes(disk.size_bytes), disk.sector_bytes)),
        ("started", body.started_at.clone()),
        ("ended", body.ended_at.clone()),
        ("took", seconds(body.elapsed_ms)),
        ("proved", proved),
        ("raw disk", bytes(moved.raw)),
        ("compared", bytes(moved.compared)),
        ("right", bytes(moved.right)),
        ("fetched", bytes(moved.fetched)),
        ("written", bytes(moved.written)),
        ("zeroed", bytes(moved.zeroed)),
        ("repeated", again),
        ("choice", body.choice.clone()),
        ("agent", body.agent_version.clone()),
        ("fix-ups", fix_ups(&body.fix_ups)),
    ]);
    let _ = writeln!(text, "\n{}", steps(body.steps.iter().cloned()));
    text
}

/// What was changed on the disk after the proof.
fn fix_ups(results: &[FixUp]) -> String {
    let line = |FixUp { name, outcome, detail }: &FixUp| format!("{name}: {outcome}: {detail}");
    results.iter().map(line).collect::<Vec<_>>().join("\n            ")
}

/// What steps took.
pub(crate) fn steps(steps: impl Iterator<Item = Step>) -> String {
    let rows = steps.map(|step| {
        let rate = step.bytes_per_second.map(|rate| format!("{}/s", bytes(rate)));
        let amount = if step.bytes == 0 { String::new() } else { bytes(step.bytes) };
        [step.name, seconds(step.elapsed_ms), amount, rate.unwrap_or_default()]
    });
    table(["STEP", "TOOK", "BYTES", "RATE"], rows)
}

fn options(asked: &Asked) -> String {
    format!("compare {}, verify {}, holes {}", asked.compare, asked.verify, asked.holes)
}

#[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
fn seconds(milliseconds: u64) -> String {
    format!("{:.1} s", milliseconds as f64 / 1000.0)
}
