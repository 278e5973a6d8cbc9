//! The machines as the page shows them: kept from the registry's watch.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bty_api::registry::v1::{
    Machine, WatchMachinesRequest, machine_service_client::MachineServiceClient,
};
use bty_service::Context;
use tokio::time::sleep;
use tonic::{Status, transport::Channel};

use crate::settings::Settings;

const RETRY: Duration = Duration::from_secs(1);

/// All machines, and whether they are up to date.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machines(Arc<RwLock<State>>);

#[derive(Debug, Default)]
struct State {
    by_mac: BTreeMap<String, Arc<Machine>>,
    current: bool,
}

impl Machines {
    /// Begins to watch.
    pub(crate) fn start(context: &Context<Settings>, registry: Channel) -> Self {
        let machines = Self::default();
        let (watcher, shutdown) = (machines.clone(), context.shutdown().clone());
        context.spawn_session("machine watch", async move {
            let mut client = MachineServiceClient::new(registry);
            loop {
                tokio::select! {
                    _ = watcher.follow(&mut client) => {}
                    () = shutdown.cancelled() => return,
                }
                watcher.write().current = false;
                tokio::select! {
                    () = sleep(RETRY) => {}
                    () = shutdown.cancelled() => return,
                }
            }
        });
        machines
    }

    /// The machines by MAC address, and whether the registry is there.
    pub(crate) fn all(&self) -> (Vec<Arc<Machine>>, bool) {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (state.by_mac.values().cloned().collect(), state.current)
    }

    async fn follow(&self, client: &mut MachineServiceClient<Channel>) -> Result<(), Status> {
        let mut changes = client.watch_machines(WatchMachinesRequest {}).await?.into_inner();
        let mut snapshot = Some(BTreeMap::new());
        while let Some(change) = changes.message().await? {
            let mut state = self.write();
            if let Some(machine) = change.machine {
                let by_mac = snapshot.as_mut().unwrap_or(&mut state.by_mac);
                by_mac.insert(machine.mac.clone(), Arc::new(machine));
            }
            state.by_mac.remove(&change.deleted_mac);
            if change.snapshot_complete {
                if let Some(by_mac) = snapshot.take() {
                    state.by_mac = by_mac;
                }
                state.current = true;
            }
        }
        Ok(())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
