//! `btyctl run`.

use std::{fmt::Write as _, time::Duration};

use bty_api::registry::v1::{
    FixUpResult, FlashRecord, GetRunRequest, ListRunsRequest, NextBoot, Run as Known, RunProgress,
    RunState, RunStep, StepWork, WatchRunsRequest, run_service_client::RunServiceClient,
};
use bty_types::{ErrorKind, receipt::Step};

use crate::{
    arguments::Run,
    connection::Connection,
    failure::Failure,
    output::{Output, bytes, facts, short, table, time, word},
    progress::Progress,
    verb::receipt,
};

pub(crate) async fn run(verb: Run, connection: &Connection, output: Output) -> Result<(), Failure> {
    let mut client = RunServiceClient::new(connection.registry());
    match verb {
        Run::List { machine, limit } => {
            let request = ListRunsRequest {
                machine: machine.unwrap_or_default(),
                page_size: limit,
                ..Default::default()
            };
            let runs = client.list_runs(request).await?.into_inner();
            output.show(&runs, |runs| list(&runs.runs))
        }
        Run::Show { run } => {
            let shown = client.get_run(GetRunRequest { id: run }).await?.into_inner();
            output.show(&shown, |shown| show(&shown.run.clone().unwrap_or_default()))
        }
        Run::Watch { run: None } => {
            let mut changes = client.watch_runs(WatchRunsRequest::default()).await?.into_inner();
            while let Some(change) = changes.message().await? {
                output
                    .show_next(&change, |change| line(&change.run.clone().unwrap_or_default()))?;
            }
            Ok(())
        }
        Run::Watch { run: Some(id) } => {
            let id =
                client.get_run(GetRunRequest { id }).await?.into_inner().run.unwrap_or_default().id;
            let mut changes = client.watch_runs(WatchRunsRequest { id }).await?.into_inner();
            let mut progress = Progress::new(output);
            let mut last = Known::default();
            while let Some(change) = changes.message().await? {
                if output.is_json() {
                    output.show_next(&change, |_| String::new())?;
                }
                last = change.run.unwrap_or_default();
                follow(&last, &mut progress);
            }
            progress.end();
            ended(&last, output)
        }
    }
}

/// Shows how far a run is.
fn follow(run: &Known, progress: &mut Progress) {
    let Some(step) = run.steps.last() else { return };
    match &run.progress {
        Some(told) => progress.percent(&step.name, told.percent, &pace(told)),
        None if run.state() == RunState::Running => {
            let total = Some(step.total_bytes).filter(|&total| total > 0);
            progress.update(&step.name, step.done_bytes, total);
        }
        // Its end is shown as a whole.
        None => {}
    }
}

