//! What happened to each machine, at the end.

use anyhow::Result;
use bty_testkit::appliance::Appliance;
use serde_json::{Value, json};

use super::{
    cycle::{Cycle, Phase},
    table::firmware_name,
};

/// Prints a timeline per machine.
pub(super) fn print(appliance: &Appliance, cycles: &[Cycle]) -> Result<()> {
    for cycle in cycles {
        println!("\n{} ({}, {})", cycle.name, cycle.mac, firmware_name(cycle.firmware));
        for (at, what) in &cycle.marks {
            println!("  {at:>7.1} s  {what}");
        }
        if !cycle.failure.is_empty() {
            println!("  {}", cycle.failure);
        }
        if let Some(record) = record(appliance, cycle)? {
            println!("  proved {}", record["proved_id"].as_str().unwrap_or_default());
            println!(
                "  fetched {} bytes, wrote {}, zeroed {}, in {} ms",
                record["fetched_bytes"],
                record["written_bytes"],
                record["zeroed_bytes"],
                record["elapsed_ms"]
            );
        }
    }
    Ok(())
}

/// Prints everything as one JSON document.
pub(super) fn print_json(appliance: &Appliance, cycles: &[Cycle]) -> Result<()> {
    let mut machines = Vec::new();
    for cycle in cycles {
        let marks: Vec<Value> =
            cycle.marks.iter().map(|(at, what)| json!({ "seconds": at, "what": what })).collect();
        machines.push(json!({
            "name": cycle.name,
            "mac": cycle.mac,
            "firmware": firmware_name(cycle.firmware),
            "passed": cycle.phase == Phase::LeftAlone,
            "failure": cycle.failure,
            "timeline": marks,
            "record": record(appliance, cycle)?,
        }));
    }
    let passed = cycles.iter().all(|cycle| cycle.phase == Phase::LeftAlone);
    println!("{:#}", json!({ "passed": passed, "machines": machines }));
    Ok(())
}

fn record(appliance: &Appliance, cycle: &Cycle) -> Result<Option<Value>> {
    let runs = appliance.runs(&cycle.mac)?;
    Ok(runs.first().and_then(|run| run.get("record")).filter(|record| !record.is_null()).cloned())
}
