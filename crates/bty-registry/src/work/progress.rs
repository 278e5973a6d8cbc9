//! What an agent reports while it works.

use bty_api::{
    registry::v1::RunProgress,
    types::v1::{Disk, Stage},
};

use super::{check_in::Boot, finish::run_of};
use crate::{
    problem::Problem,
    record::{NewEvent, Run, RunState, Step},
    store::Transaction,
};

/// Steps of one run. An agent takes each once, and once more for each time it was restarted.
const MAX_STEPS: usize = 100;
/// Characters of a step's name.
const STEP_CHARS: usize = 32;
/// The last percent of the step that writes; reading back takes the rest.
const WRITTEN_PERCENT: u64 = 80;

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Progress {
    /// The run.
    pub run_id: String,
    /// The step that it is in.
    pub step: String,
    /// Bytes done in this step.
    pub done_bytes: u64,
    /// Bytes in all; 0 where it isn't counted in bytes.
    pub total_bytes: u64,
    /// The disk that is written.
    pub disk: Option<Disk>,
    /// How far the whole is.
    pub whole: Option<RunProgress>,
}

/// Takes a report. One about a run that is over changes nothing.
pub(crate) fn report_progress(
    transaction: &mut Transaction<'_>,
    boot: &Boot,
    progress: Progress,
) -> Result<(), Problem> {
    let now = transaction.now();
    let mut run = run_of(transaction, boot, &progress.run_id)?;
    if run.state == RunState::Lost {
        run = revive(transaction, run)?;
    }
    if run.state != RunState::Running {
        return Ok(());
    }
    if progress.step.is_empty()
        || progress.step.len() > STEP_CHARS
        || progress.step.contains(char::is_control)
    {
        return Err(Problem::value("step", "a step's name has 1 to 32 printable characters"));
    }
    run.heard_at = now;
    if progress.disk.is_some() {
        run.disk = progress.disk;
    }
    let is_same =
        run.steps.last().is_some_and(|step| step.name == progress.step && step.ended_at.is_none());
    if !is_same {
        if run.steps.len() >= MAX_STEPS {
            return Err(Problem::Full(format!("the run has {MAX_STEPS} steps already")));
        }
        if let Some(last) = run.steps.last_mut() {
            last.ended_at.get_or_insert(now);
        }
        run.steps.push(Step {
            name: progress.step.clone(),
            started_at: now,
            ended_at: None,
            done_bytes: 0,
            total_bytes: 0,
        });
    }
    if let Some(step) = run.steps.last_mut() {
        step.done_bytes = progress.done_bytes;
        step.total_bytes = progress.total_bytes;
    }
    run.progress =
        progress.whole.map(|told| RunProgress { percent: told.percent.min(100), ..told });
    run.percent = match run.progress {
        Some(told) => told.percent,
        None => run.steps.last().map_or(0, percent),
    };
    transaction.put_run(&run)?;
    if let Some(mut machine) = transaction.machine(run.mac)? {
        let stage = match progress.step.as_str() {
            "prove" => Stage::Proving,
            "gate" | "inventory" => Stage::Agent,
            _ => Stage::Writing,
        };
        // The time that a stage was reached is when it began.
        if machine.observed.stage == stage {
            machine.observed.last_seen = Some(now);
        } else {
            machine.reached(stage, now);
        }
        if run.has_touched_disk() {
            machine.observed.flashed = None;
        }
        transaction.put_machine(machine)?;
    }
    Ok(())
}

/// An agent that was not heard of for a while is back.
pub(super) fn revive(transaction: &mut Transaction<'_>, mut run: Run) -> Result<Run, Problem> {
    let Some(mut machine) = transaction.machine(run.mac)? else { return Ok(run) };
    if machine.observed.run.as_ref().is_none_or(|latest| latest.id != run.id) {
        return Ok(run);
    }
    run.state = RunState::Running;
    run.ended_at = None;
    run.failure = None;
    run.heard_at = transaction.now();
    transaction.put_run(&run)?;
    if run.generation == machine.intent.generation {
        machine.observed.failure = None;
        machine.observed.open_boot_id.get_or_insert_with(|| run.boot_id.clone());
    }
    transaction.put_machine(machine)?;
    transaction.event(NewEvent {
        kind: "run.resumed",
        actor: "agent".into(),
        mac: Some(run.mac),
        run_id: run.id.clone(),
        image_id: run.image_id,
        message: "its agent was heard of again".into(),
    })?;
    Ok(run)
}

/// How far a run is, in percent, where its agent is too old to say: writing and reading back are what takes time.
fn percent(step: &Step) -> u32 {
    let share = |of: u64| {
        let done = u128::from(step.done_bytes.min(step.total_bytes)) * u128::from(of);
        done.checked_div(u128::from(step.total_bytes))
            .and_then(|share| u64::try_from(share).ok())
            .unwrap_or(0)
    };
    let percent = match step.name.as_str() {
        "write" => share(WRITTEN_PERCENT),
        "flush" | "first-chunk" => WRITTEN_PERCENT,
        "prove" => WRITTEN_PERCENT + share(100 - WRITTEN_PERCENT),
        "fix-ups" => 100,
        _ => 0,
    };
    u32::try_from(percent.min(100)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn percent_never_passes_a_hundred_nor_divides_by_nothing() {
        let rows = [
            ("gate", 5, 10, 0),
            ("write", 0, 0, 0),
            ("write", 50, 100, 40),
            ("write", 200, 100, 80),
            ("flush", 0, 0, 80),
            ("prove", 50, 100, 90),
            ("prove", u64::MAX, u64::MAX, 100),
            ("no-such-step", 1, 1, 0),
        ];
        for (name, done_bytes, total_bytes, want) in rows {
            let step = Step {
                name: name.into(),
                started_at: UNIX_EPOCH,
                ended_at: None,
                done_bytes,
                total_bytes,
            };
            assert_eq!(percent(&step), want, "{name} {done_bytes}/{total_bytes}");
        }
    }
}
