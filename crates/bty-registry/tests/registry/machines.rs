//! Wishes, watches and contacts.

use bty_api::{
    registry::v1::{
        Contact, DeleteMachineRequest, ExplainMachineRequest, GetMachineRequest, ListEventsRequest,
        ListMachinesRequest, MachineIntent, ReportContactsRequest, UpdateMachineRequest,
        WatchBootRequest, WatchEventsRequest, WatchMachinesRequest, WatchMachinesResponse,
    },
    status,
    types::v1::{Action, Policy, Stage},
};
use tonic::{Code, Streaming};

use crate::harness::{MAC, Registry};

fn named(name: &str) -> MachineIntent {
    MachineIntent { name: name.into(), ..MachineIntent::default() }
}

fn contact(mac: &str, sequence: u64, stage: Stage) -> Contact {
    Contact { mac: mac.into(), sequence, stage: stage.into(), ..Contact::default() }
}

async fn report(registry: &Registry, contacts: Vec<Contact>) -> Result<(), tonic::Status> {
    let request = ReportContactsRequest { reporter: "bty-dhcp/1".into(), contacts };
    registry.boots().report_contacts(request).await.map(drop)
}

#[tokio::test]
async fn a_wish_makes_a_machine_and_only_real_changes_begin_a_generation() {
    let registry = Registry::start("");
    let generation = async || registry.machine(MAC).await.intent.unwrap().generation;
    registry.set("52-54-00-77-00-01", named("node-1")).await.unwrap();
    assert_eq!(registry.machine("node-1").await.mac, MAC);
    assert_eq!(generation().await, 1);
    let wish = MachineIntent { policy: Policy::FlashOnce.into(), ..named("node-2") };
    registry.set("node-1", wish.clone()).await.unwrap();
    assert_eq!(generation().await, 2);
    registry.set("node-2", wish).await.unwrap();
    assert_eq!(generation().await, 2, "nothing changed");
    registry.set(MAC, named("node-3")).await.unwrap();
    assert_eq!(generation().await, 2, "a name is no work");
    registry.rearm(MAC).await;
    assert_eq!(generation().await, 3);
    let (action, reason) = registry.next(MAC).await;
    assert_eq!((action, reason.as_str()), (Action::Hold, "no image is assigned: set one"));
}

#[tokio::test]
async fn wishes_that_make_no_sense_are_refused_with_the_field() {
    let registry = Registry::start("max_machines = 2");
    registry.set(MAC, named("node-1")).await.unwrap();
    let wish = |change: fn(&mut MachineIntent)| {
        let mut intent = MachineIntent::default();
        change(&mut intent);
        intent
    };
    let rows = [
        (MAC, wish(|intent| intent.name = "Node 1".into()), Code::InvalidArgument, "name"),
        (
            MAC,
            wish(|intent| intent.name = "525400770002".into()),
            Code::InvalidArgument,
            "MAC address",
        ),
        (MAC, wish(|intent| intent.policy = 99), Code::InvalidArgument, "policy"),
        (MAC, wish(|intent| intent.image = "../etc".into()), Code::InvalidArgument, "image"),
        (MAC, wish(|intent| intent.disk = "serial:".into()), Code::InvalidArgument, "disk"),
        ("no-such-node", named("x"), Code::NotFound, "no-such-node"),
        ("ff:ff:ff:ff:ff:ff", named("x"), Code::NotFound, "ff:ff"),
        ("52:54:00:77:00:02", named("node-1"), Code::AlreadyExists, "belongs"),
    ];
    for (machine, intent, code, words) in rows {
        let shown = format!("{intent:?}");
        let refusal = registry.set(machine, intent).await.unwrap_err();
        assert_eq!(refusal.code(), code, "{shown}: {refusal:?}");
        assert!(refusal.message().contains(words), "{shown}: {}", refusal.message());
    }
    registry.set("52:54:00:77:00:02", named("node-2")).await.unwrap();
    let refusal = registry.set("52:54:00:77:00:03", named("node-3")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    let stale = UpdateMachineRequest {
        machine: MAC.into(),
        expect_generation: 7,
        ..UpdateMachineRequest::default()
    };
    let refusal = registry.machines().update_machine(stale).await.unwrap_err();
    assert_eq!(
        (refusal.code(), status::reason(&refusal).as_str()),
        (Code::Aborted, "GENERATION_MOVED")
    );
}

async fn next(watch: &mut Streaming<WatchMachinesResponse>) -> WatchMachinesResponse {
    watch.message().await.unwrap().expect("the watch goes on")
}

#[tokio::test]
async fn a_watch_tells_what_is_and_then_every_change() {
    let registry = Registry::start("");
    registry.set(MAC, named("node-1")).await.unwrap();
    let mut watch =
        registry.machines().watch_machines(WatchMachinesRequest {}).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await.machine, Some(registry.machine(MAC).await));
    assert!(next(&mut watch).await.snapshot_complete);
    let mut told = 0;
    for number in 2..50 {
        let made = registry.set(MAC, named(&format!("node-{number}"))).await.unwrap();
        let change = next(&mut watch).await.machine.unwrap();
        assert_eq!(change, made, "in order, none missed");
        assert!(change.revision > told);
        told = change.revision;
    }
    let delete = DeleteMachineRequest { machine: "node-49".into() };
    registry.machines().delete_machine(delete).await.unwrap();
    assert_eq!(next(&mut watch).await.deleted_mac, MAC);
    let gone = registry
        .machines()
        .get_machine(GetMachineRequest { machine: MAC.into() })
        .await
        .unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let list = ListEventsRequest { machine: MAC.into(), ..ListEventsRequest::default() };
    let events = registry.events().list_events(list).await.unwrap().into_inner().events;
    assert_eq!(events[0].kind, "machine.deleted", "what happened outlives the machine");
}

