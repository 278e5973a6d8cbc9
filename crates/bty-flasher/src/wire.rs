//! Disks, records and failures as messages of the contract.

use bty_api::{
    registry::v1::{FixUpOutcome, FixUpResult as WireResult, FlashRecord},
    types::v1::Disk as WireDisk,
};
use bty_disk::Disk;

use crate::{
    engine::Record,
    fixup::{FixUpResult, Outcome},
};

/// A disk as a message.
pub(crate) fn disk(disk: &Disk) -> WireDisk {
    let disk = disk.clone();
    WireDisk {
        path: disk.path,
        serial: disk.serial,
        wwn: disk.wwn,
        model: disk.model,
        transport: disk.transport,
        size_bytes: disk.size_bytes,
        logical_sector_bytes: disk.logical_sector_bytes,
        physical_sector_bytes: disk.physical_sector_bytes,
        rotational: disk.rotational,
        removable: disk.removable,
        read_only: disk.read_only,
        in_use: disk.in_use.iter().map(ToString::to_string).collect(),
    }
}

/// A record as a message, with what was changed afterwards; only an agent tells a firmware what to boot next.
pub(crate) fn record(record: &Record, fix_ups: &[FixUpResult]) -> FlashRecord {
    FlashRecord {
        proved_id: if record.proved { record.id.to_string() } else { String::new() },
        fetched_bytes: record.fetched_bytes,
        written_bytes: record.written_bytes,
        zeroed_bytes: record.zeroed_bytes,
        elapsed_ms: record.elapsed_ms,
        next_boot: None,
        fix_ups: fix_ups.iter().map(fix_up).collect(),
    }
}

fn fix_up(result: &FixUpResult) -> WireResult {
    let outcome = match result.outcome {
        Outcome::Done => FixUpOutcome::Done,
        Outcome::NotNeeded => FixUpOutcome::NotNeeded,
        Outcome::Failed => FixUpOutcome::Failed,
    };
    WireResult { name: result.name.clone(), outcome: outcome.into(), detail: result.detail.clone() }
}
