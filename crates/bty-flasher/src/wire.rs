//! Disks, records and failures as messages of the contract.

use bty_api::{
    registry::v1::FlashRecord,
    types::v1::{Disk as WireDisk, Health as WireHealth, HealthState},
};
use bty_disk::{
    Disk,
    health::{Health, State},
};

use crate::engine::Record;

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

/// A record as a message; only an agent tells a firmware what to boot next.
pub(crate) fn record(record: &Record) -> FlashRecord {
    FlashRecord {
        proved_id: if record.proved { record.id.to_string() } else { String::new() },
        fetched_bytes: record.fetched_bytes,
        written_bytes: record.written_bytes,
        zeroed_bytes: record.zeroed_bytes,
        elapsed_ms: record.elapsed_ms,
        next_boot: None,
    }
}
