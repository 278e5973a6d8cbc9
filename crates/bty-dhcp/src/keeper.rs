//! Puts changes of leases on disk, and only then sends the answers that tell of them (RFC 2131 §3.1: a server commits, then
//! answers). What comes while the disk is busy is written together.

use std::{
    iter,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bty_service::{Context, datagram::ThreadSocket};
use tokio::{runtime::Handle, sync::mpsc, task::spawn_blocking, time::timeout};

use crate::{
    engine::{LeaseChange, Reply},
    journal::Journal,
    server::Shared,
    settings::Settings,
};

/// Answers that wait for the disk. More are dropped: their clients ask again.
const WAITING: usize = 4096;
/// Writes are so long apart where one follows the other: on a fast disk each would take one lease along, and cost more than all the
/// rest of an exchange. A client waits longer for its own network card.
const APART: Duration = Duration::from_micros(500);
/// How often leases are counted: some run out without a word.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Changes to be written, and the answer that tells of them.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) changes: Vec<LeaseChange>,
    pub(crate) reply: Option<(Arc<ThreadSocket>, Reply)>,
}

/// Where jobs wait.
pub(crate) fn channel() -> (mpsc::Sender<Job>, mpsc::Receiver<Job>) {
    mpsc::channel(WAITING)
}

/// Starts it, on a thread of its own: it waits for the disk most of the time, and to hand each write to another thread and back
/// would cost more than the write.
pub(crate) fn start(
    context: &Context<Settings>,
    shared: &Arc<Shared>,
    journal: Journal,
    inbox: mpsc::Receiver<Job>,
) {
    let shared = Arc::clone(shared);
    context.spawn("leases", async move {
        let runtime = Handle::current();
        spawn_blocking(move || keep(&runtime, &shared, journal, inbox)).await?;
        Ok(())
    });
}

fn keep(runtime: &Handle, shared: &Shared, mut journal: Journal, mut inbox: mpsc::Receiver<Job>) {
    let mut counted_at = Instant::now();
    let mut written_at = counted_at;
    let mut jobs = Vec::new();
    let mut has_ended = false;
    while !has_ended {
        if counted_at.elapsed() >= COUNT_EVERY {
            counted_at = Instant::now();
            shared.count_leases();
            shared.say_dropped();
        }
        has_ended = runtime.block_on(async {
            tokio::select! {
                _ = timeout(COUNT_EVERY, inbox.recv_many(&mut jobs, WAITING)) => false,
                () = shared.shutdown.cancelled() => true,
            }
        });
        if has_ended {
            // What waits is written still: a client that declines or releases an address says so once.
            inbox.close();
            jobs.extend(iter::from_fn(|| inbox.try_recv().ok()));
        }
        if jobs.is_empty() {
            continue;
        }
        let early = APART.saturating_sub(written_at.elapsed());
        if !early.is_zero() {
            thread::sleep(early);
            jobs.extend(iter::from_fn(|| inbox.try_recv().ok()).take(WAITING));
        }
        written_at = Instant::now();
        let written = if journal.is_long() {
            // The engine is ahead of the journal, never behind it: what it has includes these changes.
            journal.compact(&shared.lease_changes())
        } else {
            journal.append(&shared.by_machine(jobs.iter().flat_map(|job| &job.changes).cloned()))
        };
        if let Err(problem) = written {
            tracing::error!(
                err = bty_api::status::chain(&problem),
                "leases could not be written, so their clients get no answer"
            );
            jobs.clear();
            continue;
        }
        for (socket, reply) in jobs.drain(..).filter_map(|job| job.reply) {
            shared.send(&socket, &reply);
        }
    }
}
