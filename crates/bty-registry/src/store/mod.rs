//! The database: the only module that speaks SQL.
//!
//! One SQLite file. A writer thread owns the one read-write connection ([`writer`]): jobs wait in a bounded queue, what is
//! queued is committed together, and what a job changed is published to watchers after the commit and never before. Readers
//! share a few read-only connections ([`readers`]). Everything else in this crate sees records, never rows.

mod encode;
mod events;
mod fix_ups;
mod images;
mod machines;
mod open;
mod readers;
mod receipts;
mod reporters;
mod runs;
mod tokens;
mod transaction;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::broadcast;

use crate::{change::Change, rules::Rules};

pub(crate) use events::EventFilter;
pub(crate) use open::{JobError, StoreError};
pub(crate) use readers::Snapshot;
pub(crate) use transaction::Transaction;

use readers::Readers;
use writer::Writer;

/// Changes that a watcher may be behind. One that falls further behind is told to watch again.
const WATCHER_BACKLOG: usize = 4096;

/// The database. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    writer: Arc<Writer>,
    readers: Arc<Readers>,
    changes: broadcast::Sender<Arc<Change>>,
}

impl Store {
    /// Opens the database in this folder, making or upgrading it as needed. `observe` is told how long each commit took.
    pub(crate) fn open(
        folder: &Path,
        rules: Rules,
        observe: impl Fn(Duration) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let path = folder.join("registry.db");
        let connection = open::read_write(&path)?;
        let (changes, _) = broadcast::channel(WATCHER_BACKLOG);
        let readers = Readers::new(&path, rules.clone());
        let writer = Writer::start(connection, rules, changes.clone(), Box::new(observe))?;
        Ok(Self { writer: Arc::new(writer), readers: Arc::new(readers), changes })
    }

    /// Runs a job in a transaction, and returns its result when the transaction has been committed. Where the job returns an
    /// error, nothing of it is kept.
    pub(crate) async fn write<T, E>(
        &self,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: JobError + Send + 'static,
    {
        self.writer.write(job).await
    }

    /// Queues a job whose result nobody waits for; dropped where the queue is full.
    pub(crate) fn write_later(
        &self,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<(), StoreError> + Send + 'static,
    ) {
        self.writer.write_later(job);
    }

    /// Runs a reading job on a consistent snapshot.
    pub(crate) async fn read<T, E>(
        &self,
        job: impl FnOnce(&Snapshot<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        Arc::clone(&self.readers).read(job).await
    }

    /// Every change from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Change>> {
        self.changes.subscribe()
    }

    /// Waits for what is queued, writes the log back into the database and closes it. Nothing can be written afterwards.
    pub(crate) async fn close(&self) {
        self.writer.close().await;
    }
}
