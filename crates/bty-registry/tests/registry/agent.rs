//! A machine's way from its first power-on to its disk, as bty-httpd and the agent tell it.

use bty_api::{
    agent::v1::{
        FinishRequest, InventoryDone, ReportProgressRequest, check_in_response::Plan,
        finish_request::Outcome,
    },
    registry::v1::{
        FlashRecord, GetRunRequest, ListRunsRequest, MachineIntent, Run, RunFailure, RunState,
        WatchRunsRequest,
    },
    status,
    types::v1::{Action, Hardware, Policy, Stage},
};
use tonic::{Code, Status};

use crate::{
    harness::{MAC, Registry, eventually, hardware, speaking_for},
    images,
};

fn wish(policy: Policy) -> MachineIntent {
    MachineIntent {
        policy: policy.into(),
        image: "debian:13".into(),
        disk: "serial:S1".into(),
        ..MachineIntent::default()
    }
}

fn run_id(plan: &Plan) -> String {
    match plan {
        Plan::Flash(plan) => plan.run_id.clone(),
        Plan::Inventory(plan) => plan.run_id.clone(),
        other => panic!("no work: {other:?}"),
    }
}

async fn finish(
    registry: &Registry,
    boot: &str,
    run_id: &str,
    outcome: Outcome,
) -> Result<bool, Status> {
    let request = FinishRequest { run_id: run_id.into(), outcome: Some(outcome) };
    Ok(registry.agents().finish(speaking_for(request, MAC, boot)).await?.into_inner().restart)
}

fn flashed(image: &str) -> Outcome {
    Outcome::Flashed(FlashRecord {
        proved_id: image.into(),
        written_bytes: 4096,
        ..FlashRecord::default()
    })
}

fn failed(reason: &str) -> Outcome {
    let message = format!("{reason} happened");
    Outcome::Failed(RunFailure {
        reason: reason.into(),
        message,
        agent_log: "log".into(),
        ..RunFailure::default()
    })
}

async fn run(registry: &Registry, id: &str) -> Run {
    let request = GetRunRequest { id: id.into() };
    registry.runs().get_run(request).await.unwrap().into_inner().run.unwrap()
}

/// A power-on that flashes well: checks in, works, ends.
async fn flash(registry: &mut Registry, boot: &str, image: &str) {
    assert_eq!(registry.power_on(MAC, boot).await, Action::Flash);
    let plan = registry.check_in(MAC, boot).await.unwrap();
    assert!(finish(registry, boot, &run_id(&plan), flashed(image)).await.unwrap(), "it restarts");
}

#[tokio::test]
async fn an_unknown_machine_reports_its_hardware_once() {
    let mut registry = Registry::start("");
    assert_eq!(registry.power_on(MAC, "b1").await, Action::Inventory);
    let plan = registry.check_in(MAC, "b1").await.unwrap();
    let id = run_id(&plan);
    assert!(matches!(plan, Plan::Inventory(_)), "{plan:?}");
    assert!(finish(&registry, "b1", &id, Outcome::Inventoried(InventoryDone {})).await.unwrap());
    let observed = registry.machine(MAC).await.observed.unwrap();
    assert_eq!(observed.hardware, Some(hardware()));
    assert_eq!((observed.finished_generation, observed.attempts), (1, 0));
    assert_eq!(registry.power_on(MAC, "b2").await, Action::Local);
    assert_eq!(run(&registry, &id).await.state(), RunState::Succeeded);
}

fn loaded(modules: &[&str], missing: &[&str]) -> Hardware {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Hardware { modules: names(modules), missing_modules: names(missing), ..hardware() }
}

#[tokio::test]
async fn a_machine_whose_hardware_has_changed_is_sent_for_all_drivers_and_that_is_no_try() {
    let mut registry = Registry::start("");
    images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    let told = async |registry: &Registry| registry.boot_of(MAC).await.live_modules;
    assert!(told(&registry).await.is_empty(), "nothing is known of it");
    registry.power_on(MAC, "b1").await;
    let known = loaded(&["nvme", "igc", "../x", "a b"], &[]);
    let first = registry.check_in_with(MAC, "b1", known).await.unwrap();
    finish(&registry, "b1", &run_id(&first), failed("NETWORK_LOST")).await.unwrap();
    assert_eq!(told(&registry).await, ["nvme", "igc"], "what is no module's name is dropped");

    registry.power_on(MAC, "b2").await;
    assert!(told(&registry).await.is_empty(), "until its agent checks in");
    let changed = loaded(&["igc"], &["mpt3sas"]);
    let plan = registry.check_in_with(MAC, "b2", changed).await.unwrap();
    let Plan::Restart(restart) = plan else { panic!("{plan:?}") };
    assert!(restart.reason.contains("mpt3sas"), "{}", restart.reason);
    assert!(told(&registry).await.is_empty());
    assert_eq!(registry.machine(MAC).await.observed.unwrap().attempts, 1, "that of the first boot");

    assert_eq!(registry.power_on(MAC, "b3").await, Action::Flash);
    let whole = loaded(&["igc", "mpt3sas"], &[]);
    assert!(matches!(registry.check_in_with(MAC, "b3", whole).await, Ok(Plan::Flash(_))));
    assert_eq!(told(&registry).await, ["igc", "mpt3sas"]);
}

