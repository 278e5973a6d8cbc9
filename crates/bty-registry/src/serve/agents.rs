//! `AgentService`, for bty-httpd, which has proved for which boot of which machine it speaks.

use std::{sync::Arc, time::Duration};

use bty_api::{
    agent::v1::{
        BootDiskPlan, CheckInRequest, CheckInResponse, FinishRequest, FinishResponse, FlashPlan,
        HoldPlan, InventoryPlan, ReportProgressRequest, ReportProgressResponse, RestartPlan,
        agent_service_server::AgentService, check_in_response::Plan as WirePlan,
        finish_request::Outcome as WireOutcome,
    },
    registry::v1 as wire,
    types::v1::{BootEntry, Disk, Hardware},
};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use crate::{
    problem::Problem,
    receipt::Key,
    record::{FlashRecord, RunFailure},
    work::{
        Boot, CheckIn, Outcome, Plan, Progress, RETRY_AFTER, check_in, finish, printable,
        report_progress,
    },
};

/// Results of fix-ups that are recorded: 64 files may be wanted, and some more.
const MOST_FIX_UPS: usize = 80;
/// Reports of one step that are recorded at most so often: watchers see enough, and the disk rests.
const RECORD_EVERY: Duration = Duration::from_millis(500);
/// Bytes of a hardware report.
const HARDWARE_BYTES: usize = 256 * 1024;
/// What a machine may have.
const MOST_DISKS: usize = 256;
const MOST_NICS: usize = 64;
/// Users of a disk that are recorded.
const MOST_USERS: usize = 64;
/// Modules beyond these are dropped, without a word: it bounds what is stored, and is far more than a live system loads. bty-httpd names
/// at most 100 in a boot script, and sends a machine that has more the whole live system, so what was dropped is missed nowhere.
const MOST_MODULES: usize = 512;
/// Steps of a flash; more are dropped.
const MOST_STEPS: usize = 100;
/// Characters of a step's name that are kept.
const STEP_CHARS: usize = 32;
/// Bytes of what was done so that the firmware boots the disk.
const NEXT_BOOT_BYTES: usize = 16 * 1024;

/// The service.
#[derive(Debug)]
pub(crate) struct Agents {
    pub(crate) shared: Shared,
    /// What receipts are signed with.
    pub(crate) key: Arc<Key>,
}

#[tonic::async_trait]
impl AgentService for Agents {
    async fn check_in(
        &self,
        request: Request<CheckInRequest>,
    ) -> Result<Response<CheckInResponse>, Status> {
        let boot = boot(&request)?;
        let CheckInRequest { hardware, agent_version, .. } = request.into_inner();
        let hardware = bounded(hardware.ok_or(Problem::Missing("hardware"))?)?;
        let said = CheckIn { hardware, agent_version };
        let plan =
            self.shared.store.write(move |transaction| check_in(transaction, &boot, said)).await?;
        // The token for the session is bty-httpd's to make.
        Ok(Response::new(CheckInResponse { session_token: String::new(), plan: Some(shown(plan)) }))
    }

    async fn report_progress(
        &self,
        request: Request<Streaming<ReportProgressRequest>>,
    ) -> Result<Response<ReportProgressResponse>, Status> {
        let boot = boot(&request)?;
        let mut reports = request.into_inner();
        let mut recorded: Option<(String, Instant)> = None;
        let mut waiting: Option<ReportProgressRequest> = None;
        loop {
            let report = tokio::select! {
                report = reports.message() => report,
                () = self.shared.shutdown.cancelled() => {
                    return Err(Status::unavailable("the registry is shutting down: report again"));
                }
            };
            // An agent that breaks off ends the stream; what it said until then counts.
            let Ok(Some(report)) = report else { break };
            let is_due = recorded
                .as_ref()
                .is_none_or(|(step, at)| *step != report.step || at.elapsed() >= RECORD_EVERY);
            if !is_due {
                waiting = Some(report);
                continue;
            }
            waiting = None;
            recorded = Some((report.step.clone(), Instant::now()));
            self.record(&boot, report).await?;
        }
        if let Some(last) = waiting {
            self.record(&boot, last).await?;
        }
        Ok(Response::new(ReportProgressResponse {}))
    }

