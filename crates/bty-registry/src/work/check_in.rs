//! An agent says what its machine is and takes the plan.

use std::time::{Duration, SystemTime};

use bty_api::{
    registry::v1::Contact,
    types::v1::{Action, Hardware, Stage},
};
use bty_types::{BootEntry, DiskSelector, FixUps, ImageSelector, MacAddr};
use uuid::Uuid;

use super::{
    contact,
    run_end::{self, Ended},
};
use crate::{
    decide::{Asker, Decision, live, what_next},
    problem::Problem,
    record::{Failure, Image, LatestRun, Machine, NewEvent, Run, RunState},
    store::Transaction,
};

/// Check-ins of one run: an agent that crashes again and again is not started for ever.
const CHECK_INS_PER_RUN: u32 = 10;
/// How long an agent waits before it asks again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Which boot of which machine an agent speaks for, as bty-httpd has proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Boot {
    /// The machine.
    pub mac: MacAddr,
    /// The boot id of its boot script.
    pub id: String,
}

/// What an agent says when it checks in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckIn {
    /// Its machine's hardware.
    pub hardware: Hardware,
    /// Its version.
    pub agent_version: String,
}

/// What an agent is to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plan {
    /// Write an image.
    Flash {
        /// The run.
        run_id: String,
        /// The image.
        image: Box<Image>,
        /// As the wish names it.
        image_name: ImageSelector,
        /// The disk.
        disk: DiskSelector,
        /// What to do to the firmware's boot entries afterwards.
        boot_entry: BootEntry,
        /// Write even a disk that says that it is about to fail.
        failing_disk_ok: bool,
        /// What to change on the disk afterwards.
        fix_ups: Option<Box<FixUps>>,
    },
    /// Nothing more: the hardware is on record.
    Inventory {
        /// The run.
        run_id: String,
    },
    /// Boot the disk.
    BootDisk {
        /// Why.
        reason: String,
    },
    /// Restart, and come back with another live system.
    Restart {
        /// Why.
        reason: String,
    },
    /// Wait and ask again.
    Hold {
        /// Why.
        reason: String,
    },
}

/// Takes a check-in: records the hardware, decides on the state as it is now, and begins or goes on with a run.
pub(crate) fn check_in(
    transaction: &mut Transaction<'_>,
    boot: &Boot,
    said: CheckIn,
) -> Result<Plan, Problem> {
    let now = transaction.now();
    // The contacts of its boot may still be on their way.
    let nothing_seen = Contact::default();
    let Some(mut machine) = contact::known_or_new(transaction, boot.mac, &nothing_seen, "agent")?
    else {
        return Err(Problem::Full(
            "too many machines are known or new; none more is taken in now".into(),
        ));
    };
    // Drivers that this machine's agent lacked at an earlier boot: since then it was given all that there are.
    let had_all = live::lacks(&machine.observed).is_some()
        && machine.observed.checked_in.as_deref() != Some(boot.id.as_str());
    machine.observed.checked_in = Some(boot.id.clone());
    machine.observed.hardware = Some(said.hardware);
    machine.observed.hardware_at = Some(now);
    let agent_version = contact::printable(&said.agent_version);
    let was_held = machine.observed.stage == Stage::Held;
    let is_first = !was_held && machine.running().is_none();
    machine.reached(Stage::Agent, now);
    if is_first {
        transaction.event(NewEvent {
            kind: "agent.checked-in",
            actor: "agent".into(),
            mac: Some(boot.mac),
            message: format!("its agent {agent_version} checked in"),
            ..NewEvent::default()
        })?;
    }
    let machine = transaction.put_machine(machine)?;
    let machine = end_stale_run(transaction, machine, boot)?;
    if let Some(missing) = live::lacks(&machine.observed) {
        return restart_with_all(transaction, machine, boot, &missing, had_all);
    }
    let around = transaction.surroundings(&machine.intent)?;
    let asker = Asker::Agent { boot_id: &boot.id };
    let decision = what_next(&machine, &around, asker, now);
    match decision.action {
        Action::Flash | Action::Inventory => {
            work(transaction, machine, boot, decision.action, &agent_version)
        }
        Action::Local => {
            end_run(transaction, &machine, "SUPERSEDED", "the wish for the machine was changed")?;
            stand(transaction, boot.mac, Stage::Local)?;
            Ok(Plan::BootDisk { reason: decision.reason })
        }
        Action::Hold | Action::Unspecified => {
            end_run(transaction, &machine, "SUPERSEDED", "the machine was told to wait")?;
            hold(transaction, boot.mac, decision, was_held)
        }
    }
}

