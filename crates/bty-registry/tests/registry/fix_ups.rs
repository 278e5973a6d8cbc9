//! What is to be changed on a machine's disk: who gets to see it, and what came of it.

use bty_api::{
    agent::v1::{FinishRequest, check_in_response::Plan, finish_request::Outcome},
    registry::v1::{
        FixUpOutcome, FixUpResult, FlashRecord, GetRunRequest, ListEventsRequest, MachineIntent,
        UpdateMachineRequest,
    },
    types::v1::{BootEntry, Content, FixUps, NoCloudSeed, Policy, SeedPlace},
};

use crate::{
    harness::{MAC, Registry, speaking_for},
    images,
};

const SECRET: &[u8] = b"password: hunter2";

fn wanted() -> FixUps {
    let secret = Content { bytes: SECRET.to_vec(), size_bytes: SECRET.len() as u64 };
    let empty = Some(Content::default());
    let seed = NoCloudSeed {
        place: SeedPlace::Partition.into(),
        user_data: Some(secret),
        meta_data: empty,
        ..NoCloudSeed::default()
    };
    FixUps { grow: true, seed: Some(seed), ..FixUps::default() }
}

async fn set(registry: &Registry, fix_ups: FixUps) -> Result<(), tonic::Status> {
    let request = UpdateMachineRequest {
        machine: MAC.into(),
        intent: Some(MachineIntent { fix_ups: Some(fix_ups), ..MachineIntent::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["fix_ups".into()] }),
        ..UpdateMachineRequest::default()
    };
    registry.machines().update_machine(request).await.map(|_| ())
}

#[tokio::test]
async fn the_agent_gets_the_contents_and_nobody_else_does() {
    let mut registry = Registry::start("");
    let image = images::put(&registry, 1, "debian:13").await;
    let wish = MachineIntent {
        policy: Policy::FlashOnce.into(),
        image: "debian:13".into(),
        disk: "only".into(),
        boot_entry: BootEntry::Off.into(),
        ..MachineIntent::default()
    };
    registry.set(MAC, wish).await.unwrap();
    let generation = registry.machine(MAC).await.intent.unwrap().generation;
    set(&registry, wanted()).await.unwrap();
    let shown = registry.machine(MAC).await.intent.unwrap();
    assert_eq!(shown.generation, generation, "it is no reason to flash");
    let shown = shown.fix_ups.unwrap();
    assert_eq!(shown, wanted().without_contents());
    let problem = set(&registry, shown).await.unwrap_err();
    assert_eq!(problem.code(), tonic::Code::InvalidArgument);
    assert!(problem.message().contains("without contents"), "{problem}");

    registry.power_on(MAC, "b1").await;
    let plan = registry.check_in(MAC, "b1").await.unwrap();
    let Plan::Flash(plan) = plan else { panic!("no flash: {plan:?}") };
    assert_eq!(plan.fix_ups, Some(wanted()));
    let result = FixUpResult {
        name: "grow-partition".into(),
        outcome: FixUpOutcome::Failed.into(),
        detail: "the table contradicts\u{1b} itself".into(),
    };
    let record =
        FlashRecord { proved_id: image, fix_ups: vec![result; 100], ..FlashRecord::default() };
    let id = plan.run_id.clone();
    let request = FinishRequest { run_id: plan.run_id, outcome: Some(Outcome::Flashed(record)) };
    registry.agents().finish(speaking_for(request, MAC, "b1")).await.unwrap();
    let run = registry.runs().get_run(GetRunRequest { id }).await.unwrap().into_inner().run;
    let kept = run.unwrap().record.unwrap().fix_ups;
    assert_eq!((kept.len(), kept[0].detail.as_str()), (80, "the table contradicts  itself"));
    let listed = registry.events().list_events(ListEventsRequest::default()).await.unwrap();
    let said = format!("{:?}", listed.into_inner());
    assert!(
        said.contains("fix-ups grow, seed (partition CIDATA, user-data of 17 bytes)"),
        "{said}"
    );
    assert!(said.contains("could not grow-partition"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");

    set(&registry, FixUps::default()).await.unwrap();
    assert_eq!(registry.machine(MAC).await.intent.unwrap().fix_ups, None);
}
