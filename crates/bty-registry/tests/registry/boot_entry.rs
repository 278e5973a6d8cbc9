//! What the agent is to tell a machine's firmware, what it says of that, and what becomes of a disk that doesn't boot.

use bty_api::{
    agent::v1::{FinishRequest, check_in_response::Plan, finish_request::Outcome},
    registry::v1::{
        ExplainMachineRequest, FlashRecord, GetRunRequest, ListEventsRequest, MachineIntent,
        NextBoot,
    },
    types::v1::{Action, BootEntry, Policy},
};

use crate::{
    harness::{MAC, Registry, speaking_for},
    images,
};

fn wish(policy: Policy, boot_entry: BootEntry) -> MachineIntent {
    MachineIntent {
        name: "m1".into(),
        policy: policy.into(),
        image: "debian:13".into(),
        disk: "only".into(),
        boot_entry: boot_entry.into(),
        ..MachineIntent::default()
    }
}

fn told() -> NextBoot {
    NextBoot {
        entry: "Boot0004".into(),
        loader: "\\EFI\\debian\\shimx64.efi".into(),
        written: true,
        is_next: true,
        order: "0000,0001".into(),
        ..NextBoot::default()
    }
}

/// A power-on that flashes well and says this of the firmware; gives the run's id and what the plan wished.
async fn flash(
    registry: &mut Registry,
    boot: &str,
    image: &str,
    next_boot: Option<NextBoot>,
) -> (String, BootEntry) {
    assert_eq!(registry.power_on(MAC, boot).await, Action::Flash);
    let plan = registry.check_in(MAC, boot).await.unwrap();
    let Plan::Flash(plan) = plan else { panic!("no flash: {plan:?}") };
    let record = FlashRecord { proved_id: image.into(), next_boot, ..FlashRecord::default() };
    let request =
        FinishRequest { run_id: plan.run_id.clone(), outcome: Some(Outcome::Flashed(record)) };
    let answer = registry.agents().finish(speaking_for(request, MAC, boot)).await.unwrap();
    assert!(answer.into_inner().restart, "it restarts");
    let wished = plan.boot_entry();
    (plan.run_id, wished)
}

async fn messages(registry: &Registry, kind: &str) -> Vec<String> {
    let request = ListEventsRequest { kind_prefix: kind.into(), ..ListEventsRequest::default() };
    let listed = registry.events().list_events(request).await.unwrap().into_inner();
    listed.events.into_iter().rev().map(|event| event.message).collect()
}

#[tokio::test]
async fn the_wish_is_in_the_plan_and_what_came_of_it_on_record() {
    let mut registry = Registry::start("");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce, BootEntry::Unspecified)).await.unwrap();
    let (id, wished) = flash(&mut registry, "b1", &image, Some(told())).await;
    assert_eq!(wished, BootEntry::Next, "the default");
    let run = registry.runs().get_run(GetRunRequest { id }).await.unwrap().into_inner().run;
    assert_eq!(run.unwrap().record.unwrap().next_boot, Some(told()));
    let said = messages(&registry, "run.succeeded").await.concat();
    assert!(
        said.contains("boots \\EFI\\debian\\shimx64.efi of the disk next (Boot0004)"),
        "{said}"
    );

    let before = registry.machine(MAC).await.intent.unwrap().generation;
    registry.set(MAC, wish(Policy::FlashOnce, BootEntry::Order)).await.unwrap();
    let after = registry.machine(MAC).await.intent.unwrap();
    assert_eq!(after.generation, before, "how it boots is no reason to flash");
    assert_eq!(after.boot_entry(), BootEntry::Order);
    registry.rearm(MAC).await;
    let failed = NextBoot { warning: "the firmware has no room".into(), ..NextBoot::default() };
    let (_, wished) = flash(&mut registry, "b2", &image, Some(failed)).await;
    assert_eq!(wished, BootEntry::Order);
    let said = messages(&registry, "run.succeeded").await.pop().unwrap();
    assert!(said.ends_with("its boot entries: the firmware has no room"), "{said}");
}

