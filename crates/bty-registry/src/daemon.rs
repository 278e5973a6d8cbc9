//! The daemon: opens the store, opens the doors, and lets time pass.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bty_api::{
    agent::v1::agent_service_server::AgentServiceServer,
    registry::v1::{
        boot_service_server::BootServiceServer, event_service_server::EventServiceServer,
        image_service_server::ImageServiceServer, machine_service_server::MachineServiceServer,
        receipt_service_server::ReceiptServiceServer, run_service_server::RunServiceServer,
        token_service_server::TokenServiceServer,
    },
    types::v1::Action,
};
use bty_service::{ClockWatch, Context, Daemon, Heartbeat, Refused, RunError, door::Gatekeeper};
use bty_types::ErrorKind;
use tokio::sync::{Mutex, Semaphore};
use tonic::service::Routes;

use crate::{
    access::{Access, Tokens, Users},
    decide::{Asker, what_next},
    images::{Fetcher, Folder, Importer, VERIFICATIONS_WAITING, WAITING},
    metrics::Metrics,
    problem::Problem,
    receipt::Key,
    serve::{Agents, Boots, Events, Images, Machines, Receipts, Runs, Shared, TokenKeeper},
    settings::Settings,
    store::{Store, StoreError},
    work::sweep,
};

/// How often runs are looked at whose agents are silent: a part of the time that they may be, and at most this.
const SWEEP_EVERY: Duration = Duration::from_secs(4);
const SWEEPS_BEFORE_LOST: u32 = 8;
/// The file of the key that receipts are signed with, in the state folder.
const RECEIPT_KEY: &str = "receipt.key";
/// How often old events are removed.
const PRUNE_EVERY: Duration = Duration::from_hours(1);
/// How often what is counted from the database is counted again.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// The system of record.
#[derive(Debug)]
pub struct Registry;

impl Daemon for Registry {
    const NAME: &'static str = "registry";
    const PROGRAM: &'static str = "bty-registry";
    const ABOUT: &'static str =
        "The system of record: machines, images, runs, and what a machine does next";
    type Settings = Settings;

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    async fn start(context: Context<Settings>) -> Result<(), RunError> {
        let settings = Arc::clone(&context.settings);
        let metrics = Metrics::new(&mut context.metrics());
        let commits = metrics.clone();
        let store =
            Store::open(&context.paths.state, settings.rules(), move |took| commits.commit(took))
                .map_err(refused)?;
        let known = store.read(|snapshot| Ok::<_, Problem>(snapshot.tokens()?)).await?;
        let tokens = Arc::new(Tokens::new(known, store.clone()));
        let users = Users::resolve(&settings.users, &settings.operators_group);
        let access = Arc::new(Access::new(users, Arc::clone(&tokens)));
        let shutdown = context.shutdown().clone();
        let shared =
            Shared { store: store.clone(), access: Arc::clone(&access), tokens, metrics, shutdown };

        let key = Arc::new(Key::load_or_make(&context.paths.state.join(RECEIPT_KEY))?);
        let importer = importer(&settings, &context, &shared).await?;
        let images = || Images {
            shared: shared.clone(),
            importer: Arc::clone(&importer),
            context: context.clone(),
        };
        let gatekeeper: Arc<dyn Gatekeeper> = access;
        context.open_unix_door(routes(&shared, &key, images()), Arc::clone(&gatekeeper)).await?;
        if let Some(address) = settings.tcp_address()? {
            context.open_tcp_door(address, routes(&shared, &key, images()), gatekeeper).await?;
        }
        let writes = context.heartbeat("store");
        context.spawn("sweep", pass_time(shared.clone(), Arc::clone(&settings), writes));
        context.spawn("counts", count(shared.clone(), context.clone()));
        let looking = Arc::clone(&importer).look_into_old(shared.shutdown.clone());
        context.spawn_session("contents", looking);
        let machines = store
            .read(|snapshot| Ok::<_, Problem>(snapshot.count_machines(SystemTime::now())?.0))
            .await?;
        context.ready(format!("{machines} machines are known")).await;
        Ok(())
    }
}

/// A database that this version must not open stays so.
fn refused(problem: StoreError) -> RunError {
    match problem.kind() {
        kind @ ErrorKind::Precondition => Refused { kind, cause: problem.into() }.into(),
        _ => problem.into(),
    }
}

fn routes(shared: &Shared, key: &Arc<Key>, images: Images) -> Routes {
    let agents = Agents { shared: shared.clone(), key: Arc::clone(key) };
    let receipts = Receipts { shared: shared.clone(), key: Arc::clone(key) };
    Routes::new(MachineServiceServer::new(Machines(shared.clone())))
        .add_service(RunServiceServer::new(Runs(shared.clone())))
        .add_service(EventServiceServer::new(Events(shared.clone())))
        .add_service(TokenServiceServer::new(TokenKeeper(shared.clone())))
        .add_service(BootServiceServer::new(Boots(shared.clone())))
        .add_service(ImageServiceServer::new(images))
        .add_service(AgentServiceServer::new(agents))
        .add_service(ReceiptServiceServer::new(receipts))
}

