//! The link of a daemon on the boot path to the registry: what machines are told, kept in memory; what was seen, sent in order.
//!
//! Boot requests are answered from memory, so they go on while the registry is away; contacts wait in a bounded queue.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bty_api::{
    connect,
    registry::v1::{
        Contact, MachineBoot, ReportContactsRequest, WatchBootRequest, WatchBootResponse,
        boot_service_client::BootServiceClient,
    },
    types::v1::{Action, BootChain, BootWay},
};
use bty_types::MacAddr;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use crate::context::Context;

/// Contacts that wait for the registry; when it is full the newest are dropped and counted in the log.
const WAITING_CONTACTS: usize = 8192;
/// Contacts in one request, as the contract allows.
const BATCH: usize = 1000;
/// Between tries while the registry is away.
const RETRY: Duration = Duration::from_millis(500);

/// What machines are told, and a way to tell the registry what was seen. Clones share everything.
#[derive(Debug, Clone)]
pub struct BootLink {
    table: Arc<RwLock<Table>>,
    contacts: mpsc::Sender<Contact>,
}

#[derive(Debug, Default)]
struct Table {
    machines: HashMap<MacAddr, Arc<MachineBoot>>,
    unknown: Option<Action>,
    unknown_chain: BootChain,
}

impl BootLink {
    /// Begins to watch the registry, as `reporter` (the daemon's program name).
    pub fn start<S: Send + Sync + 'static>(context: &Context<S>, reporter: &str) -> Self {
        let table = Arc::new(RwLock::new(Table::default()));
        let (contacts, queue) = mpsc::channel(WAITING_CONTACTS);
        let client = BootServiceClient::new(connect::unix(context.socket_of("registry")));
        let shutdown = context.shutdown().clone();
        context.spawn_session(
            "boot watch",
            watch(client.clone(), Arc::clone(&table), shutdown.clone()),
        );
        let reporter = format!("{reporter}/{}", uuid::Uuid::now_v7());
        context.spawn_session("contact reports", report(client, reporter, queue, shutdown));
        Self { table, contacts }
    }

    /// What this machine is told; `None` where the registry does not know it (see [`Self::unknown_action`]).
    pub fn machine(&self, mac: MacAddr) -> Option<Arc<MachineBoot>> {
        self.read().machines.get(&mac).cloned()
    }

    /// What a machine is told that the registry doesn't know; `None` until the registry has been heard once.
    pub fn unknown_action(&self) -> Option<Action> {
        self.read().unknown
    }

    /// How this machine is booted; the usual way where the registry says nothing of it.
    pub fn way(&self, mac: MacAddr) -> BootWay {
        let table = self.read();
        let known = table.machines.get(&mac).and_then(|machine| machine.way);
        known.unwrap_or_else(|| BootWay { chain: table.unknown_chain.into(), ..BootWay::default() })
    }

    /// Replaces what is kept of a machine, until the registry says otherwise: so that a second request sees what the first
    /// was told even before the registry has recorded it.
    pub fn remember(&self, mac: MacAddr, machine: MachineBoot) {
        self.write().machines.insert(mac, Arc::new(machine));
    }

    /// Tells the registry what was seen, in order, without waiting. Its sequence is set here.
    pub fn report(&self, contact: Contact) {
        if let Err(problem) = self.contacts.try_send(contact) {
            tracing::warn!(err = %problem, "a contact was dropped: the registry has been away for long");
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn watch(
    mut client: BootServiceClient<Channel>,
    table: Arc<RwLock<Table>>,
    shutdown: CancellationToken,
) {
    let mut away = false;
    loop {
        let ended = tokio::select! {
            ended = follow(&mut client, &table, &mut away) => ended,
            () = shutdown.cancelled() => return,
        };
        if !away {
            tracing::warn!(
                err = ended.message(),
                "the registry is away; the last known state is served"
            );
            away = true;
        }
        tokio::select! {
            () = sleep(RETRY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn follow(
    client: &mut BootServiceClient<Channel>,
    table: &RwLock<Table>,
    away: &mut bool,
) -> Status {
    let mut changes = match client.watch_boot(WatchBootRequest {}).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    // The snapshot replaces the table whole, so that machines deleted meanwhile go; until it is complete the old one serves.
    let mut snapshot = Some(HashMap::new());
    loop {
        match changes.message().await {
            Ok(Some(change)) => {
                let complete = change.snapshot_complete;
                take(change, table, &mut snapshot);
                if complete {
                    tracing::info!("the boot state of all machines is known");
                    *away = false;
                }
            }
            Ok(None) => return Status::unavailable("the registry ended the watch"),
            Err(status) => return status,
        }
    }
}

fn take(
    change: WatchBootResponse,
    table: &RwLock<Table>,
    snapshot: &mut Option<HashMap<MacAddr, Arc<MachineBoot>>>,
) {
    let unknown_chain = change.unknown_chain();
    let mut table = table.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(machine) = change.machine
        && let Ok(mac) = machine.mac.parse()
    {
        snapshot.as_mut().unwrap_or(&mut table.machines).insert(mac, Arc::new(machine));
    }
    if let Ok(mac) = change.deleted_mac.parse() {
        table.machines.remove(&mac);
    }
    if change.snapshot_complete {
        if let Some(machines) = snapshot.take() {
            table.machines = machines;
        }
        table.unknown = Action::try_from(change.unknown_action).ok();
        table.unknown_chain = unknown_chain;
    }
}

async fn report(
    mut client: BootServiceClient<Channel>,
    reporter: String,
    mut queue: mpsc::Receiver<Contact>,
    shutdown: CancellationToken,
) {
    let mut sequence = 0;
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            received = queue.recv_many(&mut batch, BATCH) => if received == 0 { return },
            () = shutdown.cancelled() => return,
        }
        for contact in &mut batch {
            sequence += 1;
            contact.sequence = sequence;
        }
        let request = ReportContactsRequest {
            reporter: reporter.clone(),
            contacts: std::mem::take(&mut batch),
        };
        while let Err(status) = client.report_contacts(request.clone()).await {
            if matches!(
                status.code(),
                Code::InvalidArgument | Code::PermissionDenied | Code::Unimplemented
            ) {
                tracing::error!(
                    err = status.message(),
                    "the registry refused contacts; they are dropped"
                );
                break;
            }
            tracing::debug!(err = status.message(), "reporting contacts failed, trying again");
            tokio::select! {
                () = sleep(RETRY) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}