#[tokio::test]
async fn watches_end_when_the_registry_ends() {
    let mut registry = Registry::start("");
    let mut watch =
        registry.machines().watch_machines(WatchMachinesRequest {}).await.unwrap().into_inner();
    assert!(next(&mut watch).await.snapshot_complete);
    let status = registry.stop().await;
    assert!(status.success(), "{status}");
    assert!(matches!(watch.message().await, Ok(None) | Err(_)));
}

#[tokio::test]
async fn the_boot_watch_tells_actions_and_nothing_that_does_not_matter() {
    let registry = Registry::start("unknown_policy = 'local'");
    let mut watch = registry.boots().watch_boot(WatchBootRequest {}).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!((first.snapshot_complete, first.unknown_action()), (true, Action::Local));
    report(&registry, vec![contact(MAC, 1, Stage::Firmware)]).await.unwrap();
    let new = watch.message().await.unwrap().unwrap().machine.unwrap();
    assert_eq!((new.mac.as_str(), new.action()), (MAC, Action::Local));
    // How far it is says nothing of what it is told; the next that is told is the change of the wish.
    report(&registry, vec![contact(MAC, 2, Stage::Ipxe), contact(MAC, 3, Stage::Kernel)])
        .await
        .unwrap();
    let wish = MachineIntent { policy: Policy::FlashOnce.into(), ..named("node-1") };
    registry.set(MAC, wish).await.unwrap();
    let change = watch.message().await.unwrap().unwrap().machine.unwrap();
    assert_eq!((change.action(), change.name.as_str()), (Action::Hold, "node-1"));
}

