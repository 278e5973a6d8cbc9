//! The writer thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    open::{Doing, JobError, StoreError},
    transaction::Transaction,
};
use crate::{change::Change, rules::Rules};

/// Jobs that wait. Callers beyond wait for room, which holds back the network they serve.
const QUEUE: usize = 1024;
/// Jobs in one commit: they share one wait for the disk.
const GROUP: usize = 64;

/// Runs in the transaction, where there is one; returns whether its changes are to be kept, and whom to tell after the commit.
type Job = Box<dyn FnOnce(Result<&mut Transaction<'_>, StoreError>) -> (Outcome, Answer) + Send>;
/// Told how the commit went.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Observe = Box<dyn Fn(Duration) + Send>;

/// What became of a job.
enum Outcome {
    /// Its changes are to be kept.
    Good,
    /// It refused, or the database did, which said this.
    Bad(Option<StoreError>),
}

impl Outcome {
    fn of<T, E: JobError>(outcome: &Result<T, E>) -> Self {
        match outcome {
            Ok(_) => Self::Good,
            Err(problem) => Self::Bad(problem.of_store().map(StoreError::again)),
        }
    }
}

/// The thread that writes, and the way to it.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

struct Thread {
    connection: Connection,
    rules: Rules,
    changes: broadcast::Sender<Arc<Change>>,
    observe: Observe,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        rules: Rules,
        changes: broadcast::Sender<Arc<Change>>,
        observe: Observe,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (end, ended) = oneshot::channel();
        let thread = Thread { connection, rules, changes, observe };
        thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                thread.run(queue);
                let _ = end.send(());
            })
            .map_err(StoreError::Thread)?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), ended: Mutex::new(Some(ended)) })
    }

    fn jobs(&self) -> Result<mpsc::Sender<Job>, StoreError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.clone().ok_or(StoreError::Closed)
    }

    pub(super) async fn write<T, E>(
        &self,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: JobError + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let outcome = transaction.map_err(E::from).and_then(job);
            let became = Outcome::of(&outcome);
            let tell: Answer = Box::new(move |committed| {
                // Nobody listens where the caller went away meanwhile.
                let _ = answer.send(match committed {
                    Ok(()) => outcome,
                    Err(problem) => outcome.and(Err(problem.into())),
                });
            });
            (became, tell)
        });
        self.jobs()?.send(job).await.map_err(|_| StoreError::Closed)?;
        // The answer is dropped unsent only where the job panicked.
        answered.await.unwrap_or_else(|_| Err(StoreError::Job.into()))
    }

    pub(super) fn write_later(
        &self,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<(), StoreError> + Send + 'static,
    ) {
        let job: Job = Box::new(move |transaction| {
            let outcome = transaction.and_then(job);
            if let Err(problem) = &outcome {
                tracing::warn!(err = %bty_api::status::chain(problem), "a note was not recorded");
            }
            (Outcome::of(&outcome), Box::new(|_| {}))
        });
        if let Ok(jobs) = self.jobs() {
            let _ = jobs.try_send(job);
        }
    }

    pub(super) async fn close(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
    }
}

impl Thread {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            self.commit(group.drain(..));
        }
        let closing =
            self.connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
        if let Err(problem) = closing {
            tracing::warn!(err = %problem, "closing the database left its log behind");
        }
    }

    /// Runs a group of jobs in one SQL transaction, each in a savepoint of its own.
    fn commit(&mut self, jobs: impl Iterator<Item = Job>) {
        let started = Instant::now();
        let now = SystemTime::now();
        let mut answers = Vec::new();
        let mut changes = Vec::new();
        // Why SQLite has taken the whole transaction back, where it has: its first error, which concerns all of the group.
        let mut taken_back = None;
        if let Err(problem) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            tracing::error!(err = %problem, "beginning a transaction failed");
            for job in jobs {
                let (_, answer) = job(Err(StoreError::uncommitted(&problem)));
                answer(Ok(()));
            }
            return;
        }
        for job in jobs {
            if let Some(problem) = &taken_back {
                answers.push(refuse(job, problem));
                continue;
            }
            let mut transaction = Transaction::new(&self.connection, &self.rules, now);
            let done =
                catch_unwind(AssertUnwindSafe(|| run_job(job, &mut transaction, &mut taken_back)));
            if let Ok((answer, outcome)) = done {
                changes.extend(outcome);
                answers.push(answer);
            } else {
                tracing::error!("a job in the database panicked; nothing of it was kept");
                let _ = self.connection.execute_batch("ROLLBACK TO job; RELEASE job");
                taken_back = self.connection.is_autocommit().then_some(StoreError::Job);
            }
        }
        let committed = match taken_back {
            Some(problem) => Err(problem),
            None => self
                .connection
                .execute_batch("COMMIT")
                .map_err(|problem| StoreError::uncommitted(&problem)),
        };
        (self.observe)(started.elapsed());
        match committed {
            Ok(()) => {
                for change in changes {
                    // An error means that nobody watches.
                    let _ = self.changes.send(Arc::new(change));
                }
                for answer in answers {
                    answer(Ok(()));
                }
            }
            Err(problem) => {
                tracing::error!(err = %problem, "committing to the database failed");
                // Where SQLite hasn't done so.
                let _ = self.connection.execute_batch("ROLLBACK");
                for answer in answers {
                    answer(Err(problem.again()));
                }
            }
        }
    }
}