    async fn finish(
        &self,
        request: Request<FinishRequest>,
    ) -> Result<Response<FinishResponse>, Status> {
        let boot = boot(&request)?;
        let FinishRequest { run_id, outcome } = request.into_inner();
        let outcome = self::outcome(outcome.ok_or(Problem::Missing("outcome"))?)?;
        let key = Arc::clone(&self.key);
        let restart = self
            .shared
            .store
            .write(move |transaction| finish(transaction, &boot, &run_id, outcome, &key))
            .await?;
        Ok(Response::new(FinishResponse { restart }))
    }
}

impl Agents {
    async fn record(&self, boot: &Boot, report: ReportProgressRequest) -> Result<(), Status> {
        let ReportProgressRequest { run_id, step, done_bytes, total_bytes, disk, progress } =
            report;
        let (boot, disk) = (boot.clone(), disk.as_ref().map(harmless_disk));
        let progress = Progress { run_id, step, done_bytes, total_bytes, disk, whole: progress };
        self.shared
            .store
            .write(move |transaction| report_progress(transaction, &boot, progress))
            .await?;
        Ok(())
    }
}

/// The machine and boot that bty-httpd speaks for.
fn boot<T>(request: &Request<T>) -> Result<Boot, Status> {
    let text = |key| {
        let value = request.metadata().get(key).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| {
            Status::invalid_argument(format!("the metadata {key:?} is missing: bty-httpd sets it"))
        })
    };
    let mac = text("x-bty-mac")?.parse().map_err(Problem::field("x-bty-mac"))?;
    let id = text("x-bty-boot")?;
    let is_id = (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_id {
        return Err(
            Problem::value("x-bty-boot", "a boot id has 1 to 64 letters, digits and '-'").into()
        );
    }
    Ok(Boot { mac, id: id.to_owned() })
}

/// A hardware report is stored as it came, so its size is bounded.
fn bounded(mut hardware: Hardware) -> Result<Hardware, Problem> {
    if hardware.disks.len() > MOST_DISKS || hardware.nics.len() > MOST_NICS {
        let reason = format!("it has more than {MOST_DISKS} disks or {MOST_NICS} network cards");
        return Err(Problem::value("hardware", reason));
    }
    if hardware.encoded_len() > HARDWARE_BYTES {
        return Err(Problem::value("hardware", format!("it has more than {HARDWARE_BYTES} bytes")));
    }
    // They come back in a boot script. What isn't a module's name is none that the live system could be loaded with.
    for modules in [&mut hardware.modules, &mut hardware.missing_modules] {
        modules.retain(|name| is_module(name));
        modules.truncate(MOST_MODULES);
    }
    Ok(hardware)
}

