//! Tasks have owners: a service task that ends in an error, or panics, takes the daemon down.

use std::{error::Error, future::Future, sync::Arc};

use bty_types::ErrorKind;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Why a daemon can't go on.
pub type RunError = Box<dyn Error + Send + Sync>;

/// Why a daemon can't start, where another start can't change that: its process ends with the exit code of this sort of failure,
/// and its unit says that it isn't started again by itself.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Refused {
    /// What sort of failure it is.
    pub kind: ErrorKind,
    /// What is wrong.
    #[source]
    pub cause: RunError,
}

/// Spawns tasks and knows when all have ended.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    tracker: TaskTracker,
    failed: mpsc::Sender<TaskFailed>,
    shutdown: CancellationToken,
}

/// The other end of a [`Spawner`].
#[derive(Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    failures: mpsc::Receiver<TaskFailed>,
}

/// A service task that ended in an error or a panic.
#[derive(Debug, thiserror::Error)]
#[error("the task {task:?} failed")]
pub(crate) struct TaskFailed {
    task: Arc<str>,
    #[source]
    cause: RunError,
}

/// A spawner and its other end.
pub(crate) fn tasks(shutdown: CancellationToken) -> (Spawner, Tasks) {
    let tracker = TaskTracker::new();
    let (failed, failures) = mpsc::channel(1);
    (Spawner { tracker: tracker.clone(), failed, shutdown }, Tasks { tracker, failures })
}

impl Spawner {
    /// Runs a task that the daemon can't do without.
    pub(crate) fn service<F>(&self, name: &str, task: F)
    where
        F: Future<Output = Result<(), RunError>> + Send + 'static,
    {
        let name: Arc<str> = name.into();
        let failed = self.failed.clone();
        let running = self.tracker.spawn(task);
        self.tracker.spawn(async move {
            let cause = match running.await {
                Ok(Ok(())) => return,
                Ok(Err(cause)) => cause,
                Err(panic) => panic.into(),
            };
            // Only the first failure is told; the daemon ends on it.
            let _ = failed.try_send(TaskFailed { task: name, cause });
        });
    }

    /// Runs a task for one peer or request: when it panics, that is logged and the daemon goes on.
    pub(crate) fn session<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let running = self.tracker.spawn(task);
        self.tracker.spawn(async move {
            if let Err(panic) = running.await {
                tracing::error!(task = name, err = %panic, "a session failed");
            }
        });
    }

    /// The token that is cancelled when the daemon stops.
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }
}

impl Tasks {
    /// Waits until a service task fails; for ever where none does.
    pub(crate) async fn first_failure(&mut self) -> RunError {
        match self.failures.recv().await {
            Some(failed) => failed.into(),
            None => std::future::pending().await,
        }
    }

    /// Waits until every task has ended.
    pub(crate) async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_service_task_is_told_with_its_name() {
        let (spawner, mut tasks) = tasks(CancellationToken::new());
        spawner.service("fine", async { Ok(()) });
        spawner.service("socket", async { Err("gone".into()) });
        let failed = tasks.first_failure().await;
        assert_eq!(bty_api::status::chain(failed.as_ref()), "the task \"socket\" failed: gone");
    }

    #[tokio::test]
    async fn a_panic_in_a_service_task_is_a_failure_and_in_a_session_is_not() {
        let (spawner, mut tasks) = tasks(CancellationToken::new());
        spawner.session("peer", async { panic!("one peer") });
        spawner.service("loop", async { panic!("the loop") });
        let failed = bty_api::status::chain(tasks.first_failure().await.as_ref());
        assert!(failed.contains("\"loop\"") && failed.contains("the loop"), "{failed}");
    }

    #[tokio::test]
    async fn draining_waits_for_tasks_that_watch_the_token() {
        let token = CancellationToken::new();
        let (spawner, tasks) = tasks(token.clone());
        let seen = token.clone();
        spawner.service("waiter", async move {
            seen.cancelled().await;
            Ok(())
        });
        token.cancel();
        tasks.drained().await;
    }
}