/// Sweeps and prunes until the daemon ends, and then closes the database.
async fn pass_time(
    shared: Shared,
    settings: Arc<Settings>,
    writes: Heartbeat,
) -> Result<(), RunError> {
    let mut clock = ClockWatch::default();
    let mut listening_since = Instant::now();
    let lost_after = settings.rules().lost_after;
    let (mut sweeping, mut pruning) =
        (Outcomes::of("sweeping"), Outcomes::of("removing old events"));
    let mut sweeps = tokio::time::interval(SWEEP_EVERY.min(lost_after / SWEEPS_BEFORE_LOST));
    let mut prunes = tokio::time::interval(PRUNE_EVERY);
    sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = sweeps.tick() => {
                if let Some(seconds) = clock.look() {
                    tracing::warn!(seconds, "the clock of this machine was set; silences are counted anew");
                    listening_since = Instant::now();
                }
                let listened = listening_since.elapsed();
                let swept = shared.store.write(move |transaction| {
                    let now = transaction.now();
                    sweep(transaction, now.checked_sub(listened).unwrap_or(now))
                });
                sweeping.take(swept.await);
                // A writer that hangs holds this up, and so the watchdog's food. One that fails doesn't: a full disk has room again
                // some time, and a restart makes none.
                writes.beat();
            }
            _ = prunes.tick() => {
                pruning.take(prune(&shared, &settings).await);
            }
            () = shared.shutdown.cancelled() => break,
        }
    }
    shared.store.close().await;
    Ok(())
}

/// How something goes that is tried again every few seconds, whether it failed or not. The log is told when that changes.
#[derive(Debug)]
struct Outcomes {
    doing: &'static str,
    /// Why it failed the last time, where it did.
    failed: Option<String>,
}

impl Outcomes {
    fn of(doing: &'static str) -> Self {
        Self { doing, failed: None }
    }

    /// Takes an outcome; gives what came of it.
    fn take<T>(&mut self, outcome: Result<T, Problem>) -> Option<T> {
        let doing = self.doing;
        match outcome {
            Ok(done) => {
                if self.failed.take().is_some() {
                    tracing::info!("{doing} works again");
                }
                Some(done)
            }
            Err(problem) => {
                let why = bty_api::status::chain(&problem);
                if self.failed.as_ref() != Some(&why) {
                    tracing::error!(err = why, "{doing} failed, and is tried again");
                    self.failed = Some(why);
                }
                None
            }
        }
    }
}

async fn prune(shared: &Shared, settings: &Settings) -> Result<(), Problem> {
    let keep = settings.event_retention_count;
    let days = Duration::from_hours(24)
        .saturating_mul(u32::try_from(settings.event_retention_days).unwrap_or(u32::MAX));
    let oldest = SystemTime::now().checked_sub(days).unwrap_or(SystemTime::UNIX_EPOCH);
    let removed = shared
        .store
        .write(move |transaction| Ok::<_, Problem>(transaction.prune_events(keep, oldest)?))
        .await?;
    if removed > 0 {
        tracing::info!(removed, "old events were removed");
    }
    Ok(())
}

/// Counts machines and runs for the metrics and the line of status.
async fn count(shared: Shared, context: Context<Settings>) -> Result<(), RunError> {
    let mut counting = Outcomes::of("counting machines and runs");
    let mut ticks = tokio::time::interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.shutdown.cancelled() => return Ok(()),
        }
        let reading = shared.store.read(|snapshot| {
            let now = SystemTime::now();
            let mut next = Vec::new();
            for machine in snapshot.machines()? {
                let around = snapshot.surroundings(&machine.intent)?;
                next.push(what_next(&machine, &around, Asker::PowerOn, now).action);
            }
            Ok::<_, Problem>((next, snapshot.count_runs()?))
        });
        // A database that can't be read now can be later, and until then the last count stands.
        let Some((next, runs)) = counting.take(reading.await) else { continue };
        let actions = [
            (Action::Local, "local"),
            (Action::Flash, "flash"),
            (Action::Inventory, "inventory"),
            (Action::Hold, "hold"),
        ];
        for (action, word) in actions {
            let count = next.iter().filter(|&&next| next == action).count();
            shared.metrics.machines(word, i64::try_from(count).unwrap_or(i64::MAX));
        }
        context.status(format!("{} machines are known", next.len()));
        for (state, count) in runs {
            shared.metrics.runs(state, count);
        }
    }
}

/// Opens the image store, and removes what imports left in it that did not end.
async fn importer(
    settings: &Settings,
    context: &Context<Settings>,
    shared: &Shared,
) -> Result<Arc<Importer>, RunError> {
    let path = if settings.store_dir.as_os_str().is_empty() {
        context.paths.state.join("images")
    } else {
        settings.store_dir.clone()
    };
    let folder = Folder::open(path)?;
    let images = shared.store.read(|snapshot| Ok::<_, Problem>(snapshot.images()?)).await?;
    for missing in folder.sweep(&images.iter().map(|image| image.id).collect())? {
        tracing::error!(image = %missing, "the file of an image is gone: import it again");
    }
    Ok(Arc::new(Importer {
        folder,
        import_dirs: settings.import_dirs.clone(),
        max_image_bytes: settings.max_image_bytes,
        store: shared.store.clone(),
        metrics: shared.metrics.clone(),
        fetcher: Fetcher::new(Duration::from_secs(settings.fetch_patience_seconds)),
        permits: Semaphore::new(settings.max_imports),
        places: Semaphore::new(settings.max_imports.saturating_add(WAITING)),
        verify_permit: Semaphore::new(1),
        verify_places: Semaphore::new(1 + VERIFICATIONS_WAITING),
        placing: Mutex::default(),
    }))
}
