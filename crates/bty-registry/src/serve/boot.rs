//! `BootService`.

use std::time::SystemTime;

use bty_api::{
    registry::v1::{
        ReportContactsRequest, ReportContactsResponse, WatchBootRequest, WatchBootResponse,
        boot_service_server::BootService,
    },
    types::v1::BootChain,
};
use tonic::{Request, Response, Status};

use super::{
    Shared,
    watch::{Responses, Told, watch},
};
use crate::{
    change::Change,
    problem::Problem,
    view,
    work::{MAX_CONTACTS, take_contacts},
};

/// Characters of a reporter's name.
const REPORTER_CHARS: usize = 128;

/// The service.
#[derive(Debug)]
pub(crate) struct Boots(pub(crate) Shared);

#[tonic::async_trait]
impl BootService for Boots {
    type WatchBootStream = Responses<WatchBootResponse>;

    async fn watch_boot(
        &self,
        _: Request<WatchBootRequest>,
    ) -> Result<Response<Self::WatchBootStream>, Status> {
        let changes = self.0.store.subscribe();
        let reading = self.0.store.read(|snapshot| {
            let now = SystemTime::now();
            let mut told = Vec::new();
            for machine in snapshot.machines()? {
                let around = snapshot.surroundings(&machine.intent)?;
                told.push(view::machine_boot(&machine, &around, now));
            }
            let rules = snapshot.rules();
            let unknown = (view::unknown_action(rules.unknown_policy), rules.boot_chain);
            Ok::<_, Problem>((told, unknown, snapshot.revision()?))
        });
        let (machines, (unknown_action, unknown_chain), known) = reading.await?;
        let complete = WatchBootResponse {
            snapshot_complete: true,
            unknown_action: unknown_action.into(),
            unknown_chain: BootChain::from(unknown_chain).into(),
            ..WatchBootResponse::default()
        };
        let told =
            |machine| WatchBootResponse { machine: Some(machine), ..WatchBootResponse::default() };
        let first = machines.into_iter().map(told).chain([complete]);
        let responses =
            watch(first, changes, self.0.shutdown.clone(), move |change| match change {
                Change::Machine { machine, boot: Some(boot) } if machine.revision > known => {
                    Told::One(told(boot.clone()))
                }
                Change::MachineDeleted { mac, revision } if *revision > known => {
                    Told::One(WatchBootResponse {
                        deleted_mac: mac.clone(),
                        ..WatchBootResponse::default()
                    })
                }
                _ => Told::Nothing,
            });
        Ok(Response::new(responses))
    }

    async fn report_contacts(
        &self,
        request: Request<ReportContactsRequest>,
    ) -> Result<Response<ReportContactsResponse>, Status> {
        let ReportContactsRequest { reporter, contacts } = request.into_inner();
        if reporter.is_empty()
            || reporter.len() > REPORTER_CHARS
            || reporter.contains(char::is_control)
        {
            return Err(Problem::value("reporter", "it has 1 to 128 printable characters").into());
        }
        if contacts.len() > MAX_CONTACTS {
            return Err(
                Problem::value("contacts", format!("there are more than {MAX_CONTACTS}")).into()
            );
        }
        if contacts.iter().any(|contact| contact.sequence == 0) {
            return Err(Problem::value("contacts.sequence", "it counts from 1").into());
        }
        let taking =
            self.0.store.write(move |transaction| take_contacts(transaction, &reporter, &contacts));
        self.0.metrics.contacts(taking.await?);
        Ok(Response::new(ReportContactsResponse {}))
    }
}