#[tokio::test]
async fn a_machine_that_lacks_drivers_when_it_has_all_is_not_restarted_for_ever() {
    let mut registry = Registry::start("");
    images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    // The first restart is no try; the three that follow a live system with everything are.
    for boot in ["b0", "b1", "b2", "b3"] {
        assert_eq!(registry.power_on(MAC, boot).await, Action::Flash, "{boot}");
        for _ in 0..2 {
            // Said twice, as by an agent that did not hear the answer.
            let plan = registry.check_in_with(MAC, boot, loaded(&[], &["odd"])).await.unwrap();
            assert!(matches!(plan, Plan::Restart(_)), "{plan:?}");
        }
    }
    let (action, reason) = registry.next(MAC).await;
    assert_eq!(action, Action::Hold);
    assert_eq!(reason, "failed 3 times: its live system lacks odd, though it had all drivers");
}

#[tokio::test]
async fn an_agent_that_is_told_to_boot_the_disk_was_not_silent() {
    let mut registry = Registry::start("");
    images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    registry.power_on(MAC, "b1").await;
    registry.set(MAC, wish(Policy::Local)).await.unwrap();
    let plan = registry.check_in_with(MAC, "b1", loaded(&["igc"], &[])).await.unwrap();
    assert!(matches!(plan, Plan::BootDisk(_)), "{plan:?}");
    assert_eq!(registry.boot_of(MAC).await.live_modules, ["igc"]);
}

#[tokio::test]
async fn a_machine_is_flashed_once_with_every_step_on_record() {
    let mut registry = Registry::start("");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    assert_eq!(registry.power_on(MAC, "b1").await, Action::Flash);
    let Plan::Flash(plan) = registry.check_in(MAC, "b1").await.unwrap() else { panic!("no flash") };
    assert_eq!((plan.image_id.as_str(), plan.disk.as_str()), (image.as_str(), "serial:S1"));
    assert_eq!(plan.image_url, format!("/images/{}.img.zst", image.trim_start_matches("blake3:")));
    assert_eq!((plan.raw_bytes, plan.image_name.as_str()), ((4 << 20) + 512, "debian:13"));

    let report = |step: &str, done_bytes| ReportProgressRequest {
        run_id: plan.run_id.clone(),
        step: step.into(),
        done_bytes,
        total_bytes: 100,
        disk: hardware().disks.pop(),
        progress: None,
    };
    let reports =
        vec![report("gate", 0), report("write", 10), report("write", 50), report("prove", 50)];
    let reports = speaking_for(tokio_stream::iter(reports), MAC, "b1");
    registry.agents().report_progress(reports).await.unwrap();
    let machine = registry.machine(MAC).await;
    let observed = machine.observed.unwrap();
    assert_eq!((observed.stage(), observed.progress_percent), (Stage::Proving, Some(90)));

    let mut watch = registry
        .runs()
        .watch_runs(WatchRunsRequest { id: plan.run_id.clone() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().run.unwrap().state(), RunState::Running);
    for _ in 0..2 {
        // Said twice: the answer is the same.
        assert!(finish(&registry, "b1", &plan.run_id, flashed(&image)).await.unwrap());
    }
    let last = watch.message().await.unwrap().unwrap().run.unwrap();
    assert_eq!(last.state(), RunState::Succeeded);
    assert_eq!(watch.message().await.unwrap(), None, "the watch ends with its run");
    let steps: Vec<_> =
        last.steps.iter().map(|step| (step.name.as_str(), step.ended_at.is_some())).collect();
    assert_eq!(steps, [("gate", true), ("write", true), ("prove", true)]);
    assert_eq!(last.disk, hardware().disks.pop());

    assert_eq!(registry.power_on(MAC, "b2").await, Action::Local, "it is left alone");
    let plan = registry.check_in(MAC, "b2").await.unwrap();
    assert!(matches!(plan, Plan::BootDisk(_)), "an agent that was booted all the same: {plan:?}");
    registry.rearm(MAC).await;
    assert_eq!(registry.next(MAC).await.0, Action::Flash);
}

#[tokio::test]
async fn flash_always_gives_the_disk_one_turn() {
    let mut registry = Registry::start("");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashAlways)).await.unwrap();
    for round in 0..2 {
        flash(&mut registry, &format!("flash-{round}"), &image).await;
        assert_eq!(registry.power_on(MAC, "disk").await, Action::Local);
    }
    assert_eq!(registry.next(MAC).await.0, Action::Flash);
}