fn is_module(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn shown(plan: Plan) -> WirePlan {
    match plan {
        Plan::Flash { run_id, image, image_name, disk, boot_entry, failing_disk_ok, fix_ups } => {
            WirePlan::Flash(FlashPlan {
                run_id,
                disk: disk.to_string(),
                image_id: image.id.to_string(),
                index_digest: image.index_digest,
                image_url: format!("/images/{}.img.zst", image.id.hex()),
                raw_bytes: image.raw_bytes,
                sector_bytes: image.sector_bytes,
                image_name: image_name.to_string(),
                boot_entry: BootEntry::from(boot_entry).into(),
                failing_disk_ok,
                fix_ups: fix_ups.as_deref().map(Into::into),
            })
        }
        Plan::Inventory { run_id } => WirePlan::Inventory(InventoryPlan { run_id }),
        Plan::BootDisk { reason } => WirePlan::BootDisk(BootDiskPlan { reason }),
        Plan::Restart { reason } => WirePlan::Restart(RestartPlan { reason }),
        Plan::Hold { reason } => WirePlan::Hold(HoldPlan {
            reason,
            retry_after: prost_types::Duration::try_from(RETRY_AFTER).ok(),
        }),
    }
}

fn outcome(outcome: WireOutcome) -> Result<Outcome, Problem> {
    Ok(match outcome {
        WireOutcome::Flashed(record) => Outcome::Flashed(Box::new(FlashRecord {
            proved_id: record.proved_id.parse().map_err(Problem::field("flashed.proved_id"))?,
            fetched_bytes: record.fetched_bytes,
            written_bytes: record.written_bytes,
            zeroed_bytes: record.zeroed_bytes,
            elapsed_ms: record.elapsed_ms,
            // The flash is good whatever is said of the firmware.
            next_boot: record
                .next_boot
                .filter(|next| next.encoded_len() <= NEXT_BOOT_BYTES)
                .map(harmless),
            work: record.work.map(work),
            fix_ups: record.fix_ups.into_iter().take(MOST_FIX_UPS).map(harmless_result).collect(),
        })),
        WireOutcome::Inventoried(_) => Outcome::Inventoried,
        WireOutcome::Failed(wire::RunFailure { reason, message, agent_log, kernel_log }) => {
            Outcome::Failed(RunFailure {
                reason: printable(&reason),
                message: lines(&message),
                agent_log: lines(&agent_log),
                kernel_log: lines(&kernel_log),
            })
        }
    })
}

/// What a flash took, bounded, and with nothing in it that a terminal obeys.
fn work(work: wire::FlashWork) -> wire::FlashWork {
    let steps = work.steps.into_iter().take(MOST_STEPS);
    let name = |name: &str| printable(name).chars().take(STEP_CHARS).collect();
    let steps = steps.map(|step| wire::StepWork { name: name(&step.name), ..step }).collect();
    wire::FlashWork {
        compare: printable(&work.compare),
        verify: printable(&work.verify),
        holes: printable(&work.holes),
        choice: printable(&work.choice),
        steps,
        ..work
    }
}

/// What an operator's terminal shows of the firmware, with nothing in it that a terminal obeys.
fn harmless(next: wire::NextBoot) -> wire::NextBoot {
    let wire::NextBoot { entry, loader, written, is_next, order, new_order, warning } = next;
    wire::NextBoot {
        entry: printable(&entry),
        loader: printable(&loader),
        written,
        is_next,
        order: printable(&order),
        new_order: printable(&new_order),
        warning: printable(&warning),
    }
}

/// The same of a fix-up.
fn harmless_result(result: wire::FixUpResult) -> wire::FixUpResult {
    let wire::FixUpResult { name, outcome, detail } = result;
    wire::FixUpResult { name: printable(&name), outcome, detail: printable(&detail) }
}

/// A disk as it is recorded with its run and goes into the receipt: bounded, on one line each, and without its health, which is the
/// hardware's report to give.
fn harmless_disk(disk: &Disk) -> Disk {
    Disk {
        path: printable(&disk.path),
        serial: printable(&disk.serial),
        wwn: printable(&disk.wwn),
        model: printable(&disk.model),
        transport: printable(&disk.transport),
        in_use: disk.in_use.iter().take(MOST_USERS).map(|user| printable(user)).collect(),
        health: None,
        ..*disk
    }
}

/// Text of several lines, as harmless.
fn lines(text: &str) -> String {
    let is_obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().map(|c| if is_obeyed(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use bty_api::types::v1::Health;

    use super::*;

    #[test]
    fn nothing_that_an_agent_says_of_the_end_moves_a_terminal() {
        let bad = || "a\u{1b}]0;title\u{7}\u{9b}2J\r\nb".to_owned();
        let failure =
            wire::RunFailure { reason: bad(), message: bad(), agent_log: bad(), kernel_log: bad() };
        let Ok(Outcome::Failed(failed)) = outcome(WireOutcome::Failed(failure)) else { panic!() };
        let (line, text) = ("a ]0;title  2J  b", "a ]0;title  2J \nb");
        assert_eq!(failed.reason, line);
        assert_eq!([failed.message, failed.agent_log, failed.kernel_log], [text; 3]);
        let next = wire::NextBoot {
            entry: bad(),
            loader: bad(),
            order: bad(),
            new_order: bad(),
            warning: bad(),
            ..wire::NextBoot::default()
        };
        let next = harmless(next);
        let shown = [next.entry, next.loader, next.order, next.new_order, next.warning];
        assert_eq!(shown, [line; 5]);
    }

    #[test]
    fn a_disk_that_an_agent_tells_of_is_bounded() {
        let long = || "\u{1b}x".repeat(1 << 20);
        let disk = Disk {
            path: long(),
            serial: long(),
            wwn: long(),
            model: long(),
            transport: long(),
            size_bytes: 7,
            in_use: vec![long(); 100],
            health: Some(Health { findings: vec![long()], ..Health::default() }),
            ..Disk::default()
        };
        let disk = harmless_disk(&disk);
        assert!(disk.encoded_len() < 128 * 1024, "{}", disk.encoded_len());
        assert!(!format!("{disk:?}").contains("\\u{1b}"));
        assert_eq!((disk.size_bytes, disk.in_use.len()), (7, MOST_USERS));
    }
}
