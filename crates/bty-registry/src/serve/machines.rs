//! `MachineService`.

use bty_api::{
    registry::v1::{
        DeleteMachineRequest, DeleteMachineResponse, ExplainMachineRequest, ExplainMachineResponse,
        GetMachineRequest, GetMachineResponse, ListMachinesRequest, ListMachinesResponse,
        MachineIntent, UpdateMachineRequest, UpdateMachineResponse, WatchMachinesRequest,
        WatchMachinesResponse, machine_service_server::MachineService,
    },
    types::v1::{BootChain as WireChain, BootEntry as WireEntry, Policy as WirePolicy},
};
use bty_types::FixUps;
use std::time::SystemTime;
use tonic::{Request, Response, Status};

use super::{
    Shared, page, paged,
    watch::{Responses, Told, watch},
};
use crate::{
    change::Change,
    decide,
    problem::Problem,
    record::Machine,
    store::Snapshot,
    view,
    work::{Edit, Update, delete_machine, find_machine, update_machine},
};

/// Machines on one page.
const PAGE: u32 = 1000;
/// Characters of a machine's name.
const NAME_CHARS: usize = 63;

/// The service.
#[derive(Debug)]
pub(crate) struct Machines(pub(crate) Shared);

#[tonic::async_trait]
impl MachineService for Machines {
    async fn list_machines(
        &self,
        request: Request<ListMachinesRequest>,
    ) -> Result<Response<ListMachinesResponse>, Status> {
        let request = request.into_inner();
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(Problem::field("page_token"))?),
        };
        let size = page(request.page_size, PAGE, PAGE);
        let listed = self.0.store.read(move |snapshot| {
            let found = snapshot.machines_after(after, size)?;
            let found =
                found.iter().map(|machine| shown(snapshot, machine)).collect::<Result<_, _>>()?;
            let (machines, more_follow): (Vec<bty_api::registry::v1::Machine>, _) =
                paged(found, size);
            let last = machines.last().filter(|_| more_follow).map(|machine| machine.mac.clone());
            let next_page_token = last.unwrap_or_default();
            Ok::<_, Problem>(ListMachinesResponse { machines, next_page_token })
        });
        Ok(Response::new(listed.await?))
    }

    async fn get_machine(
        &self,
        request: Request<GetMachineRequest>,
    ) -> Result<Response<GetMachineResponse>, Status> {
        let called = request.into_inner().machine;
        let machine =
            self.0.store.read(move |snapshot| shown(snapshot, &find_machine(snapshot, &called)?));
        Ok(Response::new(GetMachineResponse { machine: Some(machine.await?) }))
    }

    async fn update_machine(
        &self,
        request: Request<UpdateMachineRequest>,
    ) -> Result<Response<UpdateMachineResponse>, Status> {
        let actor = self.0.actor(&request)?;
        let request = request.into_inner();
        let called = request.machine.clone();
        let update = update(request)?;
        let machine = self.0.store.write(move |transaction| {
            let machine = update_machine(transaction, &called, update, actor)?;
            shown(transaction, &machine)
        });
        Ok(Response::new(UpdateMachineResponse { machine: Some(machine.await?) }))
    }

    async fn delete_machine(
        &self,
        request: Request<DeleteMachineRequest>,
    ) -> Result<Response<DeleteMachineResponse>, Status> {
        let actor = self.0.actor(&request)?;
        let called = request.into_inner().machine;
        self.0.store.write(move |transaction| delete_machine(transaction, &called, actor)).await?;
        Ok(Response::new(DeleteMachineResponse {}))
    }

    async fn explain_machine(
        &self,
        request: Request<ExplainMachineRequest>,
    ) -> Result<Response<ExplainMachineResponse>, Status> {
        let called = request.into_inner().machine;
        let explained = self.0.store.read(move |snapshot| {
            let machine = find_machine(snapshot, &called)?;
            let around = snapshot.surroundings(&machine.intent)?;
            let now = SystemTime::now();
            let explained = decide::explain(&machine, &around, now);
            let machine = Some(view::machine(&machine, &around, now));
            Ok::<_, Problem>(ExplainMachineResponse {
                machine,
                facts: explained.facts,
                hints: explained.hints,
            })
        });
        Ok(Response::new(explained.await?))
    }

    type WatchMachinesStream = Responses<WatchMachinesResponse>;

    async fn watch_machines(
        &self,
        _: Request<WatchMachinesRequest>,
    ) -> Result<Response<Self::WatchMachinesStream>, Status> {
        let changes = self.0.store.subscribe();
        let reading = self.0.store.read(|snapshot| {
            let found = snapshot.machines()?;
            let machines = found
                .iter()
                .map(|machine| shown(snapshot, machine))
                .collect::<Result<Vec<_>, _>>()?;
            Ok::<_, Problem>((machines, snapshot.revision()?))
        });
        let (machines, known) = reading.await?;
        let snapshot = machines.into_iter().map(|machine| WatchMachinesResponse {
            machine: Some(machine),
            ..WatchMachinesResponse::default()
        });
        let complete =
            WatchMachinesResponse { snapshot_complete: true, ..WatchMachinesResponse::default() };
        let first = snapshot.chain([complete]);
        let responses =
            watch(first, changes, self.0.shutdown.clone(), move |change| match change {
                Change::Machine { machine, .. } if machine.revision > known => {
                    Told::One(WatchMachinesResponse {
                        machine: Some(machine.as_ref().clone()),
                        ..WatchMachinesResponse::default()
                    })
                }
                Change::MachineDeleted { mac, revision } if *revision > known => {
                    Told::One(WatchMachinesResponse {
                        deleted_mac: mac.clone(),
                        ..WatchMachinesResponse::default()
                    })
                }
                _ => Told::Nothing,
            });
        Ok(Response::new(responses))
    }
}

