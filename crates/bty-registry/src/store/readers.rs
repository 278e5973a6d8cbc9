//! Reading: a few read-only connections, and what a snapshot answers.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::open::{self, Doing, StoreError};
use crate::rules::Rules;

/// Connections, and so reading jobs at a time; more wait.
const CONNECTIONS: usize = 4;

/// A pool of read-only connections, opened when first needed.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    rules: Rules,
    free: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

/// The database as it was at one moment. Its questions are in the modules of their tables.
#[derive(Debug)]
pub(crate) struct Snapshot<'c> {
    pub(super) connection: &'c Connection,
    pub(super) rules: &'c Rules,
}

impl Readers {
    pub(super) fn new(path: &Path, rules: Rules) -> Self {
        Self {
            path: path.to_owned(),
            rules,
            free: Mutex::new(Vec::new()),
            permits: Semaphore::new(CONNECTIONS),
        }
    }

    pub(super) async fn read<T, E>(
        self: Arc<Self>,
        job: impl FnOnce(&Snapshot<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let readers = Arc::clone(&self);
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(StoreError::Closed.into());
        };
        let reading = tokio::task::spawn_blocking(move || readers.run(job));
        reading.await.unwrap_or_else(|_| Err(StoreError::Job.into()))
    }

    fn run<T, E: From<StoreError>>(
        &self,
        job: impl FnOnce(&Snapshot<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match free {
            Some(connection) => connection,
            None => open::read_only(&self.path)?,
        };
        let outcome = {
            // One transaction: several questions of a job see the same state. It ends without a trace when it is dropped.
            let transaction = connection.transaction().doing("beginning to read")?;
            job(&Snapshot { connection: &transaction, rules: &self.rules })
        };
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        outcome
    }
}

impl Snapshot<'_> {
    /// How often anything was changed until now.
    pub(crate) fn revision(&self) -> Result<u64, StoreError> {
        let revision: i64 = self
            .connection
            .query_row("SELECT revision FROM meta", [], |row| row.get(0))
            .doing("reading the revision")?;
        Ok(u64::try_from(revision).unwrap_or(0))
    }

    /// What records are judged by.
    pub(crate) fn rules(&self) -> &Rules {
        self.rules
    }
}
