//! The tables of runs and their steps.

use std::time::SystemTime;

use bty_api::registry::v1::{FixUpResult, FlashRecord as WireRecord};
use bty_types::{ImageId, MacAddr};
use rusqlite::{OptionalExtension, Row, named_params};

use super::{
    encode::{self, Columns, integer, millis},
    open::{Doing, StoreError},
    readers::Snapshot,
    transaction::Transaction,
};
use crate::record::{FlashRecord, Run, RunFailure, Step};

/// What [`run`] reads, in its order.
const SELECT: &str = "SELECT id, mac, boot_id, action, generation, state, image_id, image, disk_selector, disk, started_at, \
     ended_at, heard_at, check_ins, percent, failure_reason, failure_message, agent_log, kernel_log, proved_id, \
     fetched_bytes, written_bytes, zeroed_bytes, elapsed_ms, next_boot, work, fix_ups, index_digest, \
     agent_version, progress, revision FROM runs";

impl Snapshot<'_> {
    /// The run with this id.
    pub(crate) fn run(&self, id: &str) -> Result<Option<Run>, StoreError> {
        let doing = "reading a run";
        let mut statement =
            self.connection.prepare_cached(&format!("{SELECT} WHERE id = ?1")).doing(doing)?;
        let found = statement.query_row([id], run).optional().doing(doing)?;
        found.map(|run| self.with_steps(run)).transpose()
    }

    /// The runs whose ids begin so; at most two, which is enough to know that one is not the only one.
    pub(crate) fn runs_beginning(&self, prefix: &str) -> Result<Vec<Run>, StoreError> {
        // '~' sorts after every digit of an id.
        self.runs(&format!("{SELECT} WHERE id >= ?1 AND id < ?1 || '~' LIMIT 2"), [prefix])
    }

    /// At most `limit` runs, newest first, older than `before`, of this machine where one is given.
    pub(crate) fn runs_before(
        &self,
        mac: Option<MacAddr>,
        before: &str,
        limit: u32,
    ) -> Result<Vec<Run>, StoreError> {
        let before = if before.is_empty() { "~" } else { before };
        match mac {
            Some(mac) => self.runs(
                &format!("{SELECT} WHERE mac = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3"),
                (mac.to_string(), before, limit),
            ),
            None => self.runs(
                &format!("{SELECT} WHERE id < ?1 ORDER BY id DESC LIMIT ?2"),
                (before, limit),
            ),
        }
    }

    /// The runs under way.
    pub(crate) fn running(&self) -> Result<Vec<Run>, StoreError> {
        self.runs(&format!("{SELECT} WHERE state = 'running'"), [])
    }

    /// Whether a run under way writes this image.
    pub(crate) fn is_image_in_use(&self, id: ImageId) -> Result<bool, StoreError> {
        let doing = "looking for runs of an image";
        let mut statement = self
            .connection
            .prepare_cached("SELECT 1 FROM runs WHERE image_id = ?1 AND state = 'running'")
            .doing(doing)?;
        statement.exists([id.to_string()]).doing(doing)
    }

    /// How many runs stand how, and machines by what they did last: for metrics.
    pub(crate) fn count_runs(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let doing = "counting the runs";
        let mut statement = self
            .connection
            .prepare_cached("SELECT state, count(*) FROM runs GROUP BY state")
            .doing(doing)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).doing(doing)?;
        rows.collect::<rusqlite::Result<_>>().doing(doing)
    }

    fn runs(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<Run>, StoreError> {
        let doing = "reading the runs";
        let mut statement = self.connection.prepare_cached(sql).doing(doing)?;
        let rows = statement.query_map(parameters, run).doing(doing)?;
        let runs: Vec<Run> = rows.collect::<rusqlite::Result<_>>().doing(doing)?;
        runs.into_iter().map(|run| self.with_steps(run)).collect()
    }

    fn with_steps(&self, mut run: Run) -> Result<Run, StoreError> {
        let doing = "reading the steps of a run";
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT name, started_at, ended_at, done_bytes, total_bytes FROM run_steps \
                 WHERE run_id = ?1 ORDER BY position",
            )
            .doing(doing)?;
        let rows = statement.query_map([&run.id], step).doing(doing)?;
        run.steps = rows.collect::<rusqlite::Result<_>>().doing(doing)?;
        Ok(run)
    }
}

