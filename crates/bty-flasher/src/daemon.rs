//! The daemon for disks that are docked to this machine.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bty_api::{
    flasher::v1::{
        ListDisksRequest, ListDisksResponse, WriteDiskRequest, WriteDiskResponse,
        flasher_service_server::{FlasherService, FlasherServiceServer},
        write_disk_response,
    },
    registry::v1::{FlashRecord, RunStep},
    status,
};
use bty_disk::{discover::System, gate::Needs};
use bty_service::{Context, Daemon, RunError, door::LocalOnly};
use bty_types::{DiskSelector, FixUps, ImageId};
use serde::{Deserialize, Serialize};
use tokio::sync::{
    Semaphore,
    mpsc::{self, error::TrySendError},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};

use crate::{
    engine::{Event, Options, Step, flash},
    fixup, supply, target, wire,
};

/// The `[flasher]` section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Disks that are written at a time; more wait.
    max_writes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_writes: 2 }
    }
}

/// The daemon.
#[derive(Debug)]
pub(crate) struct Flasher;

impl Daemon for Flasher {
    const NAME: &'static str = "flasher";
    const PROGRAM: &'static str = "bty-flasher";
    const ABOUT: &'static str = "Writes disks that are docked to this machine";
    type Settings = Settings;

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.max_writes == 0 {
            return Err("max_writes is 0: nothing could be written; write at least 1".into());
        }
        Ok(())
    }

    async fn start(context: Context<Settings>) -> Result<(), RunError> {
        let places = Arc::new(Semaphore::new(context.settings.max_writes));
        let shutdown = context.shutdown().clone();
        let services = Routes::new(FlasherServiceServer::new(Service { places, shutdown }));
        context.open_unix_door(services, Arc::new(LocalOnly)).await?;
        context.ready("waiting for disks to write").await;
        Ok(())
    }
}

#[derive(Debug)]
struct Service {
    places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

type Events = Pin<Box<dyn Stream<Item = Result<WriteDiskResponse, Status>> + Send>>;

#[tonic::async_trait]
impl FlasherService for Service {
    async fn list_disks(
        &self,
        _: Request<ListDisksRequest>,
    ) -> Result<Response<ListDisksResponse>, Status> {
        let disks = System::default()
            .disks()
            .map_err(|problem| Status::internal(format!("looking for disks in /sys: {problem}")))?;
        Ok(Response::new(ListDisksResponse { disks: disks.iter().map(wire::disk).collect() }))
    }

    type WriteDiskStream = Events;

    async fn write_disk(
        &self,
        request: Request<WriteDiskRequest>,
    ) -> Result<Response<Events>, Status> {
        let request = request.into_inner();
        let selector: DiskSelector =
            request.disk.parse().map_err(|problem| status::invalid(&problem))?;
        let expect_id: Option<ImageId> = match request.image_id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|problem| status::invalid(&problem))?),
        };
        let wanted = request.fix_ups.as_ref().map(FixUps::try_from).transpose();
        let wanted = wanted.map_err(|problem| status::invalid(&problem))?.unwrap_or_default();
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| Status::unavailable("the daemon is about to end"))?;
        let (events, stream) = mpsc::channel(16);
        let job = Job {
            image: request.image,
            selector,
            expect_id,
            failing_is_ok: request.failing_disk_ok,
            wanted,
            shutdown: self.shutdown.clone(),
        };
        // Not the runtime's: a disk may keep a thread waiting for as long as it likes.
        std::thread::spawn(move || {
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| job.run(&events)));
            let outcome = outcome.unwrap_or_else(|_| {
                Err(Status::internal("the flash engine panicked; this is a fault of bty"))
            });
            let last = outcome.map(|record| WriteDiskResponse {
                event: Some(write_disk_response::Event::Record(record)),
                progress: None,
            });
            let _ = events.blocking_send(last);
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// A disk to write.
struct Job {
    image: String,
    selector: DiskSelector,
    expect_id: Option<ImageId>,
    failing_is_ok: bool,
    wanted: FixUps,
    shutdown: CancellationToken,
}

impl Job {
    fn run(
        &self,
        events: &mpsc::Sender<Result<WriteDiskResponse, Status>>,
    ) -> Result<FlashRecord, Status> {
        let supply::Opened { mut image, inspection } = supply::open(&self.image)
            .map_err(|problem| status::from_error(problem.kind(), problem.reason(), &problem))?;
        let sector_bytes = inspection.sector_bytes;
        let needs = Needs { raw_bytes: image.raw_bytes().unwrap_or_default(), sector_bytes };
        let system = System::default();
        let refused = |problem: target::TargetError| {
            status::from_error(problem.kind(), problem.reason(), &problem)
        };
        let disk = target::choose(&system, &self.selector, needs).map_err(refused)?;
        target::check_health(&disk, self.failing_is_ok).map_err(refused)?;
        let device = target::open(&system, &disk).map_err(refused)?;
        let cancelled = AtomicBool::new(false);
        let report = |event: Event| {
            // A caller that is slow misses some steps, and the disk isn't kept waiting; one that went away has cancelled.
            let sent = events.try_send(Ok(step(event)));
            if matches!(sent, Err(TrySendError::Closed(_))) || self.shutdown.is_cancelled() {
                cancelled.store(true, Ordering::Relaxed);
            }
        };
        let options = Options { expect_id: self.expect_id, ..Options::default() };
        let record = flash(&mut image, &device, &options, &cancelled, &report)
            .map_err(|problem| status::from_error(problem.kind(), problem.reason(), &problem))?;
        if !self.wanted.is_none() {
            report(Event::begin(Step::FixUps));
        }
        let fix_ups = fixup::apply(&device, &self.wanted, &record);
        device.show_new_partitions();
        Ok(wire::record(&record, &fix_ups))
    }
}

fn step(event: Event) -> WriteDiskResponse {
    let step = RunStep {
        name: event.step.as_str().to_owned(),
        done_bytes: event.done_bytes,
        total_bytes: event.total_bytes,
        ..RunStep::default()
    };
    WriteDiskResponse {
        event: Some(write_disk_response::Event::Step(step)),
        progress: wire::progress(&event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_is_the_defaults() {
        let shipped: toml::Table =
            toml::from_str(include_str!("../../../deploy/bty.toml")).unwrap();
        let defaults = toml::Value::try_from(Settings::default()).unwrap();
        assert_eq!(shipped.get("flasher"), Some(&defaults));
    }
}