#[tokio::test]
async fn the_registrys_default_can_be_off() {
    let mut registry = Registry::start("boot_entry = \"off\"\n");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce, BootEntry::Unspecified)).await.unwrap();
    assert_eq!(flash(&mut registry, "b1", &image, None).await.1, BootEntry::Off);
}

#[tokio::test]
async fn a_disk_that_the_firmware_boots_by_itself_has_its_turn() {
    let mut registry = Registry::start("");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashAlways, BootEntry::Next)).await.unwrap();
    flash(&mut registry, "b1", &image, Some(told())).await;
    assert_eq!(registry.next(MAC).await.0, Action::Flash, "its system ran already");
    let not = NextBoot { is_next: false, ..told() };
    flash(&mut registry, "b2", &image, Some(not)).await;
    assert_eq!(registry.next(MAC).await.0, Action::Local, "the firmware was not told");
}

#[tokio::test]
async fn a_disk_that_never_boots_is_held_until_it_is_let_go() {
    let mut registry = Registry::start("");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashOnce, BootEntry::Next)).await.unwrap();
    flash(&mut registry, "b1", &image, Some(told())).await;
    registry.firmware(MAC).await;
    let said = messages(&registry, "boot.returned").await.pop().unwrap();
    assert!(said.contains("after its firmware was told to boot the disk, once in a row"), "{said}");
    registry.power_on(MAC, "disk").await;
    for times in ["once", "2 times", "3 times"] {
        assert_eq!(registry.next(MAC).await.0, Action::Local, "before it was back {times}");
        registry.firmware(MAC).await;
        let said = messages(&registry, "boot.returned").await.pop().unwrap();
        assert!(said.contains(&format!("{times} in a row")), "{said}");
        let told = registry.power_on(MAC, "disk").await;
        let want = if times == "3 times" { Action::Hold } else { Action::Local };
        assert_eq!(told, want, "back {times}");
        let other_exit = registry.boot_of(MAC).await.way.unwrap().other_exit;
        assert_eq!(other_exit, times != "once", "the other way to the disk, back {times}");
    }
    let (action, reason) = registry.next(MAC).await;
    assert_eq!(action, Action::Hold);
    assert!(reason.contains("btyctl machine set m1 --reset-way"), "{reason}");
    let request = ExplainMachineRequest { machine: MAC.into() };
    let explained = registry.machines().explain_machine(request).await.unwrap().into_inner();
    assert!(explained.hints.iter().any(|hint| hint.contains("--reset-way")), "{explained:?}");
    // Held is held: it asks every few seconds.
    assert_eq!(registry.power_on(MAC, "waits").await, Action::Hold);
    registry.reset_way(MAC).await;
    assert_eq!(registry.next(MAC).await.0, Action::Local);
}

#[tokio::test]
async fn flash_always_with_a_disk_that_never_boots_ends_too() {
    let mut registry = Registry::start("");
    let image = images::put(&registry, 1, "debian:13").await;
    registry.set(MAC, wish(Policy::FlashAlways, BootEntry::Next)).await.unwrap();
    for round in 1..=3 {
        flash(&mut registry, &format!("flash-{round}"), &image, Some(told())).await;
        registry.firmware(MAC).await;
    }
    // A system that restarts the machine at once looks the same, so the disk shows itself, and by both ways.
    for other_exit in [false, false, true] {
        assert_eq!(registry.boot_of(MAC).await.way.unwrap().other_exit, other_exit);
        assert_eq!(registry.power_on(MAC, "shows").await, Action::Local);
        registry.firmware(MAC).await;
    }
    assert_eq!(registry.power_on(MAC, "held").await, Action::Hold);
    registry.reset_way(MAC).await;
    let (action, reason) = registry.next(MAC).await;
    assert_eq!(action, Action::Local, "what is on its disk is kept: {reason}");
}
