//! Carrying out a flash plan, and telling how it goes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bty_api::{
    agent::v1::{FlashPlan, ReportProgressRequest, finish_request::Outcome},
    registry::v1::{FlashRecord, NextBoot, RunFailure},
    status,
    types::v1::Disk as WireDisk,
};
use bty_disk::{Disk, discover::System, gate::Needs, select::SelectError};
use bty_types::{BootEntry, DiskSelector, FixUps, ImageId};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    client::Client,
    kernel_log,
    parameters::Parameters,
    say::{self, Say},
};
use crate::{
    engine::{Event, Options, Record, Step, flash as run_engine},
    firmware,
    fixup::{self, FixUpResult},
    progress_text,
    supply::{Container, ContainerHttp, Image},
    target::{self, TargetError},
    wire,
};

/// The longest that the screen stays as it is.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Why a plan was not carried out.
struct Failed {
    reason: &'static str,
    message: String,
}

impl Failed {
    fn new(reason: &'static str, error: &dyn std::error::Error) -> Self {
        Self { reason, message: status::chain(error) }
    }
}

/// What a plan that was carried out came to.
struct Done {
    record: Record,
    fix_ups: Vec<FixUpResult>,
    next_boot: Option<NextBoot>,
}

/// What is told of the run.
#[derive(Debug, Clone, Default)]
struct Now {
    event: Option<Event>,
    disk: Option<WireDisk>,
}

/// Carries out the plan; what it came to, either way.
pub(super) async fn flash(
    plan: FlashPlan,
    parameters: &Parameters,
    client: &Client,
    say: &Say,
) -> Outcome {
    let run_id = plan.run_id.clone();
    let url = absolute(&plan.image_url, &parameters.server);
    let (tell, now) = watch::channel(Now::default());
    let cancelled = Arc::new(AtomicBool::new(false));
    let working = std::thread::spawn({
        let cancelled = Arc::clone(&cancelled);
        move || work(&plan, &url, &cancelled, &tell)
    });
    // When the work ends, `tell` goes, and with it this.
    report(run_id, now, client.clone(), say).await;
    let joined = tokio::task::spawn_blocking(move || working.join()).await;
    cancelled.store(true, Ordering::Relaxed);
    let outcome = match joined {
        Ok(Ok(outcome)) => outcome,
        _ => Err(Failed {
            reason: "AGENT_PANICKED",
            message: "the flash engine panicked; this is a fault of bty".into(),
        }),
    };
    match outcome {
        Ok(Done { record, fix_ups, next_boot }) => {
            say.line(&format!("the disk holds {}", record.id));
            for line in
                fixup::lines(&fix_ups).into_iter().chain(next_boot.iter().flat_map(firmware::lines))
            {
                say.line(&line);
            }
            Outcome::Flashed(FlashRecord { next_boot, ..wire::record(&record, &fix_ups) })
        }
        Err(Failed { reason, message }) => {
            // Before the log is taken, which is to say it too.
            say.line(&format!("failed: {reason}: {message}"));
            Outcome::Failed(RunFailure {
                reason: reason.to_owned(),
                message,
                agent_log: say.log(),
                kernel_log: kernel_log::tail(),
            })
        }
    }
}

/// A path on the server that booted us, or a whole URL.
fn absolute(url: &str, server: &str) -> String {
    if url.starts_with('/') { format!("http://{server}{url}") } else { url.to_owned() }
}

