//! Disks, records and failures as messages of the contract.

use bty_api::{
    registry::v1::{
        FixUpOutcome, FixUpResult as WireResult, FlashRecord, FlashWork, RunProgress, StepWork,
    },
    types::v1::{Disk as WireDisk, Health as WireHealth, HealthState},
};
use bty_disk::{
    Disk,
    health::{Health, State},
};

use crate::{
    engine::{Event, Record},
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
        health: None,
    }
}

/// A disk's health as a message.
pub(crate) fn health(health: &Health) -> WireHealth {
    let state = match health.state {
        State::Unknown => HealthState::Unspecified,
        State::Good => HealthState::Good,
        State::Warning => HealthState::Warning,
        State::Failing => HealthState::Failing,
    };
    WireHealth {
        state: state.into(),
        findings: health.findings.clone(),
        temperature_celsius: health.temperature_celsius,
        percentage_used: health.percentage_used,
        power_on_hours: health.power_on_hours,
        reallocated_sectors: health.reallocated_sectors,
        pending_sectors: health.pending_sectors,
        uncorrectable_errors: health.uncorrectable_errors,
        interface_errors: health.interface_errors,
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
        work: Some(work(record)),
        fix_ups: fix_ups.iter().map(fix_up).collect(),
    }
}

fn work(record: &Record) -> FlashWork {
    let steps = record.steps.iter().map(|taken| StepWork {
        name: taken.step.as_str().to_owned(),
        elapsed_ms: taken.elapsed_ms,
        bytes: taken.bytes,
    });
    FlashWork {
        raw_bytes: record.raw_bytes,
        compared_bytes: record.compared_bytes,
        right_bytes: record.right_bytes,
        refetched_chunks: record.refetched_chunks,
        retried_requests: record.retried_requests,
        compare: record.compare.to_owned(),
        verify: record.verify.to_owned(),
        holes: record.holes.to_owned(),
        choice: record.choice.clone(),
        steps: steps.collect(),
    }
}

/// How far it is, as a message; `None` where nothing is known of it yet.
pub(crate) fn progress(event: &Event) -> Option<RunProgress> {
    Some(RunProgress {
        percent: event.percent?.into(),
        bytes_per_second: event.bytes_per_second,
        left_ms: event.left_ms,
        right_bytes: event.right_bytes,
        written_bytes: event.written_bytes,
        zeroed_bytes: event.zeroed_bytes,
    })
}

fn fix_up(result: &FixUpResult) -> WireResult {
    let outcome = match result.outcome {
        Outcome::Done => FixUpOutcome::Done,
        Outcome::NotNeeded => FixUpOutcome::NotNeeded,
        Outcome::Failed => FixUpOutcome::Failed,
    };
    WireResult { name: result.name.clone(), outcome: outcome.into(), detail: result.detail.clone() }
}
