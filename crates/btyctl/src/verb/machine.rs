//! `btyctl machine`.

use std::fmt::Write as _;

use bty_api::{
    registry::v1::{
        DeleteMachineRequest, ExplainMachineRequest, ExplainMachineResponse, GetMachineRequest,
        ListMachinesRequest, ListMachinesResponse, Machine as Known, MachineIntent,
        UpdateMachineRequest, machine_service_client::MachineServiceClient,
    },
    status,
    types::v1::{
        BootChain as WireChain, BootEntry as WireEntry, BootWay, Disk, FixUps as WireFixUps,
        Hardware, Health, HealthState, Policy as WirePolicy,
    },
};
use bty_types::{ErrorKind, FixUps};
use prost_types::FieldMask;

use crate::{
    arguments::{self, Machine, Set},
    connection::Connection,
    failure::Failure,
    output::{Output, ago, bytes, facts, short, table, time, word},
};

pub(crate) async fn run(
    verb: Machine,
    connection: &Connection,
    output: Output,
) -> Result<(), Failure> {
    let mut client = MachineServiceClient::new(connection.registry());
    match verb {
        Machine::List => {
            let mut all = ListMachinesResponse::default();
            loop {
                let request = ListMachinesRequest {
                    page_token: all.next_page_token.clone(),
                    ..Default::default()
                };
                let page = client.list_machines(request).await?.into_inner();
                all.machines.extend(page.machines);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            output.show(&all, |all| list(&all.machines))
        }
        Machine::Show { machine } => {
            let shown = client.get_machine(GetMachineRequest { machine }).await?.into_inner();
            output.show(&shown, |shown| show(&shown.machine.clone().unwrap_or_default()))
        }
        Machine::Set(set) => {
            let updated = client.update_machine(request(*set)?).await?.into_inner();
            output.show(&updated, |updated| show(&updated.machine.clone().unwrap_or_default()))
        }
        Machine::Rm { machine } => {
            let request = DeleteMachineRequest { machine: machine.clone() };
            let deleted = client.delete_machine(request).await?.into_inner();
            output.show(&deleted, |_| format!("{machine} is forgotten"))
        }
        Machine::Explain { machine } => {
            let explained =
                client.explain_machine(ExplainMachineRequest { machine }).await?.into_inner();
            output.show(&explained, explain)
        }
    }
}

fn request(set: Set) -> Result<UpdateMachineRequest, Failure> {
    let mut intent = MachineIntent::default();
    let mut paths = Vec::new();
    if let Some(name) = set.name {
        paths.push("name".to_owned());
        intent.name = name;
    }
    if let Some(policy) = set.policy {
        paths.push("policy".to_owned());
        intent.policy = WirePolicy::from(policy).into();
    }
    if let Some(image) = set.image {
        paths.push("image".to_owned());
        intent.image = image.0.map(|image| image.to_string()).unwrap_or_default();
    }
    if let Some(disk) = set.disk {
        paths.push("disk".to_owned());
        intent.disk = disk.0.map(|disk| disk.to_string()).unwrap_or_default();
    }
    if let Some(chain) = set.chain {
        paths.push("chain".to_owned());
        intent.chain = chain.0.map(WireChain::from).unwrap_or_default().into();
    }
    if let Some(entry) = set.boot_entry {
        paths.push("boot_entry".to_owned());
        intent.boot_entry = entry.0.map(WireEntry::from).unwrap_or_default().into();
    }
    if let Some(is_ok) = set.failing_disk_ok {
        paths.push("failing_disk_ok".to_owned());
        intent.failing_disk_ok = is_ok;
    }
    if let Some(wanted) = fix_ups(&set.fix_ups)? {
        paths.push("fix_ups".to_owned());
        intent.fix_ups = Some(WireFixUps::from(&wanted));
    }
    if paths.is_empty() && !set.rearm && !set.reset_way {
        return Err(Failure::new(ErrorKind::InvalidInput, "nothing to set")
            .hint("give any of --image, --disk, --policy, --name, --chain, --boot-entry, --failing-disk-ok, --grow, --seed, --file, --rearm, --reset-way"));
    }
    Ok(UpdateMachineRequest {
        machine: set.machine,
        intent: Some(intent),
        update_mask: Some(FieldMask { paths }),
        rearm: set.rearm,
        expect_generation: 0,
        reset_way: set.reset_way,
    })
}

/// What is to be changed on the disk, where something is said of it; the files are read here.
fn fix_ups(set: &arguments::FixUps) -> Result<Option<FixUps>, Failure> {
    let read = set.asked.read();
    let wanted = read.map_err(|problem| Failure::new(problem.kind(), status::chain(&problem)))?;
    Ok((set.none || !wanted.is_none()).then_some(wanted))
}

fn list(machines: &[Known]) -> String {
    if machines.is_empty() {
        return "no machines; switch one on that boots from the network, or: btyctl machine set MAC ...".to_owned();
    }
    let rows = machines.iter().map(|machine| {
        let intent = machine.intent.clone().unwrap_or_default();
        let observed = machine.observed.clone().unwrap_or_default();
        let progress =
            observed.progress_percent.map(|percent| format!(" {percent} %")).unwrap_or_default();
        let next = machine.decision.clone().unwrap_or_default();
        [
            machine.mac.clone(),
            intent.name.clone(),
            observed.address.clone(),
            word(intent.policy().as_str_name(), "POLICY_"),
            intent.image.clone(),
            word(observed.stage().as_str_name(), "STAGE_") + &progress,
            ago(observed.last_seen.as_ref()),
            word(next.action().as_str_name(), "ACTION_"),
        ]
    });
    table(["MAC", "NAME", "ADDRESS", "POLICY", "IMAGE", "STAGE", "SEEN", "NEXT"], rows)
}

fn show(machine: &Known) -> String {
    let intent = machine.intent.clone().unwrap_or_default();
    let observed = machine.observed.clone().unwrap_or_default();
    let next = machine.decision.clone().unwrap_or_default();
    let flashed = match observed.flashed_image.as_str() {
        "" => String::new(),
        image => format!("{} on {}", short(image), time(observed.flashed_at.as_ref())),
    };
    let head = facts(&[
        ("mac", machine.mac.clone()),
        ("name", intent.name.clone()),
        ("policy", word(intent.policy().as_str_name(), "POLICY_")),
        ("image", intent.image.clone()),
        ("disk", intent.disk.clone()),
        ("next boot", format!("{}: {}", word(next.action().as_str_name(), "ACTION_"), next.reason)),
        ("held", observed.held_reason.clone()),
        ("flashed", flashed),
        ("stage", word(observed.stage().as_str_name(), "STAGE_")),
        ("last seen", time(observed.last_seen.as_ref())),
        ("address", observed.address.clone()),
        ("boots by", way(observed.way.unwrap_or_default())),
        ("boot entry", boot_entry(intent.boot_entry())),
        ("failing disk", if intent.failing_disk_ok { "is written".into() } else { String::new() }),
        (
            "fix-ups",
            intent.fix_ups.map(|wanted| wanted.words().join("\n            ")).unwrap_or_default(),
        ),
        ("last run", observed.run_id.clone()),
    ]);
    match &observed.hardware {
        None => head,
        Some(hardware) => head + &hardware_facts(hardware),
    }
}

/// What becomes of its boot entries, where that isn't the registry's default.
fn boot_entry(wish: WireEntry) -> String {
    match wish {
        WireEntry::Unspecified => String::new(),
        told => word(told.as_str_name(), "BOOT_ENTRY_"),
    }
}

/// How it boots, with what its boots have changed.
fn way(way: BootWay) -> String {
    let mut words = vec![word(way.chain().as_str_name(), "BOOT_CHAIN_")];
    if way.own_drivers {
        words.push("with its own network drivers".to_owned());
    }
    if way.other_exit {
        words.push("leaving for the disk the other way".to_owned());
    }
    words.join(", ")
}

fn hardware_facts(hardware: &Hardware) -> String {
    let cpu = hardware.cpu.clone().unwrap_or_default();
    let dmi = hardware.dmi.clone().unwrap_or_default();
    let nics = hardware.nics.iter().map(|nic| format!("{} {} {}", nic.name, nic.mac, nic.driver));
    let facts = facts(&[
        ("system", format!("{} {}", dmi.system_vendor, dmi.product_name).trim().to_owned()),
        (
            "firmware",
            word(hardware.firmware().as_str_name(), "FIRMWARE_") + " " + &dmi.firmware_version,
        ),
        ("processors", format!("{} x {}", cpu.threads, cpu.model)),
        ("memory", bytes(hardware.memory_bytes)),
        ("cards", nics.collect::<Vec<_>>().join("\n            ")),
    ]);
    let disks = table(
        ["DISK", "SERIAL", "WWN", "MODEL", "SIZE", "SECTOR", "HEALTH", "IN USE"],
        hardware.disks.iter().map(disk),
    );
    format!("{facts}\n{disks}")
}

fn disk(disk: &Disk) -> [String; 8] {
    [
        disk.path.clone(),
        disk.serial.clone(),
        disk.wwn.clone(),
        disk.model.clone(),
        bytes(disk.size_bytes),
        disk.logical_sector_bytes.to_string(),
        health(disk.health.as_ref()),
        disk.in_use.join("; "),
    ]
}

/// How a disk is, and what of it is not as it should be.
fn health(health: Option<&Health>) -> String {
    match health.map(|health| (health.state(), health.findings.join("; "))) {
        None | Some((HealthState::Unspecified, _)) => "unknown".to_owned(),
        Some((state, findings)) => {
            let state = word(state.as_str_name(), "HEALTH_STATE_");
            if findings.is_empty() { state } else { format!("{state}: {findings}") }
        }
    }
}

fn explain(explained: &ExplainMachineResponse) -> String {
    let machine = explained.machine.clone().unwrap_or_default();
    let next = machine.decision.clone().unwrap_or_default();
    let mut text = format!(
        "next boot: {}: {}\n\nbecause\n",
        word(next.action().as_str_name(), "ACTION_"),
        next.reason
    );
    for fact in &explained.facts {
        let _ = writeln!(text, "  - {fact}");
    }
    if !explained.hints.is_empty() {
        text += "\nwhat you can do\n";
        for hint in &explained.hints {
            let _ = writeln!(text, "  {hint}");
        }
    }
    text
}
