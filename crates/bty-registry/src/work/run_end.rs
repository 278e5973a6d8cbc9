//! The end of a run, and what it means for its machine.

use bty_api::{
    registry::v1::{FixUpOutcome, FixUpResult, NextBoot},
    types::v1::Stage,
};

use super::contact::printable;
use crate::{
    problem::Problem,
    record::{Failure, FlashRecord, Flashed, Machine, NewEvent, Run, RunFailure, RunState},
    store::Transaction,
};

/// So many of the fix-ups that failed are in an event.
const SHOWN_FIX_UPS: usize = 3;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ended {
    /// The image is on the disk, proved.
    Flashed(Box<FlashRecord>),
    /// The hardware is on record.
    Inventoried,
    /// It failed.
    Failed(RunFailure),
    /// Its agent is gone.
    Lost(RunFailure),
}

impl Ended {
    /// Its agent is gone, for this reason.
    pub(super) fn lost(reason: &str, message: &str) -> Self {
        Self::Lost(RunFailure {
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..RunFailure::default()
        })
    }
}

/// Ends a run.
pub(super) fn end(
    transaction: &mut Transaction<'_>,
    mut run: Run,
    ended: Ended,
    actor: &str,
) -> Result<(), Problem> {
    let now = transaction.now();
    run.ended_at = Some(now);
    if let Some(step) = run.steps.last_mut().filter(|step| step.ended_at.is_none()) {
        step.ended_at = Some(now);
    }
    (run.failure, run.progress) = (None, None);
    let (kind, message) = match ended {
        Ended::Flashed(record) => {
            let next = record.next_boot.as_ref().map(told_firmware).unwrap_or_default();
            let could_not = could_not(&record.fix_ups);
            let message = format!("flashed and proved {}{next}{could_not}", record.proved_id);
            run.record = Some(*record);
            run.state = RunState::Succeeded;
            ("run.succeeded", message)
        }
        Ended::Inventoried => {
            run.state = RunState::Succeeded;
            ("run.succeeded", "reported the hardware".into())
        }
        Ended::Failed(failure) => {
            run.state = RunState::Failed;
            let message = format!("failed ({}): {}", failure.reason, failure.message);
            run.failure = Some(failure);
            ("run.failed", message)
        }
        Ended::Lost(failure) => {
            run.state = RunState::Lost;
            let message = format!("lost: {}", failure.message);
            run.failure = Some(failure);
            ("run.lost", message)
        }
    };
    if run.state == RunState::Succeeded {
        run.percent = 100;
    }
    transaction.put_run(&run)?;
    if let Some(machine) = transaction.machine(run.mac)? {
        let machine = after(machine, &run);
        transaction.put_machine(machine)?;
    }
    transaction.event(NewEvent {
        kind,
        actor: actor.to_owned(),
        mac: Some(run.mac),
        run_id: run.id,
        image_id: run.image_id,
        message,
    })?;
    Ok(())
}

/// What could not be changed on the disk afterwards, for an event.
fn could_not(fix_ups: &[FixUpResult]) -> String {
    let failed = fix_ups.iter().filter(|result| result.outcome() == FixUpOutcome::Failed);
    let words =
        failed.clone().map(|result| format!("; could not {}: {}", result.name, result.detail));
    let shown: String = words.take(SHOWN_FIX_UPS).collect();
    match failed.count().saturating_sub(SHOWN_FIX_UPS) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// How the firmware was told to boot the disk, in words.
fn told_firmware(next: &NextBoot) -> String {
    let entry = if next.is_next {
        format!("; its firmware boots {} of the disk next ({})", next.loader, next.entry)
    } else {
        String::new()
    };
    let warning = match next.warning.as_str() {
        "" => String::new(),
        warning => format!("; its boot entries: {warning}"),
    };
    printable(&(entry + &warning))
}

/// What the end of the run makes of its machine.
fn after(mut machine: Machine, run: &Run) -> Machine {
    let generation = machine.intent.generation;
    let observed = &mut machine.observed;
    if observed.open_boot_id.as_deref() == Some(run.boot_id.as_str()) {
        observed.open_boot_id = None;
    }
    let serves_now = run.generation == generation;
    match (&run.failure, run.state) {
        (None, RunState::Succeeded) => {
            observed.finished_generation = observed.finished_generation.max(run.generation);
            if let Some(record) = &run.record {
                observed.flashed = run.ended_at.map(|at| Flashed { image: record.proved_id, at });
                // The restart boots the disk without asking: that is its turn.
                let is_next = record.next_boot.as_ref().is_some_and(|next| next.is_next);
                observed.disk_turn_at = run.ended_at.filter(|_| is_next);
            }
            if serves_now {
                observed.attempts = 0;
                observed.failure = None;
            }
        }
        (Some(failure), _) => {
            if serves_now {
                observed.failure = Some(Failure {
                    generation: run.generation,
                    reason: failure.reason.clone(),
                    message: failure.message.clone(),
                });
            }
            if run.has_touched_disk() {
                observed.flashed = None;
            }
        }
        (None, _) => {}
    }
    if run.state == RunState::Succeeded
        && let Some(at) = run.ended_at
    {
        machine.reached(Stage::Finished, at);
    }
    machine
}