/// Its live system lacks what it needs: the next one has everything. This try is none; but one with a live system that had everything
/// has failed, since the next would end the same.
fn restart_with_all(
    transaction: &mut Transaction<'_>,
    machine: Machine,
    boot: &Boot,
    missing: &str,
    had_all: bool,
) -> Result<Plan, Problem> {
    end_run(transaction, &machine, "SUPERSEDED", "its live system lacks drivers that it needs")?;
    let mut machine = transaction.machine(boot.mac)?.unwrap_or(machine);
    if machine.observed.open_boot_id.as_deref() == Some(boot.id.as_str()) {
        machine.observed.open_boot_id = None;
        if !had_all {
            machine.observed.attempts = machine.observed.attempts.saturating_sub(1);
        }
    }
    let reason = if had_all {
        let message = format!("its live system lacks {missing}, though it had all drivers");
        let reason = format!("restarting: {message}");
        machine.observed.failure = Some(Failure {
            generation: machine.intent.generation,
            reason: "DRIVERS_MISSING".into(),
            message,
        });
        reason
    } else {
        format!("restarting with all drivers: it needs {missing} now")
    };
    transaction.put_machine(machine)?;
    transaction.event(NewEvent {
        kind: "agent.drivers",
        actor: "registry".into(),
        mac: Some(boot.mac),
        message: reason.clone(),
        ..NewEvent::default()
    })?;
    Ok(Plan::Restart { reason })
}

fn hold(
    transaction: &mut Transaction<'_>,
    mac: MacAddr,
    decision: Decision,
    was_held: bool,
) -> Result<Plan, Problem> {
    stand(transaction, mac, Stage::Held)?;
    // It asks every few seconds: that is told once.
    if !was_held {
        transaction.event(NewEvent {
            kind: "machine.held",
            actor: "registry".into(),
            mac: Some(mac),
            message: format!("it waits: {}", decision.reason),
            ..NewEvent::default()
        })?;
    }
    Ok(Plan::Hold { reason: decision.reason })
}

fn stand(transaction: &mut Transaction<'_>, mac: MacAddr, stage: Stage) -> Result<(), Problem> {
    if let Some(mut machine) = transaction.machine(mac)? {
        machine.reached(stage, transaction.now());
        transaction.put_machine(machine)?;
    }
    Ok(())
}

/// Ends a run that no agent will end: one that another boot began, and one whose agent came back too often.
fn end_stale_run(
    transaction: &mut Transaction<'_>,
    machine: Machine,
    boot: &Boot,
) -> Result<Machine, Problem> {
    let Some(latest) = machine.running() else { return Ok(machine) };
    let Some(run) = transaction.run(&latest.id)? else { return Ok(machine) };
    let ended = if run.boot_id != boot.id {
        Ended::lost("RESTARTED", "the machine was started again before the run had ended")
    } else if run.check_ins >= CHECK_INS_PER_RUN {
        let message = format!(
            "its agent was started {CHECK_INS_PER_RUN} times in this run and never ended it"
        );
        Ended::lost("AGENT_RESTARTS", &message)
    } else {
        return Ok(machine);
    };
    run_end::end(transaction, run, ended, "registry")?;
    Ok(transaction.machine(boot.mac)?.unwrap_or(machine))
}

/// Ends the run under way, if one is.
fn end_run(
    transaction: &mut Transaction<'_>,
    machine: &Machine,
    reason: &str,
    message: &str,
) -> Result<(), Problem> {
    let Some(latest) = machine.running() else { return Ok(()) };
    let Some(run) = transaction.run(&latest.id)? else { return Ok(()) };
    run_end::end(transaction, run, Ended::lost(reason, message), "registry")
}