#[tokio::test]
async fn contacts_are_taken_once_and_in_order() {
    let registry = Registry::start("");
    let contacts = vec![contact(MAC, 1, Stage::Firmware), contact(MAC, 2, Stage::Ipxe)];
    for _ in 0..3 {
        report(&registry, contacts.clone()).await.unwrap();
    }
    let observed = registry.machine(MAC).await.observed.unwrap();
    assert_eq!(observed.stage(), Stage::Ipxe);
    let list = ListEventsRequest { machine: MAC.into(), ..ListEventsRequest::default() };
    let events = registry.events().list_events(list).await.unwrap().into_inner().events;
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["boot.ipxe", "boot.firmware", "machine.discovered"]);
    let bad = contact("nonsense", 3, Stage::Firmware);
    report(&registry, vec![bad, contact(MAC, 4, Stage::Kernel)]).await.unwrap();
    assert_eq!(
        registry.machine(MAC).await.observed.unwrap().stage(),
        Stage::Kernel,
        "one bad contact blocks none"
    );
    let many = vec![contact(MAC, 9, Stage::Firmware); 1001];
    assert_eq!(report(&registry, many).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn strangers_cannot_fill_the_registry() {
    let registry = Registry::start("max_new_machines_per_minute = 5");
    let flood =
        (0..200_u64).map(|n| contact(&format!("52:54:00:00:00:{n:02x}"), n + 1, Stage::Firmware));
    report(&registry, flood.collect()).await.unwrap();
    let listed = registry
        .machines()
        .list_machines(ListMachinesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.machines.len(), 5);
    report(&registry, vec![contact("52:54:00:00:00:01", 500, Stage::Kernel)]).await.unwrap();
    assert_eq!(
        registry.machine("52:54:00:00:00:01").await.observed.unwrap().stage(),
        Stage::Kernel,
        "known ones go on"
    );
}

#[tokio::test]
async fn a_machine_that_boots_without_end_leaves_the_record_to_the_others() {
    let registry = Registry::start("max_boot_events_per_minute = 5");
    let stages = [Stage::Firmware, Stage::BootProgram];
    let flood = (0..200).map(|n| contact(MAC, n + 1, stages[usize::try_from(n % 2).unwrap()]));
    report(&registry, flood.collect()).await.unwrap();
    report(&registry, vec![contact("52:54:00:77:00:02", 300, Stage::Firmware)]).await.unwrap();
    let events = registry.events().list_events(ListEventsRequest::default()).await.unwrap();
    let of = |mac: &str| events.get_ref().events.iter().filter(|event| event.mac == mac).count();
    // Beside those of its boots, what was learned of them is told.
    assert!((5..=8).contains(&of(MAC)), "{} events of one machine", of(MAC));
    assert_eq!(of("52:54:00:77:00:02"), 2, "seen for the first time, and where it is");
    let observed = registry.machine(MAC).await.observed.unwrap();
    assert_eq!(observed.stage(), Stage::BootProgram, "where it is is known all the same");
}

#[tokio::test]
async fn pages_join_without_gap_or_overlap() {
    let registry = Registry::start("");
    for n in 0..7 {
        registry
            .set(&format!("52:54:00:00:00:{n:02x}"), named(&format!("node-{n}")))
            .await
            .unwrap();
    }
    let mut macs = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListMachinesRequest { page_size: 3, page_token };
        let page = registry.machines().list_machines(request).await.unwrap().into_inner();
        macs.extend(page.machines.into_iter().map(|machine| machine.mac));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let want: Vec<_> = (0..7).map(|n| format!("52:54:00:00:00:{n:02x}")).collect();
    assert_eq!(macs, want);
}

#[tokio::test]
async fn events_are_told_from_where_the_watcher_left_off() {
    let registry = Registry::start("");
    registry.set(MAC, named("node-1")).await.unwrap();
    let request = WatchEventsRequest { after_id: Some(0), machine: "node-1".into() };
    let mut watch = registry.events().watch_events(request).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap().event.unwrap();
    assert_eq!((first.kind.as_str(), first.actor.as_str()), ("machine.made", "operator root"));
    registry.set("52:54:00:77:00:02", named("other")).await.unwrap();
    registry.set(MAC, named("node-2")).await.unwrap();
    let next = watch.message().await.unwrap().unwrap().event.unwrap();
    assert_eq!(
        (next.kind.as_str(), next.message.as_str()),
        ("machine.changed", "changed node-2: name node-2")
    );
    assert!(next.id > first.id);
}

#[tokio::test]
async fn explaining_says_facts_and_hints() {
    let registry = Registry::start("");
    registry
        .set(MAC, MachineIntent { policy: Policy::FlashOnce.into(), ..named("n") })
        .await
        .unwrap();
    let request = ExplainMachineRequest { machine: "n".into() };
    let explained = registry.machines().explain_machine(request).await.unwrap().into_inner();
    assert_eq!(explained.machine, Some(registry.machine("n").await));
    assert_eq!(explained.facts[1], "no image is assigned");
    assert_eq!(explained.hints[0], format!("btyctl machine set {MAC} --image NAME:TAG"));
}

#[tokio::test]
async fn what_concerns_no_machine_is_an_event_once() {
    let registry = Registry::start("");
    let detail = "another DHCP server, 10.77.0.3, gives addresses on eth0";
    let seen = Contact { sequence: 1, detail: detail.into(), ..Contact::default() };
    report(&registry, vec![seen.clone()]).await.unwrap();
    report(&registry, vec![seen]).await.unwrap();
    let request =
        ListEventsRequest { kind_prefix: "network".into(), ..ListEventsRequest::default() };
    let events = registry.events().list_events(request).await.unwrap().into_inner().events;
    let shown: Vec<_> = events
        .iter()
        .map(|event| {
            (event.kind.as_str(), event.actor.as_str(), event.mac.as_str(), &*event.message)
        })
        .collect();
    assert_eq!(shown, [("network.server", "bty-dhcp", "", detail)]);
    let machines = registry.machines().list_machines(ListMachinesRequest::default()).await.unwrap();
    assert!(machines.into_inner().machines.is_empty());
}