/// The rate of a run, and how long the rest takes.
fn pace(told: &RunProgress) -> String {
    let mut text = String::new();
    if told.bytes_per_second > 0 {
        let _ = write!(text, "  {:>8}/s", bytes(told.bytes_per_second));
    }
    if let Some(left) = told.left_ms {
        let seconds = left.div_ceil(1000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let _ = match hours {
            0 => write!(text, "  {minutes}:{seconds:02} left"),
            1..100 => write!(text, "  {hours}:{minutes:02}:{seconds:02} left"),
            _ => write!(text, "  days left"),
        };
    }
    text
}

fn ended(run: &Known, output: Output) -> Result<(), Failure> {
    if !output.is_json() {
        output.show(run, show)?;
    }
    if run.state() == RunState::Succeeded {
        return Ok(());
    }
    let why = run.failure.clone().unwrap_or_default().message;
    Err(Failure::new(ErrorKind::Precondition, format!("the run {} did not succeed: {why}", run.id)))
}

fn state(run: &Known) -> String {
    word(run.state().as_str_name(), "RUN_STATE_")
}

fn line(run: &Known) -> String {
    let step = at(run);
    let pace = run.progress.as_ref().map(pace).unwrap_or_default();
    let why = run.failure.clone().unwrap_or_default().message;
    format!("{}  {}  {}  {step}{pace} {why}", run.id, run.mac, state(run))
}

/// Which step a run is in, and how far the whole is; where its agent doesn't say that, the step.
fn at(run: &Known) -> String {
    let Some(step) = run.steps.last() else { return String::new() };
    let percent = match &run.progress {
        Some(told) => Some(told.percent.into()),
        None => step.done_bytes.saturating_mul(100).checked_div(step.total_bytes),
    };
    match percent {
        Some(percent) => format!("{} {percent} %", step.name),
        None => step.name.clone(),
    }
}

fn list(runs: &[Known]) -> String {
    if runs.is_empty() {
        return "no runs yet".to_owned();
    }
    let rows = runs.iter().map(|run| {
        [
            run.id.clone(),
            run.mac.clone(),
            word(run.action().as_str_name(), "ACTION_"),
            run.image.clone(),
            state(run),
            at(run),
            time(run.started_at.as_ref()),
            run.failure.clone().unwrap_or_default().reason,
        ]
    });
    table(["RUN", "MACHINE", "WORK", "IMAGE", "STATE", "STEP", "STARTED", "FAILURE"], rows)
}

fn show(run: &Known) -> String {
    let disk = run.disk.clone().unwrap_or_default();
    let record = run.record.clone().unwrap_or_default();
    let failure = run.failure.clone().unwrap_or_default();
    let mut text = facts(&[
        ("run", run.id.clone()),
        ("machine", run.mac.clone()),
        ("work", word(run.action().as_str_name(), "ACTION_")),
        ("state", state(run)),
        (
            "image",
            if run.image.is_empty() {
                String::new()
            } else {
                format!("{} ({})", run.image, short(&run.image_id))
            },
        ),
        ("asked for", run.disk_selector.clone()),
        (
            "disk",
            if disk.path.is_empty() {
                String::new()
            } else {
                format!("{} {} {} {}", disk.path, disk.serial, disk.model, bytes(disk.size_bytes))
            },
        ),
        ("started", time(run.started_at.as_ref())),
        ("ended", time(run.ended_at.as_ref())),
        ("proved", record.proved_id.clone()),
        ("moved", moved(&record)),
        ("asked how", asked(&record)),
        ("choice", record.work.as_ref().map(|work| work.choice.clone()).unwrap_or_default()),
        ("repeated", repeated(&record)),
        ("agent", run.agent_version.clone()),
        ("progress", run.progress.as_ref().map(progress).unwrap_or_default()),
        ("boots next", next_boot(record.next_boot.as_ref())),
        ("boot order", boot_order(record.next_boot.as_ref())),
        ("fix-ups", fix_ups(&record.fix_ups)),
        ("warning", record.next_boot.as_ref().map(|next| next.warning.clone()).unwrap_or_default()),
        (
            "failure",
            if failure.reason.is_empty() {
                String::new()
            } else {
                format!("{}: {}", failure.reason, failure.message)
            },
        ),
    ]);
    let steps = run.steps.iter().map(|step| {
        let amount = if step.total_bytes == 0 {
            String::new()
        } else {
            format!("{} of {}", bytes(step.done_bytes), bytes(step.total_bytes))
        };
        [step.name.clone(), took(step), amount]
    });
    let steps = match &record.work {
        Some(work) => receipt::steps(work.steps.iter().map(measured)),
        None => table(["STEP", "TOOK", "BYTES"], steps),
    };
    let _ = writeln!(text, "\n{steps}");
    for (name, log) in [("agent", &failure.agent_log), ("kernel", &failure.kernel_log)] {
        if !log.is_empty() {
            let _ = writeln!(text, "\nthe {name}'s log\n{log}");
        }
    }
    text
}

/// How far a run is, in words.
fn progress(told: &RunProgress) -> String {
    let (right, written) = (bytes(told.right_bytes), bytes(told.written_bytes));
    let zeroed = bytes(told.zeroed_bytes);
    format!(
        "{} %{}; {right} right already, {written} written, {zeroed} zeroed",
        told.percent,
        pace(told)
    )
}

/// What became of the bytes of a flash.
fn moved(record: &FlashRecord) -> String {
    if record.proved_id.is_empty() {
        return String::new();
    }
    let (fetched, written) = (bytes(record.fetched_bytes), bytes(record.written_bytes));
    let zeroed = bytes(record.zeroed_bytes);
    let seconds = Duration::from_millis(record.elapsed_ms).as_secs_f64();
    let right = match &record.work {
        Some(work) => {
            let (raw, compared) = (bytes(work.raw_bytes), bytes(work.compared_bytes));
            format!("{} of {raw} right already ({compared} compared), ", bytes(work.right_bytes))
        }
        None => String::new(),
    };
    format!("{right}{fetched} fetched, {written} written, {zeroed} zeroed, in {seconds:.1} s")
}

fn asked(record: &FlashRecord) -> String {
    let Some(work) = &record.work else { return String::new() };
    format!("compare {}, verify {}, holes {}", work.compare, work.verify, work.holes)
}

fn repeated(record: &FlashRecord) -> String {
    match record.work.as_ref().map(|work| (work.refetched_chunks, work.retried_requests)) {
        None | Some((0, 0)) => String::new(),
        Some((chunks, requests)) => {
            format!("{chunks} chunks that came wrong, {requests} requests that failed")
        }
    }
}

/// A step as its agent measured it.
fn measured(step: &StepWork) -> Step {
    Step::new(step.name.clone(), step.elapsed_ms, step.bytes)
}

/// What was changed on the disk after the image.
fn fix_ups(results: &[FixUpResult]) -> String {
    let line = |result: &FixUpResult| {
        let outcome = word(result.outcome().as_str_name(), "FIX_UP_OUTCOME_");
        format!("{}: {outcome}: {}", result.name, result.detail)
    };
    results.iter().map(line).collect::<Vec<_>>().join("\n            ")
}

/// What the firmware was told to boot next.
fn next_boot(next: Option<&NextBoot>) -> String {
    let Some(next) = next.filter(|next| !next.entry.is_empty()) else { return String::new() };
    let written = if next.written { "written now" } else { "was there" };
    let told = if next.is_next { "" } else { ", but the firmware was not told" };
    format!("{} ({}, {written}){told}", next.entry, next.loader)
}

/// The firmware's boot order, and what became of it.
fn boot_order(next: Option<&NextBoot>) -> String {
    match next {
        Some(next) if !next.new_order.is_empty() => {
            format!("{} (was {})", next.new_order, next.order)
        }
        Some(next) if !next.order.is_empty() => format!("{} (left alone)", next.order),
        _ => String::new(),
    }
}

fn took(step: &RunStep) -> String {
    let at = |at: &Option<prost_types::Timestamp>| bty_api::convert::system_time(at.as_ref());
    match (at(&step.started_at), at(&step.ended_at)) {
        (Some(started), Some(ended)) => {
            format!("{:.1} s", ended.duration_since(started).unwrap_or_default().as_secs_f64())
        }
        _ => "goes on".to_owned(),
    }
}