impl Transaction<'_> {
    /// Writes a run as it is now. Its machine counts as changed too.
    pub(crate) fn put_run(&mut self, run: &Run) -> Result<(), StoreError> {
        let revision = self.change()?;
        let failure = run.failure.clone();
        let has_failed = failure.is_some();
        let failure = failure.unwrap_or_default();
        let record = run.record.as_ref();
        let mut statement = self
            .connection()
            .prepare_cached(
                "INSERT INTO runs (id, mac, boot_id, action, generation, state, image_id, image, disk_selector, disk, \
                 started_at, ended_at, heard_at, check_ins, percent, failure_reason, failure_message, agent_log, \
                 kernel_log, proved_id, fetched_bytes, written_bytes, zeroed_bytes, elapsed_ms, next_boot, work, fix_ups, \
                 index_digest, agent_version, progress, revision) \
                 VALUES (:id, :mac, :boot_id, :action, :generation, :state, :image_id, :image, :disk_selector, :disk, \
                 :started_at, :ended_at, :heard_at, :check_ins, :percent, :failure_reason, :failure_message, :agent_log, \
                 :kernel_log, :proved_id, :fetched, :written, :zeroed, :elapsed, :next_boot, :work, :fix_ups, \
                 :index_digest, :agent_version, :progress, :revision) \
                 ON CONFLICT (id) DO UPDATE SET state = :state, disk = :disk, ended_at = :ended_at, heard_at = :heard_at, \
                 check_ins = :check_ins, percent = :percent, failure_reason = :failure_reason, \
                 failure_message = :failure_message, agent_log = :agent_log, kernel_log = :kernel_log, \
                 proved_id = :proved_id, fetched_bytes = :fetched, written_bytes = :written, zeroed_bytes = :zeroed, \
                 elapsed_ms = :elapsed, next_boot = :next_boot, work = :work, fix_ups = :fix_ups, \
                 progress = :progress, revision = :revision",
            )
            .doing("writing a run")?;
        statement
            .execute(named_params! {
                ":id": run.id,
                ":mac": run.mac.to_string(),
                ":boot_id": run.boot_id,
                ":action": encode::action_text(run.action),
                ":generation": integer(run.generation),
                ":state": encode::state_text(run.state),
                ":image_id": run.image_id.map(|id| id.to_string()).unwrap_or_default(),
                ":image": run.image,
                ":disk_selector": run.disk_selector,
                ":disk": run.disk.as_ref().map(prost::Message::encode_to_vec),
                ":started_at": millis(run.started_at),
                ":ended_at": run.ended_at.map(millis),
                ":heard_at": millis(run.heard_at),
                ":check_ins": run.check_ins,
                ":percent": run.percent,
                ":failure_reason": has_failed.then_some(failure.reason),
                ":failure_message": failure.message,
                ":agent_log": failure.agent_log,
                ":kernel_log": failure.kernel_log,
                ":proved_id": record.map(|record| record.proved_id.to_string()),
                ":fetched": integer(record.map_or(0, |record| record.fetched_bytes)),
                ":written": integer(record.map_or(0, |record| record.written_bytes)),
                ":zeroed": integer(record.map_or(0, |record| record.zeroed_bytes)),
                ":elapsed": integer(record.map_or(0, |record| record.elapsed_ms)),
                ":next_boot": record
                    .and_then(|record| record.next_boot.as_ref())
                    .map(prost::Message::encode_to_vec),
                ":work": record
                    .and_then(|record| record.work.as_ref())
                    .map(prost::Message::encode_to_vec),
                ":index_digest": run.index_digest,
                ":agent_version": run.agent_version,
                ":progress": run.progress.as_ref().map(prost::Message::encode_to_vec),
                ":fix_ups": record.map(|record| fix_ups(record.fix_ups.clone())),
                ":revision": integer(revision),
            })
            .doing("writing a run")?;
        self.put_steps(run)?;
        self.touch_run(&run.id);
        Ok(())
    }

    fn put_steps(&mut self, run: &Run) -> Result<(), StoreError> {
        let doing = "writing the steps of a run";
        let mut statement = self
            .connection()
            .prepare_cached(
                "INSERT INTO run_steps (run_id, position, name, started_at, ended_at, done_bytes, total_bytes) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (run_id, position) DO UPDATE SET name = ?3, started_at = ?4, ended_at = ?5, \
                 done_bytes = ?6, total_bytes = ?7",
            )
            .doing(doing)?;
        for (position, step) in run.steps.iter().enumerate() {
            statement
                .execute((
                    &run.id,
                    integer(position),
                    &step.name,
                    millis(step.started_at),
                    step.ended_at.map(millis),
                    integer(step.done_bytes),
                    integer(step.total_bytes),
                ))
                .doing(doing)?;
        }
        Ok(())
    }
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let mut columns = Columns::of(row);
    Ok(Run {
        id: columns.take()?,
        mac: columns.parsed("a MAC address")?,
        boot_id: columns.take()?,
        action: columns.read("an action", encode::action)?,
        generation: columns.count()?,
        state: columns.read("a state of a run", encode::state)?,
        image_id: columns.take::<String>()?.parse().ok(),
        image: columns.take()?,
        disk_selector: columns.take()?,
        disk: columns.maybe_message()?,
        started_at: columns.time()?,
        ended_at: columns.maybe_time()?,
        heard_at: columns.time()?,
        check_ins: columns.count()?,
        percent: columns.count()?,
        steps: Vec::new(),
        failure: failure(&mut columns)?,
        record: record(&mut columns)?,
        index_digest: columns.take()?,
        agent_version: columns.take()?,
        progress: columns.maybe_message()?,
        revision: columns.count()?,
    })
}