fn shown(
    snapshot: &Snapshot<'_>,
    machine: &Machine,
) -> Result<bty_api::registry::v1::Machine, Problem> {
    let around = snapshot.surroundings(&machine.intent)?;
    Ok(view::machine(machine, &around, SystemTime::now()))
}

/// The wish in a request, as far as its mask says.
fn update(request: UpdateMachineRequest) -> Result<Update, Problem> {
    let UpdateMachineRequest { intent, update_mask, rearm, expect_generation, reset_way, .. } =
        request;
    let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
    let intent = match intent {
        Some(intent) => intent,
        None if paths.is_empty() => MachineIntent::default(),
        None => return Err(Problem::Missing("intent")),
    };
    let mut update = Update { rearm, reset_way, expect_generation, ..Update::default() };
    for path in &paths {
        match path.as_str() {
            "name" => update.name = Edit::Set(maybe(&intent.name).map(machine_name).transpose()?),
            "policy" => {
                let policy = WirePolicy::try_from(intent.policy).ok().and_then(WirePolicy::known);
                let reason = "it is one of local, flash-once, flash-always, inventory";
                update.policy =
                    Some(policy.ok_or_else(|| Problem::value("intent.policy", reason))?);
            }
            "image" => {
                let image = maybe(&intent.image).map(str::parse).transpose();
                update.image = Edit::Set(image.map_err(Problem::field("intent.image"))?);
            }
            "disk" => {
                let disk = maybe(&intent.disk).map(str::parse).transpose();
                update.disk = Edit::Set(disk.map_err(Problem::field("intent.disk"))?);
            }
            "chain" => {
                let chain = WireChain::try_from(intent.chain)
                    .map_err(|_| Problem::value("intent.chain", "it is one of ipxe, shim"))?;
                update.chain = Edit::Set(chain.known());
            }
            "boot_entry" => {
                let entry = WireEntry::try_from(intent.boot_entry).map_err(|_| {
                    Problem::value("intent.boot_entry", "it is one of next, off, order")
                })?;
                update.boot_entry = Edit::Set(entry.known());
            }
            "failing_disk_ok" => update.failing_disk_ok = Some(intent.failing_disk_ok),
            "fix_ups" => {
                let wanted = intent.fix_ups.as_ref().map(FixUps::try_from).transpose();
                let wanted = wanted.map_err(Problem::field("intent.fix_ups"))?;
                update.fix_ups = Edit::Set(wanted.filter(|wanted| !wanted.is_none()));
            }
            other => {
                let reason = format!(
                    "{other:?} is none of name, policy, image, disk, chain, boot_entry, failing_disk_ok and fix_ups"
                );
                return Err(Problem::value("update_mask", reason));
            }
        }
    }
    Ok(update)
}

fn maybe(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A name that is safe in a shell, a URL and a host name, and is no MAC address.
pub(super) fn machine_name(name: &str) -> Result<String, Problem> {
    let is_good = name.len() <= NAME_CHARS
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !is_good {
        let reason = "a name has 1 to 63 characters of a-z, 0-9 and '-', and '-' not at its ends";
        return Err(Problem::value("name", reason));
    }
    if name.parse::<bty_types::MacAddr>().is_ok() {
        return Err(Problem::value(
            "name",
            "it reads as a MAC address, and so would name another machine",
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_everywhere_and_never_addresses() {
        for name in ["a", "node-1", "0", &"a".repeat(63)] {
            assert_eq!(machine_name(name).unwrap(), name);
        }
        for name in [
            "",
            "-a",
            "a-",
            "A",
            "a b",
            "a.b",
            "ü",
            &"a".repeat(64),
            "525400770001",
            "52-54-00-77-00-01",
        ] {
            assert!(name.is_empty() || machine_name(name).is_err(), "{name:?} was accepted");
        }
    }
}