#[tokio::test]
async fn a_wrong_disk_holds_until_the_wish_changes() {
    let mut registry = Registry::start("");
    images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    registry.power_on(MAC, "b1").await;
    let id = run_id(&registry.check_in(MAC, "b1").await.unwrap());
    assert!(
        !finish(&registry, "b1", &id, failed("DISK_ABSENT")).await.unwrap(),
        "it does not restart"
    );
    let hold = registry.check_in(MAC, "b1").await.unwrap();
    let Plan::Hold(hold) = hold else { panic!("no hold: {hold:?}") };
    assert_eq!(
        (hold.reason.as_str(), hold.retry_after.unwrap().seconds),
        ("DISK_ABSENT happened", 5)
    );
    assert_eq!(registry.power_on(MAC, "b2").await, Action::Hold);
    let failure = run(&registry, &id).await.failure.unwrap();
    assert_eq!((failure.reason.as_str(), failure.agent_log.as_str()), ("DISK_ABSENT", "log"));
    let listed = registry.runs().list_runs(ListRunsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.runs[0].failure.as_ref().unwrap().agent_log, "", "a list has no logs");
    registry
        .set(MAC, MachineIntent { disk: "only".into(), ..MachineIntent::default() })
        .await
        .unwrap();
    let plan = registry.check_in(MAC, "b1").await.unwrap();
    assert!(matches!(plan, Plan::Flash(_)), "the waiting agent goes on: {plan:?}");
}

#[tokio::test]
async fn a_proof_of_another_image_is_a_failure() {
    let mut registry = Registry::start("");
    images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    registry.power_on(MAC, "b1").await;
    let id = run_id(&registry.check_in(MAC, "b1").await.unwrap());
    let other = format!("blake3:{}", "ab".repeat(32));
    assert!(!finish(&registry, "b1", &id, flashed(&other)).await.unwrap());
    let run = run(&registry, &id).await;
    assert_eq!(
        (run.state(), run.failure.unwrap().reason.as_str()),
        (RunState::Failed, "PROOF_MISMATCH")
    );
    assert_eq!(registry.next(MAC).await.0, Action::Hold);
}

#[tokio::test]
async fn an_agent_that_dies_is_offered_its_work_a_bounded_number_of_times() {
    let mut registry = Registry::start("");
    images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    for boot in ["b1", "b2", "b3"] {
        assert_eq!(registry.power_on(MAC, boot).await, Action::Flash);
        let plan = registry.check_in(MAC, boot).await.unwrap();
        assert!(matches!(plan, Plan::Flash(_)), "{boot}: {plan:?}");
    }
    registry.power_on(MAC, "b4").await;
    let plan = registry.check_in(MAC, "b4").await.unwrap();
    let Plan::Hold(hold) = plan else { panic!("it loops: {plan:?}") };
    assert!(hold.reason.contains("failed 3 times"), "{}", hold.reason);
    assert_eq!(registry.next(MAC).await.0, Action::Hold);
    let runs =
        registry.runs().list_runs(ListRunsRequest::default()).await.unwrap().into_inner().runs;
    let states: Vec<_> = runs.iter().map(Run::state).collect();
    assert_eq!(states, [RunState::Lost; 3]);
}

#[tokio::test]
async fn failures_in_one_boot_are_bounded_too() {
    let mut registry = Registry::start("");
    images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    registry.power_on(MAC, "b1").await;
    for _ in 0..3 {
        let id = run_id(&registry.check_in(MAC, "b1").await.unwrap());
        finish(&registry, "b1", &id, failed("NETWORK")).await.unwrap();
    }
    let plan = registry.check_in(MAC, "b1").await.unwrap();
    assert!(matches!(plan, Plan::Hold(_)), "{plan:?}");
    assert_eq!(registry.machine(MAC).await.observed.unwrap().attempts, 3);
}

#[tokio::test]
async fn an_agent_that_restarts_goes_on_with_its_run_but_not_for_ever() {
    let mut registry = Registry::start("max_attempts = 1");
    images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    registry.power_on(MAC, "b1").await;
    let first = run_id(&registry.check_in(MAC, "b1").await.unwrap());
    let second = run_id(&registry.check_in(MAC, "b1").await.unwrap());
    assert_eq!(first, second);
    let mut check_ins = 2;
    while !matches!(registry.check_in(MAC, "b1").await.unwrap(), Plan::Hold(_)) {
        check_ins += 1;
        assert!(check_ins < 100, "it loops");
    }
    assert_eq!(run(&registry, &first).await.state(), RunState::Lost);
}

