//! The table of events.

use std::{ops::RangeInclusive, time::SystemTime};

use bty_api::{convert::timestamp, registry::v1::Event};
use bty_types::MacAddr;
use rusqlite::{Connection, Row};

use super::{
    encode::{Columns, integer, millis},
    open::{Doing, StoreError},
    readers::Snapshot,
    transaction::Transaction,
};
use crate::record::NewEvent;

const SELECT: &str = "SELECT id, at, kind, actor, mac, run_id, image_id, message FROM events";
/// Events that one answer may hold.
const MOST: u32 = 1000;
/// Events of a machine among which so many boots in a minute are looked for, for each of them: there are runs, lessons and changes too.
const LATEST_PER_BOOT_EVENT: u32 = 8;

/// Which events are meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventFilter {
    /// Only about this machine.
    pub mac: Option<MacAddr>,
    /// Only of kinds that begin so.
    pub kind_prefix: String,
}

impl Snapshot<'_> {
    /// At most `limit` events, newest first, with an id below `before` (0 for the newest).
    pub(crate) fn events_before(
        &self,
        filter: &EventFilter,
        before: u64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let before = if before == 0 { i64::MAX } else { integer(before) };
        self.events(filter, "id < ?3 ORDER BY id DESC", before, limit)
    }

    /// At most `limit` events, oldest first, with an id above `after`.
    pub(crate) fn events_after(
        &self,
        filter: &EventFilter,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        self.events(filter, "id > ?3 ORDER BY id", integer(after), limit)
    }

    /// Whether this machine's latest events hold so many of its boots from this time. What was learned from boots is not counted, nor
    /// what was recorded in the future, before the clock was set back.
    pub(crate) fn has_boot_events(
        &self,
        mac: MacAddr,
        count: u32,
        during: RangeInclusive<SystemTime>,
    ) -> Result<bool, StoreError> {
        let doing = "counting a machine's latest events";
        // A machine may have very many events: no more are looked at than this.
        let latest = count.saturating_mul(LATEST_PER_BOOT_EVENT);
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT count(*) >= ?5 FROM (SELECT at, kind, actor FROM events WHERE mac = ?1 AND mac <> '' \
                 ORDER BY id DESC LIMIT ?4) \
                 WHERE at > ?2 AND at <= ?3 AND kind LIKE 'boot.%' AND actor <> 'registry'",
            )
            .doing(doing)?;
        let (after, until) = (millis(*during.start()), millis(*during.end()));
        statement
            .query_row((mac.to_string(), after, until, latest, count), |row| row.get(0))
            .doing(doing)
    }

    /// The id of the newest event; 0 where there was never one.
    pub(crate) fn newest_event(&self) -> Result<u64, StoreError> {
        let id: i64 = self
            .connection
            .query_row("SELECT coalesce(max(id), 0) FROM events", [], |row| row.get(0))
            .doing("reading the newest event")?;
        Ok(u64::try_from(id).unwrap_or(0))
    }

    fn events(
        &self,
        filter: &EventFilter,
        condition: &str,
        bound: i64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let doing = "reading the events";
        // The machine's index is used only where one is given.
        let machine = if filter.mac.is_some() { "mac = ?1 AND mac <> ''" } else { "?1 IS NULL" };
        let sql = format!(
            "{SELECT} WHERE {machine} AND substr(kind, 1, length(?2)) = ?2 AND {condition} LIMIT ?4"
        );
        let mut statement = self.connection.prepare_cached(&sql).doing(doing)?;
        let mac = filter.mac.map(|mac| mac.to_string());
        let rows = statement
            .query_map((mac, &filter.kind_prefix, bound, limit.min(MOST)), event)
            .doing(doing)?;
        rows.collect::<rusqlite::Result<_>>().doing(doing)
    }
}

impl Transaction<'_> {
    /// Removes events beyond the newest `keep`, and those from before `oldest`. Returns how many went.
    pub(crate) fn prune_events(
        &mut self,
        keep: u64,
        oldest: SystemTime,
    ) -> Result<usize, StoreError> {
        self.connection()
            .execute(
                "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?1 OR at < ?2",
                (integer(keep), millis(oldest)),
            )
            .doing("removing old events")
    }
}

pub(super) fn insert(
    connection: &Connection,
    now: SystemTime,
    event: NewEvent,
) -> Result<Event, StoreError> {
    let NewEvent { kind, actor, mac, run_id, image_id, message } = event;
    let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
    let image_id = image_id.map(|id| id.to_string()).unwrap_or_default();
    let mut statement = connection
        .prepare_cached(
            "INSERT INTO events (at, kind, actor, mac, run_id, image_id, message) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .doing("recording an event")?;
    let id = statement
        .insert((millis(now), kind, &actor, &mac, &run_id, &image_id, &message))
        .doing("recording an event")?;
    Ok(Event {
        id: u64::try_from(id).unwrap_or(0),
        at: Some(timestamp(now)),
        kind: kind.to_owned(),
        actor,
        mac,
        run_id,
        image_id,
        message,
    })
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let mut columns = Columns::of(row);
    Ok(Event {
        id: columns.count()?,
        at: Some(timestamp(columns.time()?)),
        kind: columns.take()?,
        actor: columns.take()?,
        mac: columns.take()?,
        run_id: columns.take()?,
        image_id: columns.take()?,
        message: columns.take()?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{rules::Rules, store::open};

    #[test]
    fn only_a_machines_boots_of_this_minute_count() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open::read_write(&folder.path().join("registry.db")).unwrap();
        let rules = Rules::for_tests();
        let snapshot = Snapshot { connection: &connection, rules: &rules };
        let mac: MacAddr = "52:54:00:77:00:01".parse().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1_000_000);
        let minute = Duration::from_mins(1);
        let put = |kind, actor: &str, at| {
            let event =
                NewEvent { kind, actor: actor.into(), mac: Some(mac), ..NewEvent::default() };
            insert(&connection, at, event).unwrap();
        };
        let has = |count| snapshot.has_boot_events(mac, count, now - minute..=now).unwrap();
        // The clock was a day ahead, and is right now.
        for _ in 0..5 {
            put("boot.firmware", "dhcp", now + 1440 * minute);
        }
        put("boot.firmware", "dhcp", now - minute);
        put("machine.changed", "root", now);
        put("boot.returned", "registry", now);
        assert!(!has(1));
        put("boot.firmware", "dhcp", now);
        assert!(has(1) && !has(2));
        put("boot.local", "httpd", now);
        assert!(has(2) && !has(3));
    }
}