fn work(
    plan: &FlashPlan,
    url: &str,
    cancelled: &AtomicBool,
    tell: &watch::Sender<Now>,
) -> Result<Done, Failed> {
    let wrong = |error: &dyn std::error::Error| Failed::new("PLAN_INVALID", error);
    let selector: DiskSelector = plan.disk.parse().map_err(|problem| wrong(&problem))?;
    let image_id: ImageId = plan.image_id.parse().map_err(|problem| wrong(&problem))?;
    let digest: ImageId = plan.index_digest.parse().map_err(|problem| wrong(&problem))?;
    let wanted = plan.fix_ups.as_ref().map(FixUps::try_from).transpose();
    let wanted = wanted.map_err(|problem| wrong(&problem))?.unwrap_or_default();

    tell.send_modify(|now| {
        now.event = Some(Event::begin(Step::Gate));
    });
    let needs = Needs { raw_bytes: plan.raw_bytes, sector_bytes: plan.sector_bytes };
    let system = System::default();
    let refused = |problem: TargetError| Failed::new(problem.reason(), &problem);
    let disk = choose(&system, &selector, needs).map_err(refused)?;
    target::check_health(&disk, plan.failing_disk_ok).map_err(refused)?;
    // The image is looked at before the disk is touched.
    let container = ContainerHttp::open(url, Some(digest))
        .map_err(|problem| Failed::new(problem.reason(), &problem))?;
    if container.index().id() != image_id {
        let message = format!("the server's file at {url} is another image than {image_id}");
        return Err(Failed { reason: "IMAGE_CORRUPT", message });
    }
    let device = target::open(&system, &disk).map_err(refused)?;
    tell.send_modify(|now| now.disk = Some(wire::disk(&disk)));
    let options = Options { expect_id: Some(image_id), ..Options::default() };
    let told = |event: Event| tell.send_modify(|now| now.event = Some(event));
    let mut image = Image::Container(Box::new(container));
    let record = run_engine(&mut image, &device, &options, cancelled, &told)
        .map_err(|problem| Failed::new(problem.reason(), &problem))?;
    if !wanted.is_none() {
        told(Event::begin(Step::FixUps));
    }
    let fix_ups = fixup::apply(&device, &wanted, &record);
    // A server that says nothing of it is older than this.
    let wish = plan.boot_entry().known().unwrap_or(BootEntry::Off);
    let next_boot = firmware::boot_next(device, &disk, wish);
    Ok(Done { record, fix_ups, next_boot })
}

/// Chooses the disk; one that is not there yet may still be coming up.
fn choose(system: &System, selector: &DiskSelector, needs: Needs) -> Result<Disk, TargetError> {
    loop {
        match target::choose(system, selector, needs) {
            Err(TargetError::Select(SelectError::Absent { .. })) if !say::is_settled() => {
                std::thread::sleep(super::LOOK_AGAIN);
            }
            chosen => return chosen,
        }
    }
}

/// Tells the server and the screen how the work goes, until it ends. A server that is away misses reports, and the work goes on.
async fn report(run_id: String, mut now: watch::Receiver<Now>, client: Client, say: &Say) {
    let (mut to_server, mut reports) = open_stream(&client);
    let mut shown = Shown::default();
    loop {
        tokio::select! {
            changed = now.changed() => if changed.is_err() { break },
            // The stream ended before the work: the server restarted. A new one is opened with the next report.
            () = &mut reports => {
                tokio::time::sleep(super::RETRY).await;
                (to_server, reports) = open_stream(&client);
            }
        }
        let current = now.borrow_and_update().clone();
        let Some(event) = current.event else { continue };
        if shown.is_news(&event) {
            say.line(&progress_text::line(&event));
        }
        let message = ReportProgressRequest {
            run_id: run_id.clone(),
            step: event.step.as_str().to_owned(),
            done_bytes: event.done_bytes,
            total_bytes: event.total_bytes,
            disk: current.disk,
            progress: wire::progress(&event),
        };
        // A full queue means that the server is slow; the next report says more anyway.
        let _ = to_server.try_send(message);
    }
    drop(to_server);
    reports.await;
}

type Sending = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn open_stream(client: &Client) -> (mpsc::Sender<ReportProgressRequest>, Sending) {
    let (to_server, queue) = mpsc::channel(8);
    let mut client = client.clone();
    let sending = async move {
        // What goes wrong here shows when the end is reported.
        let _ = client.report(ReceiverStream::new(queue)).await;
    };
    (to_server, Box::pin(sending))
}

/// What the screen was told last.
#[derive(Debug, Default)]
struct Shown {
    last: Option<(Step, u8, Instant)>,
}

impl Shown {
    /// Whether it is to be told: each step, each tenth of the whole, and that it goes on.
    fn is_news(&mut self, event: &Event) -> bool {
        let tenth = event.percent.unwrap_or_default() / 10;
        let is_news = self.last.is_none_or(|(step, said, at)| {
            step != event.step || said != tenth || at.elapsed() >= LINE_EVERY
        });
        if is_news {
            self.last = Some((event.step, tenth, Instant::now()));
        }
        is_news
    }
}