#[tokio::test]
async fn a_boot_counts_once_even_where_its_script_is_reported_late() {
    let mut registry = Registry::start("");
    images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    let id = run_id(&registry.check_in(MAC, "b1").await.unwrap());
    assert_eq!(registry.power_on(MAC, "b1").await, Action::Flash);
    assert_eq!(registry.machine(MAC).await.observed.unwrap().attempts, 1);
    finish(&registry, "b1", &id, failed("NETWORK")).await.unwrap();
    assert_eq!(registry.machine(MAC).await.observed.unwrap().attempts, 1);
}

#[tokio::test]
async fn a_disk_that_is_being_written_holds_no_image() {
    let mut registry = Registry::start("");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    flash(&mut registry, "b1", &image).await;
    assert_eq!(registry.machine(MAC).await.observed.unwrap().flashed_image, image);
    registry.rearm(MAC).await;
    registry.power_on(MAC, "b2").await;
    let run_id = run_id(&registry.check_in(MAC, "b2").await.unwrap());
    let report = |step: &str| ReportProgressRequest {
        run_id: run_id.clone(),
        step: step.into(),
        ..ReportProgressRequest::default()
    };
    let holds = async |step| {
        let reports = speaking_for(tokio_stream::iter([report(step)]), MAC, "b2");
        registry.agents().report_progress(reports).await.unwrap();
        !registry.machine(MAC).await.observed.unwrap().flashed_image.is_empty()
    };
    assert!(holds("gate").await, "nothing was written yet");
    assert!(!holds("blank").await);
}

#[tokio::test]
async fn a_silent_agent_is_lost_and_found() {
    let mut registry = Registry::start("lost_after_seconds = 1");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    registry.power_on(MAC, "b1").await;
    let id = run_id(&registry.check_in(MAC, "b1").await.unwrap());
    eventually("the loss of the run", async || run(&registry, &id).await.state() == RunState::Lost)
        .await;
    assert!(finish(&registry, "b1", &id, flashed(&image)).await.unwrap(), "its work counts");
    assert_eq!(registry.next(MAC).await.0, Action::Local);
}

#[tokio::test]
async fn a_change_of_the_wish_during_a_flash_flashes_again() {
    let mut registry = Registry::start("");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    registry.power_on(MAC, "b1").await;
    let id = run_id(&registry.check_in(MAC, "b1").await.unwrap());
    registry
        .set(MAC, MachineIntent { disk: "only".into(), ..MachineIntent::default() })
        .await
        .unwrap();
    finish(&registry, "b1", &id, flashed(&image)).await.unwrap();
    let machine = registry.machine(MAC).await;
    assert_eq!(machine.observed.unwrap().finished_generation, 1);
    assert_eq!(machine.intent.unwrap().generation, 2);
    assert_eq!(registry.next(MAC).await.0, Action::Flash);
}

#[tokio::test]
async fn agents_speak_only_for_their_own_run_and_boot() {
    let mut registry = Registry::start("");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce)).await.unwrap();
    registry.power_on(MAC, "b1").await;
    let id = run_id(&registry.check_in(MAC, "b1").await.unwrap());
    let refusal = finish(&registry, "b9", &id, flashed(&image)).await.unwrap_err();
    assert_eq!(
        (refusal.code(), status::reason(&refusal).as_str()),
        (Code::FailedPrecondition, "RUN_NOT_YOURS")
    );
    let refusal = finish(&registry, "b1", "no-such-run", flashed(&image)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    let refusal = finish(&registry, "b1", &id, flashed("blake3:00")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    for (mac, boot) in [("nonsense", "b1"), (MAC, "b 1"), (MAC, "")] {
        let refusal = registry.check_in(mac, boot).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{mac} {boot}");
    }
}

#[tokio::test]
async fn whether_a_failing_disk_is_written_is_the_operators_wish() {
    let mut registry = Registry::start("");
    images::put(&registry, 1, "debian:13").await;
    for wished in [false, true] {
        let wish = MachineIntent { failing_disk_ok: wished, ..wish(Policy::FlashAlways) };
        registry.set(MAC, wish).await.unwrap();
        assert_eq!(registry.machine(MAC).await.intent.unwrap().failing_disk_ok, wished);
        let boot = format!("b{}", u8::from(wished));
        registry.power_on(MAC, &boot).await;
        let plan = registry.check_in(MAC, &boot).await.unwrap();
        let Plan::Flash(plan) = plan else { panic!("no flash: {plan:?}") };
        assert_eq!(plan.failing_disk_ok, wished);
    }
}