/// Has a job fail by what has failed for all of its group. Without a transaction its savepoint would be one of its own, kept although
/// its caller is told that the group was not.
fn refuse(job: Job, problem: &StoreError) -> Answer {
    let (_, answer) = job(Err(problem.again()));
    refused(answer, problem.again())
}

/// Runs one job in a savepoint; returns whom to answer and what to publish. A disk that is full, one that fails and a lack of memory
/// have SQLite take the whole transaction back: then `taken_back` says why.
fn run_job(
    job: Job,
    transaction: &mut Transaction<'_>,
    taken_back: &mut Option<StoreError>,
) -> (Answer, Vec<Change>) {
    let connection = transaction.connection();
    if let Err(problem) = connection.execute_batch("SAVEPOINT job").doing("beginning a change") {
        *taken_back = connection.is_autocommit().then(|| problem.again());
        let (_, answer) = job(Err(problem));
        return (answer, Vec::new());
    }
    let (became, answer) = job(Ok(&mut *transaction));
    let (keep, said) = match became {
        Outcome::Good => (true, None),
        Outcome::Bad(said) => (false, said),
    };
    let changes = if keep { transaction.changes() } else { Ok(Vec::new()) };
    let end = if keep && changes.is_ok() { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    let ended = connection.execute_batch(end).doing("ending a change");
    let (answer, changes, problem) = match (changes, ended) {
        (Ok(changes), Ok(())) => (answer, changes, None),
        // The first error says why; what follows it only that the transaction is gone.
        (Err(problem), _) | (_, Err(problem)) => {
            (refused(answer, problem.again()), Vec::new(), Some(problem))
        }
    };
    if connection.is_autocommit() {
        *taken_back = said.or(problem);
    }
    (answer, changes)
}

/// An answer that says that this job failed, however the commit of the group goes.
fn refused(answer: Answer, problem: StoreError) -> Answer {
    Box::new(move |_| answer(Err(problem)))
}

#[cfg(test)]
mod tests {
    use bty_types::ErrorKind;

    use super::*;
    use crate::{record::Machine, store::open};

    /// A job that puts a machine on record, and what its caller was told.
    fn put(number: u8, name_bytes: usize, told: &Arc<Mutex<Vec<Option<ErrorKind>>>>) -> Job {
        let told = Arc::clone(told);
        Box::new(move |transaction| {
            let outcome = transaction.and_then(|transaction| {
                let mac = format!("52:54:00:77:00:{number:02x}").parse().unwrap();
                let mut machine =
                    Machine::new(mac, bty_types::Policy::Local, SystemTime::UNIX_EPOCH);
                machine.observed.address = "x".repeat(name_bytes);
                transaction.put_machine(machine).map(drop)
            });
            let became = Outcome::of(&outcome);
            (
                became,
                Box::new(move |committed| {
                    let problem = outcome.and(committed).err();
                    told.lock().unwrap().push(problem.map(|problem| problem.kind()));
                }),
            )
        })
    }

    #[test]
    fn on_a_full_disk_nothing_is_half_kept_and_nobody_is_told_that_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        let connection = open::read_write(&path).unwrap();
        let pages: i64 =
            connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let (changes, mut watcher) = broadcast::channel(16);
        let mut thread =
            Thread { connection, rules: Rules::for_tests(), changes, observe: Box::new(|_| ()) };
        let room = |thread: &Thread, pages: i64| {
            thread.connection.pragma_update(None, "max_page_count", pages).unwrap();
        };
        let known = |thread: &Thread| -> i64 {
            thread
                .connection
                .query_row("SELECT count(*) FROM machines", [], |row| row.get(0))
                .unwrap()
        };
        let told = Arc::default();
        room(&thread, pages + 2);
        thread.commit([put(1, 10, &told), put(2, 100_000, &told), put(3, 10, &told)].into_iter());
        assert_eq!(*told.lock().unwrap(), [Some(ErrorKind::Exhausted); 3], "all are told why");
        assert_eq!(known(&thread), 0);
        assert!(watcher.try_recv().is_err(), "watchers were told of what was not kept");
        // Once there is room, all goes on.
        room(&thread, pages + 1000);
        thread.commit([put(1, 10, &told), put(2, 100_000, &told), put(3, 10, &told)].into_iter());
        assert_eq!(told.lock().unwrap()[3..], [None; 3]);
        assert_eq!(known(&thread), 3);
        assert!(watcher.try_recv().is_ok());
    }
}
