//! Records as messages of the contract.

use std::time::SystemTime;

use bty_api::{
    convert::timestamp,
    registry::v1 as wire,
    types::v1::{self as types, Action},
};
use bty_types::Policy;

use crate::{
    decide::{Asker, Decision, Surroundings, live, what_next},
    record::{Attempt, Image, Machine, Run, RunState, Step, Token},
};

/// A machine, with what it does next.
pub(crate) fn machine(machine: &Machine, around: &Surroundings, now: SystemTime) -> wire::Machine {
    let Machine { mac, intent, observed, revision } = machine;
    let decision = what_next(machine, around, Asker::PowerOn, now);
    let held = decision.action == Action::Hold;
    wire::Machine {
        mac: mac.to_string(),
        intent: Some(wire::MachineIntent {
            name: intent.name.clone().unwrap_or_default(),
            policy: types::Policy::from(intent.policy).into(),
            image: intent.image.as_ref().map(ToString::to_string).unwrap_or_default(),
            disk: intent.disk.as_ref().map(ToString::to_string).unwrap_or_default(),
            generation: intent.generation,
            chain: intent.chain.map(types::BootChain::from).unwrap_or_default().into(),
            boot_entry: intent.boot_entry.map(types::BootEntry::from).unwrap_or_default().into(),
            failing_disk_ok: intent.failing_disk_ok,
            fix_ups: intent.fix_ups.clone(),
        }),
        observed: Some(wire::MachineObserved {
            first_seen: Some(timestamp(observed.first_seen)),
            last_seen: observed.last_seen.map(timestamp),
            address: observed.address.clone(),
            stage: observed.stage.into(),
            stage_at: observed.stage_at.map(timestamp),
            hardware: observed.hardware.clone(),
            hardware_at: observed.hardware_at.map(timestamp),
            finished_generation: observed.finished_generation,
            flashed_image: observed
                .flashed
                .map(|flashed| flashed.image.to_string())
                .unwrap_or_default(),
            flashed_at: observed.flashed.map(|flashed| timestamp(flashed.at)),
            run_id: observed.run.as_ref().map(|run| run.id.clone()).unwrap_or_default(),
            attempts: observed.attempts,
            held_reason: if held { decision.reason.clone() } else { String::new() },
            progress_percent: machine.running().map(|run| run.percent),
            platform: observed.platform.into(),
            way: Some(way(machine, around)),
            returns: observed.returns.saturating_add(observed.restart_returns),
        }),
        decision: Some(self::decision(decision)),
        revision: *revision,
    }
}

/// What a machine does next.
pub(crate) fn decision(decision: Decision) -> wire::Decision {
    wire::Decision { action: decision.action.into(), reason: decision.reason }
}

/// What a machine is told when it boots from the network.
pub(crate) fn machine_boot(
    machine: &Machine,
    around: &Surroundings,
    now: SystemTime,
) -> wire::MachineBoot {
    let decision = what_next(machine, around, Asker::PowerOn, now);
    wire::MachineBoot {
        mac: machine.mac.to_string(),
        action: decision.action.into(),
        reason: decision.reason,
        attempt: machine.observed.attempt.as_ref().map(attempt),
        name: machine.intent.name.clone().unwrap_or_default(),
        way: Some(way(machine, around)),
        live_modules: live::modules(&machine.observed).to_vec(),
    }
}

fn way(machine: &Machine, around: &Surroundings) -> types::BootWay {
    let chain = machine.intent.chain.unwrap_or(around.boot_chain);
    types::BootWay {
        chain: types::BootChain::from(chain).into(),
        own_drivers: machine.observed.way.own_drivers,
        other_exit: machine.observed.way.other_exit,
    }
}

fn attempt(attempt: &Attempt) -> wire::BootAttempt {
    wire::BootAttempt {
        action: attempt.action.into(),
        paths: attempt.paths.iter().map(|&path| path.into()).collect(),
        at: Some(timestamp(attempt.at)),
    }
}

/// What a machine that nobody knows does.
pub(crate) fn unknown_action(policy: Policy) -> Action {
    match policy {
        Policy::Local => Action::Local,
        Policy::Inventory => Action::Inventory,
        // It has neither image nor disk.
        Policy::FlashOnce | Policy::FlashAlways => Action::Hold,
    }
}

/// A run, with the logs of its failure where they are asked for.
pub(crate) fn run(run: &Run, with_logs: bool) -> wire::Run {
    let log = |text: &String| if with_logs { text.clone() } else { String::new() };
    wire::Run {
        id: run.id.clone(),
        mac: run.mac.to_string(),
        action: run.action.into(),
        generation: run.generation,
        state: state(run.state).into(),
        image_id: run.image_id.map(|id| id.to_string()).unwrap_or_default(),
        image: run.image.clone(),
        disk_selector: run.disk_selector.clone(),
        disk: run.disk.clone(),
        started_at: Some(timestamp(run.started_at)),
        ended_at: run.ended_at.map(timestamp),
        steps: run.steps.iter().map(step).collect(),
        failure: run.failure.as_ref().map(|failure| wire::RunFailure {
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            agent_log: log(&failure.agent_log),
            kernel_log: log(&failure.kernel_log),
        }),
        record: run.record.as_ref().map(|record| wire::FlashRecord {
            proved_id: record.proved_id.to_string(),
            fetched_bytes: record.fetched_bytes,
            written_bytes: record.written_bytes,
            zeroed_bytes: record.zeroed_bytes,
            elapsed_ms: record.elapsed_ms,
            next_boot: record.next_boot.clone(),
            work: record.work.clone(),
            fix_ups: record.fix_ups.clone(),
        }),
        revision: run.revision,
        progress: run.progress,
        index_digest: run.index_digest.clone(),
        agent_version: run.agent_version.clone(),
    }
}

const fn state(state: RunState) -> wire::RunState {
    match state {
        RunState::Running => wire::RunState::Running,
        RunState::Succeeded => wire::RunState::Succeeded,
        RunState::Failed => wire::RunState::Failed,
        RunState::Lost => wire::RunState::Lost,
    }
}

fn step(step: &Step) -> wire::RunStep {
    wire::RunStep {
        name: step.name.clone(),
        started_at: Some(timestamp(step.started_at)),
        ended_at: step.ended_at.map(timestamp),
        done_bytes: step.done_bytes,
        total_bytes: step.total_bytes,
    }
}

/// An image.
pub(crate) fn image(image: Image) -> wire::Image {
    wire::Image {
        id: image.id.to_string(),
        names: image.names,
        raw_bytes: image.raw_bytes,
        stored_bytes: image.stored_bytes,
        mapped_bytes: image.mapped_bytes,
        chunk_bytes: image.chunk_bytes,
        index_digest: image.index_digest,
        source: image.source,
        source_format: image.source_format,
        imported_at: Some(timestamp(image.imported_at)),
        partition_table: image.partition_table,
        partitions: image.partitions,
        boots_bios: image.boots_bios,
        boots_uefi: image.boots_uefi,
        sector_bytes: image.sector_bytes,
        contents: image.contents,
        verified_at: image.verified_at.map(timestamp),
        wrong_chunks: image.wrong_chunks,
    }
}

/// A token, without its secret.
pub(crate) fn token(token: &Token) -> wire::Token {
    wire::Token {
        name: token.name.clone(),
        role: token.role.into(),
        created_at: Some(timestamp(token.created_at)),
        expires_at: token.expires_at.map(timestamp),
        last_used_at: token.last_used_at.map(timestamp),
    }
}