fn failure(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Option<RunFailure>> {
    let reason: Option<String> = columns.take()?;
    let (message, agent_log, kernel_log) = (columns.take()?, columns.take()?, columns.take()?);
    Ok(reason.map(|reason| RunFailure { reason, message, agent_log, kernel_log }))
}

fn record(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Option<FlashRecord>> {
    let proved_id = columns.maybe_parsed("an image id")?;
    let (fetched_bytes, written_bytes) = (columns.count()?, columns.count()?);
    let (zeroed_bytes, elapsed_ms) = (columns.count()?, columns.count()?);
    let (next_boot, work) = (columns.maybe_message()?, columns.maybe_message()?);
    let fixed: Option<WireRecord> = columns.maybe_message()?;
    Ok(proved_id.map(|proved_id| FlashRecord {
        proved_id,
        fetched_bytes,
        written_bytes,
        zeroed_bytes,
        elapsed_ms,
        next_boot,
        work,
        fix_ups: fixed.unwrap_or_default().fix_ups,
    }))
}

/// What became of fix-ups, as its column has it.
fn fix_ups(fix_ups: Vec<FixUpResult>) -> Vec<u8> {
    prost::Message::encode_to_vec(&WireRecord { fix_ups, ..WireRecord::default() })
}

fn step(row: &Row<'_>) -> rusqlite::Result<Step> {
    let mut columns = Columns::of(row);
    let name = columns.take()?;
    let started_at: SystemTime = columns.time()?;
    Ok(Step {
        name,
        started_at,
        ended_at: columns.maybe_time()?,
        done_bytes: columns.count()?,
        total_bytes: columns.count()?,
    })
}
