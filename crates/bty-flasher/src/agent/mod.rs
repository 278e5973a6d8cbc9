//! The agent: what runs in the live system. Says what the machine is, takes the plan, carries it out, tells how it goes.
//!
//! It never waits for a key. While the server is away it tries again, and after ten minutes without a word it restarts the machine;
//! after a failure it stays and asks what to do, so that a person can look and the disk isn't booted.

mod client;
mod hardware;
mod kernel_log;
mod parameters;
mod pin;
mod say;
mod work;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use bty_api::{
    agent::v1::{
        CheckInRequest, CheckInResponse, FinishRequest, InventoryDone, check_in_response::Plan,
        finish_request::Outcome,
    },
    status,
};
use tonic::{Code, Status};

use crate::firmware;
use client::Client;
use parameters::Parameters;
use say::Say;

/// Without an answer for so long, the machine restarts: its next boot may find the server.
const GIVE_UP: Duration = Duration::from_mins(10);
/// Between tries while the server is away.
const RETRY: Duration = Duration::from_secs(3);
/// How long drivers may take to find their devices once the agent runs. Not counted from the machine's start: behind a slow network, or
/// on a slow processor, the agent itself comes late.
const DRIVERS: Duration = Duration::from_mins(1);
/// Between looks whether drivers are loaded.
const LOOK_FOR_DRIVERS: Duration = Duration::from_millis(10);
/// Between looks for disks that may still be coming up.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The shortest and the longest wait of a machine that is held.
const HOLD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Runs the agent; `drivers` is a file that is made when drivers are loaded. When it returns, the machine is to be restarted; the
/// code says whether all went well.
pub(crate) fn main(drivers: Option<&Path>) -> ExitCode {
    let say = Say::new();
    let parameters = match Parameters::from_kernel() {
        Ok(parameters) => parameters,
        Err(problem) => {
            say.line(&format!("the kernel's command line is wrong: {problem}"));
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            say.line(&format!("starting failed: {problem}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&parameters, drivers, &say)) {
        Ok(()) => {
            say.line("done, restarting");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            say.line(&format!("giving up: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// Until the machine is to be restarted.
async fn run(parameters: &Parameters, drivers: Option<&Path>, say: &Say) -> Result<(), String> {
    let mut client = Client::new(parameters)?;
    // The handshake takes a small processor a while, and drivers wait for their devices.
    tokio::join!(client.connect(), wait_for(drivers));
    loop {
        let answer = check_in(&mut client, drivers, say).await?;
        match answer.plan {
            Some(Plan::Flash(plan)) => {
                say.line(&format!(
                    "writing {} ({}) to the disk {}",
                    plan.image_name, plan.image_id, plan.disk
                ));
                let run_id = plan.run_id.clone();
                let outcome = work::flash(plan, parameters, &client, say).await;
                let is_next = boots_disk_next(&outcome);
                let finished = finish(&mut client, run_id, outcome, say).await;
                if is_next && finished != Ok(true) {
                    withdraw(say).await;
                }
                if finished? {
                    return Ok(());
                }
            }
            Some(Plan::Inventory(plan)) => {
                say.line("the hardware is reported");
                if finish(&mut client, plan.run_id, Outcome::Inventoried(InventoryDone {}), say)
                    .await?
                {
                    return Ok(());
                }
            }
            Some(Plan::BootDisk(plan)) => {
                say.line(&format!("nothing to do: {}", plan.reason));
                return Ok(());
            }
            Some(Plan::Restart(plan)) => {
                say.line(&plan.reason);
                return Ok(());
            }
            Some(Plan::Hold(plan)) => {
                say.once(&format!("waiting: {}", plan.reason));
                let asked = plan
                    .retry_after
                    .and_then(|wait| Duration::try_from(wait).ok())
                    .unwrap_or(RETRY);
                tokio::time::sleep(asked.clamp(HOLD.0, HOLD.1)).await;
            }
            None => return Err(
                "the server has a plan that this agent does not know; is the live system too old?"
                    .into(),
            ),
        }
    }
}

fn boots_disk_next(outcome: &Outcome) -> bool {
    let Outcome::Flashed(record) = outcome else { return false };
    record.next_boot.as_ref().is_some_and(|next| next.is_next)
}

/// The server does not count the disk as flashed, so it must decide what is booted.
async fn withdraw(say: &Say) {
    let withdrawn = tokio::task::spawn_blocking(firmware::withdraw).await;
    say.line(&match withdrawn {
        Ok(Ok(())) => "the firmware is to boot as always".to_owned(),
        Ok(Err(problem)) => format!("warning: the firmware still boots the disk next: {problem}"),
        Err(_) => "warning: the firmware still boots the disk next: asking it panicked".to_owned(),
    });
}

/// Waits until the file is there, for as long as drivers may take.
async fn wait_for(drivers: Option<&Path>) {
    let Some(file) = drivers else { return };
    let began = Instant::now();
    while !file.exists() && began.elapsed() < DRIVERS {
        tokio::time::sleep(LOOK_FOR_DRIVERS).await;
    }
}

async fn check_in(
    client: &mut Client,
    drivers: Option<&Path>,
    say: &Say,
) -> Result<CheckInResponse, String> {
    let mut hardware = hardware::report(drivers);
    // A disk whose driver isn't here won't show up.
    while hardware.disks.is_empty() && hardware.missing_modules.is_empty() && !say::is_settled() {
        say.once("no disk shows up yet");
        tokio::time::sleep(LOOK_AGAIN).await;
        hardware = hardware::report(drivers);
    }
    let request = CheckInRequest {
        hardware: Some(hardware),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: say::uptime(),
    };
    let began = Instant::now();
    loop {
        match client.check_in(request.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(problem) => patience(&problem, "checking in", began, say).await?,
        }
    }
}

/// Whether to restart now.
async fn finish(
    client: &mut Client,
    run_id: String,
    outcome: Outcome,
    say: &Say,
) -> Result<bool, String> {
    let request = FinishRequest { run_id, outcome: Some(outcome) };
    let began = Instant::now();
    loop {
        match client.finish(request.clone()).await {
            Ok(answer) => return Ok(answer.restart),
            // The run is over, or somebody removed it: repeating won't help, and the server knows what is next.
            Err(problem) if matches!(problem.code(), Code::FailedPrecondition | Code::NotFound) => {
                say.line(&format!("reporting the end: {}", status::shown(&problem)));
                return Ok(false);
            }
            Err(problem) => patience(&problem, "reporting the end", began, say).await?,
        }
    }
}

/// Waits before the next try; an error where trying again is of no use, or has been for too long.
async fn patience(problem: &Status, what: &str, began: Instant, say: &Say) -> Result<(), String> {
    let shown = status::shown(problem);
    if matches!(
        problem.code(),
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument
    ) {
        return Err(format!("{what}: {shown}"));
    }
    if began.elapsed() > GIVE_UP {
        return Err(format!("{what}: {shown} (for {} minutes)", GIVE_UP.as_secs() / 60));
    }
    say.once(&format!("{what}: {shown}; trying again"));
    tokio::time::sleep(RETRY).await;
    Ok(())
}
