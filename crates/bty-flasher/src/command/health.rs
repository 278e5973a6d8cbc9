//! `bty-flasher health`.

#![allow(clippy::print_stdout, reason = "results go to standard output")]

use std::time::Duration;

use bty_disk::{
    Disk,
    discover::System,
    health::{self, Health},
};
use bty_types::ErrorKind;
use serde_json::json;

use super::{Failure, Format, write};
use crate::target;

/// How long all disks together may take.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn run(disk: Option<&str>, output: Format) -> Result<(), Failure> {
    let system = System::default();
    let shown = if let Some(disk) = disk {
        let selector = write::selector(disk)?;
        let disk = target::find(&system, &selector)
            .map_err(|problem| Failure::of(problem.kind(), &problem))?;
        // A person who names one takes it on himself that it may hang behind USB.
        let health = health::of(&disk);
        vec![(disk, health)]
    } else {
        let disks = system.disks().map_err(|problem| {
            Failure::new(ErrorKind::Internal, format!("looking for disks in /sys: {problem}"))
        })?;
        let found = health::of_all(&disks, LIMIT);
        disks.into_iter().zip(found).collect()
    };
    match output {
        Format::Json => {
            let all: Vec<_> = shown.iter().map(|(disk, health)| as_json(disk, health)).collect();
            let text = serde_json::to_string_pretty(&all)
                .map_err(|problem| Failure::new(ErrorKind::Internal, problem.to_string()))?;
            println!("{text}");
        }
        Format::Text if shown.is_empty() => eprintln!("this machine shows no disks"),
        Format::Text => shown.iter().for_each(|(disk, health)| show(disk, health)),
    }
    match shown.iter().find(|(_, health)| health.is_failing()) {
        Some((disk, _)) => {
            let message = format!("{} is about to fail: replace it", disk.path);
            Err(Failure::new(ErrorKind::Precondition, message))
        }
        None => Ok(()),
    }
}

fn as_json(disk: &Disk, health: &Health) -> serde_json::Value {
    json!({
        "disk": disk.path,
        "serial": disk.serial,
        "wwn": disk.wwn,
        "model": disk.model,
        "health": health.state.as_str(),
        "findings": health.findings,
        "temperature_celsius": health.temperature_celsius,
        "percentage_used": health.percentage_used,
        "power_on_hours": health.power_on_hours,
        "reallocated_sectors": health.reallocated_sectors,
        "pending_sectors": health.pending_sectors,
        "uncorrectable_errors": health.uncorrectable_errors,
        "interface_errors": health.interface_errors,
    })
}

fn show(disk: &Disk, health: &Health) {
    println!("{disk}\n  {health}");
    let facts = [
        health.temperature_celsius.map(|degrees| format!("{degrees} °C")),
        health.percentage_used.map(|used| format!("{used} % of its rated life used")),
        health.power_on_hours.map(|hours| format!("on for {hours} hours")),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    if !facts.is_empty() {
        println!("  {}", facts.join(", "));
    }
}
