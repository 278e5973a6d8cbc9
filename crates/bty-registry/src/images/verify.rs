//! Proving an image again: what its file holds now, on the disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use bty_api::registry::v1::{VerifyProgress, VerifyResult, WrongChunk};
use bty_image::verify::{self, Report, VerifyError};
use bty_types::ImageId;
use rustix::fs::Advice;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Held, HeldProblem, Importer, import::REPORT_EVERY};
use crate::{problem::Problem, record::NewEvent};

/// Verifications that may wait for their turn; one is done at a time, with all processors.
pub(crate) const VERIFICATIONS_WAITING: usize = 16;
/// Reports that wait for a watcher; more are left out.
const REPORTS: usize = 4;

/// What there is to say of a verification.
#[derive(Debug)]
pub(crate) enum VerifyEvent {
    /// How far it is.
    Progress(VerifyProgress),
    /// What it found.
    Done(VerifyResult),
}

type Events = mpsc::Sender<Result<VerifyEvent, HeldProblem>>;

/// The channel for what there is to say of a verification.
pub(crate) fn verify_events() -> (Events, mpsc::Receiver<Result<VerifyEvent, HeldProblem>>) {
    mpsc::channel(REPORTS)
}

impl Importer {
    /// Verifies an image until that is done, fails or is cancelled, and records what was found.
    pub(crate) async fn verify(
        self: Arc<Self>,
        id: ImageId,
        actor: String,
        events: Events,
        cancelled: CancellationToken,
    ) {
        let Ok(_place) = self.verify_places.try_acquire() else {
            let full = Problem::Full(format!(
                "{VERIFICATIONS_WAITING} verifications wait already: try again later"
            ));
            let _ = events.send(Err(full.into())).await;
            return;
        };
        let outcome = tokio::select! {
            permit = self.verify_permit.acquire() => match permit {
                Ok(_permit) => self.prove_and_record(id, actor, events.clone(), &cancelled).await,
                Err(_) => Err(VerifyError::Cancelled.into()),
            },
            () = cancelled.cancelled() => Err(VerifyError::Cancelled.into()),
        };
        let last = outcome.map(|report| VerifyEvent::Done(result(id, report)));
        // Nobody listens where the caller went away.
        let _ = events.send(last).await;
    }

    async fn prove_and_record(
        &self,
        id: ImageId,
        actor: String,
        events: Events,
        cancelled: &CancellationToken,
    ) -> Result<Report, HeldProblem> {
        let held = Held::open(&self.folder, id)?;
        let outcome = self.prove(held.clone(), events, cancelled).await;
        let recorded = self.record_proof(&held, &outcome, actor).await;
        let report = outcome?;
        recorded?;
        Ok(report)
    }

    async fn prove(
        &self,
        held: Held,
        events: Events,
        cancelled: &CancellationToken,
    ) -> Result<Report, HeldProblem> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let mut thread = tokio::task::spawn_blocking(move || read_again(&held, &events, &flag));
        tokio::select! {
            done = &mut thread => done.unwrap_or(Err(HeldProblem::Thread)),
            () = cancelled.cancelled() => {
                stop.store(true, Ordering::Relaxed);
                // The next one begins when this one's threads are done, which is at their next chunk.
                thread.await.unwrap_or(Err(HeldProblem::Thread))
            }
        }
    }

    /// Records what was found; nothing where that is nothing.
    async fn record_proof(
        &self,
        held: &Held,
        outcome: &Result<Report, HeldProblem>,
        actor: String,
    ) -> Result<(), Problem> {
        let id = held.id;
        let (wrong_chunks, message) = match outcome {
            Ok(report) if report.wrong_chunks == 0 => {
                (Some(0), format!("verified {id}: all {} chunks are right", report.chunks))
            }
            Ok(report) => {
                let Report { chunks, wrong_chunks, .. } = report;
                let first = report.first_wrong.first();
                let first = first.map_or(0, |wrong| wrong.chunk.raw_offset);
                let message = format!(
                    "{id} is damaged: {wrong_chunks} of {chunks} chunks are wrong, the first at {first} of the disk"
                );
                (Some(*wrong_chunks), message)
            }
            Err(problem) if problem.is_damage() => {
                (None, format!("{id} is damaged: {}", bty_api::status::chain(problem)))
            }
            Err(_) => return Ok(()),
        };
        // An import may have replaced what was damaged: of the new file nothing was found.
        let _placing = self.placing.lock().await;
        if !held.is_placed(&self.folder) {
            return Ok(());
        }
        let kind = if wrong_chunks == Some(0) { "image.verified" } else { "image.damaged" };
        let recording = self.store.write(move |transaction| {
            // It may have been removed meanwhile.
            let Some(image) = transaction.image(id)? else { return Ok(()) };
            // Where nothing can be told of chunks, none is right.
            let chunks = image.raw_bytes.div_ceil(u64::from(image.chunk_bytes).max(1));
            transaction.image_verified(id, wrong_chunks.unwrap_or(chunks))?;
            let image_id = Some(id);
            transaction.event(NewEvent {
                kind,
                actor,
                image_id,
                message,
                ..NewEvent::default()
            })?;
            Ok(())
        });
        recording.await
    }
}

/// The part that a thread does.
fn read_again(held: &Held, events: &Events, stop: &AtomicBool) -> Result<Report, HeldProblem> {
    // What the disk holds is to be proved, not what memory has of it. The advice may be refused; then what can be read is proved.
    let _ = rustix::fs::fadvise(&*held.file, 0, None, Advice::DontNeed);
    let index = held.index()?;
    let raw_total_bytes = index.raw_bytes();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut last: Option<Instant> = None;
    let report = verify::verify(&*held.file, &index, workers, stop, |raw_bytes| {
        if last.is_some_and(|last| last.elapsed() < REPORT_EVERY) || events.capacity() < 2 {
            return;
        }
        last = Some(Instant::now());
        // One place stays free for the end; a watcher that is behind misses reports.
        let progress = VerifyProgress { raw_bytes, raw_total_bytes };
        let _ = events.try_send(Ok(VerifyEvent::Progress(progress)));
    })?;
    Ok(report)
}

fn result(id: ImageId, report: Report) -> VerifyResult {
    let Report { chunks, wrong_chunks, first_wrong } = report;
    let first_wrong = first_wrong.into_iter().map(|wrong| WrongChunk {
        number: wrong.chunk.number,
        raw_offset: wrong.chunk.raw_offset,
        raw_bytes: wrong.chunk.raw_bytes,
        file_offset: wrong.chunk.frame_offset,
        problem: bty_api::status::chain(&wrong.problem),
    });
    let first_wrong = first_wrong.collect();
    VerifyResult { id: id.to_string(), chunks, wrong_chunks, first_wrong }
}