/// Begins a run, or goes on with the one that this boot has begun.
fn work(
    transaction: &mut Transaction<'_>,
    machine: Machine,
    boot: &Boot,
    action: Action,
    agent_version: &str,
) -> Result<Plan, Problem> {
    let assigned = match (action, &machine.intent.image, &machine.intent.disk) {
        (Action::Flash, Some(name), Some(disk)) => {
            let id = transaction.image_id(name)?;
            let image = id.map(|id| transaction.image(id)).transpose()?.flatten();
            let image = image.ok_or_else(|| Problem::NoImage(name.to_string()))?;
            Some((image, name.clone(), disk.clone()))
        }
        _ => None,
    };
    let boot_entry = machine.intent.boot_entry.unwrap_or_else(|| transaction.rules().boot_entry);
    let failing_disk_ok = machine.intent.failing_disk_ok;
    let run = match going_on(
        transaction,
        &machine,
        action,
        assigned.as_ref().map(|(image, ..)| image),
    )? {
        Some(run) => run,
        None => begin(transaction, machine, boot, action, assigned.as_ref(), agent_version)?,
    };
    Ok(match assigned {
        Some((image, image_name, disk)) => Plan::Flash {
            run_id: run.id,
            image: Box::new(image),
            image_name,
            disk,
            boot_entry,
            failing_disk_ok,
            fix_ups: transaction.fix_ups(boot.mac)?.map(Box::new),
        },
        None => Plan::Inventory { run_id: run.id },
    })
}

/// The run under way, where it still is what is wanted.
fn going_on(
    transaction: &mut Transaction<'_>,
    machine: &Machine,
    action: Action,
    image: Option<&Image>,
) -> Result<Option<Run>, Problem> {
    let Some(latest) = machine.running() else { return Ok(None) };
    let Some(mut run) = transaction.run(&latest.id)? else { return Ok(None) };
    let is_wanted = run.action == action
        && run.generation == machine.intent.generation
        && run.image_id == image.map(|image| image.id);
    if !is_wanted {
        run_end::end(
            transaction,
            run,
            Ended::lost("SUPERSEDED", "the wish for the machine was changed"),
            "registry",
        )?;
        return Ok(None);
    }
    run.check_ins += 1;
    run.heard_at = transaction.now();
    transaction.put_run(&run)?;
    transaction.event(NewEvent {
        kind: "run.resumed",
        actor: "agent".into(),
        mac: Some(run.mac),
        run_id: run.id.clone(),
        image_id: run.image_id,
        message: "its agent checked in again and goes on".into(),
    })?;
    Ok(Some(run))
}

fn begin(
    transaction: &mut Transaction<'_>,
    machine: Machine,
    boot: &Boot,
    action: Action,
    assigned: Option<&(Image, ImageSelector, DiskSelector)>,
    agent_version: &str,
) -> Result<Run, Problem> {
    let now = transaction.now();
    let mut machine = transaction.machine(boot.mac)?.unwrap_or(machine);
    let mut run = new_run(boot, machine.intent.generation, action, assigned, now);
    agent_version.clone_into(&mut run.agent_version);
    transaction.put_run(&run)?;
    // The power-on counted when its script was given; a further try in the same boot counts by itself.
    if machine.observed.open_boot_id.as_deref() != Some(boot.id.as_str()) {
        machine.observed.attempts = machine.observed.attempts.saturating_add(1);
        machine.observed.open_boot_id = Some(boot.id.clone());
    }
    machine.observed.run = Some(LatestRun {
        id: run.id.clone(),
        state: RunState::Running,
        boot_id: boot.id.clone(),
        percent: 0,
    });
    transaction.put_machine(machine)?;
    let message = match assigned {
        Some((_, name, disk)) => format!("began to flash {name} to the disk {disk}"),
        None => "began to report the hardware".into(),
    };
    transaction.event(NewEvent {
        kind: "run.started",
        actor: "agent".into(),
        mac: Some(boot.mac),
        run_id: run.id.clone(),
        image_id: run.image_id,
        message,
    })?;
    Ok(run)
}

fn new_run(
    boot: &Boot,
    generation: u64,
    action: Action,
    assigned: Option<&(Image, ImageSelector, DiskSelector)>,
    now: SystemTime,
) -> Run {
    Run {
        id: Uuid::now_v7().to_string(),
        mac: boot.mac,
        boot_id: boot.id.clone(),
        action,
        generation,
        state: RunState::Running,
        image_id: assigned.map(|(image, ..)| image.id),
        index_digest: assigned.map(|(image, ..)| image.index_digest.clone()).unwrap_or_default(),
        image: assigned.map(|(_, name, _)| name.to_string()).unwrap_or_default(),
        disk_selector: assigned.map(|(.., disk)| disk.to_string()).unwrap_or_default(),
        disk: None,
        started_at: now,
        ended_at: None,
        heard_at: now,
        check_ins: 1,
        agent_version: String::new(),
        percent: 0,
        progress: None,
        steps: Vec::new(),
        failure: None,
        record: None,
        revision: 0,
    }
}
