//! The table of machines.

use std::time::SystemTime;

use bty_api::types::v1::{Platform, Stage};
use bty_types::{BootChain, BootEntry, ImageSelector, MacAddr};
use rusqlite::{OptionalExtension, Row, named_params};

use super::{
    encode::{self, Columns, integer, millis},
    open::{Doing, StoreError},
    readers::Snapshot,
    transaction::Transaction,
};
use crate::{
    decide::Surroundings,
    record::{Attempt, Failure, Flashed, Intent, LatestRun, Machine, Observed, Way},
};

/// What [`machine`] reads, in its order.
const SELECT: &str = "SELECT m.mac, m.name, m.policy, m.image, m.disk, m.generation, m.first_seen, m.last_seen, m.address, \
     m.stage, m.stage_at, m.hardware, m.hardware_at, m.finished_generation, m.flashed_image, m.flashed_at, \
     r.id, r.state, r.boot_id, r.percent, m.attempts, m.attempt_action, m.attempt_paths, m.attempt_at, m.open_boot_id, \
     m.disk_turn_at, m.failure_generation, m.failure_reason, m.failure_message, m.revision, m.chain, \
     m.platform, m.own_drivers, m.other_exit, m.way_moved_at, m.returns, m.boot_entry, m.restart_returns, \
     m.checked_in, m.failing_disk_ok, m.fix_ups \
     FROM machines m LEFT JOIN runs r ON r.id = m.run_id";

impl Snapshot<'_> {
    /// The machine with this address.
    pub(crate) fn machine(&self, mac: MacAddr) -> Result<Option<Machine>, StoreError> {
        self.one_machine("m.mac = ?1", &mac.to_string())
    }

    /// The machine with this name.
    pub(crate) fn machine_named(&self, name: &str) -> Result<Option<Machine>, StoreError> {
        self.one_machine("m.name = ?1", name)
    }

    fn one_machine(&self, condition: &str, value: &str) -> Result<Option<Machine>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("{SELECT} WHERE {condition}"))
            .doing("reading a machine")?;
        statement.query_row([value], machine).optional().doing("reading a machine")
    }

    /// At most `limit` machines with an address after this one, in the order of their addresses.
    pub(crate) fn machines_after(
        &self,
        after: Option<MacAddr>,
        limit: u32,
    ) -> Result<Vec<Machine>, StoreError> {
        let doing = "reading the machines";
        let after = after.map(|mac| mac.to_string()).unwrap_or_default();
        let mut statement = self
            .connection
            .prepare_cached(&format!("{SELECT} WHERE m.mac > ?1 ORDER BY m.mac LIMIT ?2"))
            .doing(doing)?;
        let rows = statement.query_map((after, limit), machine).doing(doing)?;
        rows.collect::<rusqlite::Result<_>>().doing(doing)
    }

    /// All machines, in the order of their addresses.
    pub(crate) fn machines(&self) -> Result<Vec<Machine>, StoreError> {
        self.machines_after(None, u32::MAX)
    }

    /// The addresses of the machines that are assigned to an image by one of these selectors.
    pub(crate) fn machines_assigned(
        &self,
        selector: &ImageSelector,
    ) -> Result<Vec<MacAddr>, StoreError> {
        let doing = "reading the machines of an image";
        let mut statement = self
            .connection
            .prepare_cached("SELECT mac FROM machines WHERE image = ?1 ORDER BY mac")
            .doing(doing)?;
        let rows = statement
            .query_map([selector.to_string()], |row| Columns::of(row).parsed("a MAC address"))
            .doing(doing)?;
        rows.collect::<rusqlite::Result<_>>().doing(doing)
    }

    /// The machines whose work was begun and has not ended, and when they last asked for a boot script.
    pub(crate) fn machines_trying(&self) -> Result<Vec<(MacAddr, SystemTime)>, StoreError> {
        let doing = "reading the machines that try";
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT mac, attempt_at FROM machines WHERE open_boot_id IS NOT NULL AND attempt_at IS NOT NULL",
            )
            .doing(doing)?;
        let rows = statement
            .query_map([], |row| {
                let mut columns = Columns::of(row);
                Ok((columns.parsed("a MAC address")?, columns.time()?))
            })
            .doing(doing)?;
        rows.collect::<rusqlite::Result<_>>().doing(doing)
    }

    /// The machines that fetched a boot program before this and of which nothing was heard since.
    pub(crate) fn machines_at_program(
        &self,
        before: SystemTime,
    ) -> Result<Vec<Machine>, StoreError> {
        let doing = "reading the machines at their boot program";
        let mut statement = self
            .connection
            .prepare_cached(&format!(
                "{SELECT} WHERE m.stage = ?1 AND m.stage_at <= ?2 \
                 AND (m.way_moved_at IS NULL OR m.way_moved_at < m.stage_at)"
            ))
            .doing(doing)?;
        let stage = i32::from(Stage::BootProgram);
        let rows = statement.query_map((stage, millis(before)), machine).doing(doing)?;
        rows.collect::<rusqlite::Result<_>>().doing(doing)
    }

    /// How many machines are known, and how many of them were first seen after this.
    pub(crate) fn count_machines(&self, since: SystemTime) -> Result<(u64, u64), StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT (SELECT count(*) FROM machines), (SELECT count(*) FROM machines WHERE first_seen > ?1)",
            )
            .doing("counting the machines")?;
        statement
            .query_row([millis(since)], |row| {
                let mut columns = Columns::of(row);
                Ok((columns.count()?, columns.count()?))
            })
            .doing("counting the machines")
    }

    /// What a decision about this wish rests on beside the machine.
    pub(crate) fn surroundings(&self, intent: &Intent) -> Result<Surroundings, StoreError> {
        Ok(Surroundings {
            image: self.resolve(intent.image.as_ref())?,
            max_attempts: self.rules.max_attempts,
            boot_chain: self.rules.boot_chain,
        })
    }
}

impl Transaction<'_> {
    /// Writes a machine as it is now; returns it with its revision.
    pub(crate) fn put_machine(&mut self, mut machine: Machine) -> Result<Machine, StoreError> {
        let before = self.machine(machine.mac)?;
        self.touch_machine(before.as_ref(), machine.mac)?;
        machine.revision = self.change()?;
        self.write_machine(&machine)?;
        Ok(machine)
    }

    /// Takes it that something around these machines changed that their decision rests on.
    pub(crate) fn refresh_machines(&mut self, macs: &[MacAddr]) -> Result<(), StoreError> {
        for &mac in macs {
            if let Some(machine) = self.machine(mac)? {
                self.put_machine(machine)?;
                self.touch_boot(mac);
            }
        }
        Ok(())
    }

    fn write_machine(&mut self, machine: &Machine) -> Result<(), StoreError> {
        let Machine { mac, intent, observed, revision } = machine;
        let attempt = observed.attempt.as_ref();
        let failure = observed.failure.as_ref();
        // Not INSERT OR REPLACE: that would remove another machine which has the same name.
        self.connection()
            .prepare_cached("DELETE FROM machines WHERE mac = ?1")
            .and_then(|mut statement| statement.execute([mac.to_string()]))
            .doing("writing a machine")?;
        let mut statement = self
            .connection()
            .prepare_cached(
                "INSERT INTO machines (mac, name, policy, image, disk, generation, first_seen, last_seen, address, \
                 stage, stage_at, hardware, hardware_at, finished_generation, flashed_image, flashed_at, run_id, attempts, \
                 attempt_action, attempt_paths, attempt_at, open_boot_id, disk_turn_at, failure_generation, failure_reason, \
                 failure_message, revision, chain, platform, own_drivers, other_exit, way_moved_at, returns, \
                 boot_entry, restart_returns, checked_in, failing_disk_ok, fix_ups) \
                 VALUES (:mac, :name, :policy, :image, :disk, :generation, :first_seen, :last_seen, :address, \
                 :stage, :stage_at, :hardware, :hardware_at, :finished_generation, :flashed_image, :flashed_at, :run_id, \
                 :attempts, :attempt_action, :attempt_paths, :attempt_at, :open_boot_id, :disk_turn_at, \
                 :failure_generation, :failure_reason, :failure_message, :revision, :chain, :platform, :own_drivers, :other_exit, \
                 :way_moved_at, :returns, :boot_entry, :restart_returns, :checked_in, :failing_disk_ok, :fix_ups)",
            )
            .doing("writing a machine")?;
        statement
            .execute(named_params! {
                ":mac": mac.to_string(),
                ":name": intent.name,
                ":policy": intent.policy.as_str(),
                ":image": intent.image.as_ref().map(ToString::to_string),
                ":disk": intent.disk.as_ref().map(ToString::to_string),
                ":generation": integer(intent.generation),
                ":first_seen": millis(observed.first_seen),
                ":last_seen": observed.last_seen.map(millis),
                ":address": observed.address,
                ":stage": i32::from(observed.stage),
                ":stage_at": observed.stage_at.map(millis),
                ":hardware": observed.hardware.as_ref().map(prost::Message::encode_to_vec),
                ":hardware_at": observed.hardware_at.map(millis),
                ":finished_generation": integer(observed.finished_generation),
                ":flashed_image": observed.flashed.map(|flashed| flashed.image.to_string()),
                ":flashed_at": observed.flashed.map(|flashed| millis(flashed.at)),
                ":run_id": observed.run.as_ref().map(|run| run.id.clone()),
                ":attempts": observed.attempts,
                ":attempt_action": attempt.map(|attempt| encode::action_text(attempt.action)),
                ":attempt_paths": attempt.map(|attempt| encode::paths_text(&attempt.paths)).unwrap_or_default(),
                ":attempt_at": attempt.map(|attempt| millis(attempt.at)),
                ":open_boot_id": observed.open_boot_id,
                ":disk_turn_at": observed.disk_turn_at.map(millis),
                ":failure_generation": failure.map(|failure| integer(failure.generation)),
                ":failure_reason": failure.map(|failure| failure.reason.clone()),
                ":failure_message": failure.map(|failure| failure.message.clone()),
                ":revision": integer(*revision),
                ":chain": intent.chain.map(BootChain::as_str),
                ":platform": i32::from(observed.platform),
                ":own_drivers": observed.way.own_drivers,
                ":other_exit": observed.way.other_exit,
                ":way_moved_at": observed.way.moved_at.map(millis),
                ":returns": observed.returns,
                ":boot_entry": intent.boot_entry.map(BootEntry::as_str),
                ":restart_returns": observed.restart_returns,
                ":checked_in": observed.checked_in,
                ":failing_disk_ok": intent.failing_disk_ok,
                ":fix_ups": intent.fix_ups.as_ref().map(prost::Message::encode_to_vec),
            })
            .doing("writing a machine")?;
        Ok(())
    }

    /// Forgets a machine.
    pub(crate) fn delete_machine(&mut self, mac: MacAddr) -> Result<(), StoreError> {
        self.change()?;
        self.connection()
            .execute("DELETE FROM machines WHERE mac = ?1", [mac.to_string()])
            .doing("deleting a machine")?;
        self.put_fix_ups(mac, None)?;
        self.touch_deleted(mac);
        Ok(())
    }
}

fn machine(row: &Row<'_>) -> rusqlite::Result<Machine> {
    let mut columns = Columns::of(row);
    let mac = columns.parsed("a MAC address")?;
    let intent = Intent {
        name: columns.take()?,
        policy: columns.parsed("a policy")?,
        image: columns.maybe_parsed("an image")?,
        disk: columns.maybe_parsed("a disk selector")?,
        generation: columns.count()?,
        chain: None,
        boot_entry: None,
        failing_disk_ok: false,
        fix_ups: None,
    };
    let observed = Observed {
        first_seen: columns.time()?,
        last_seen: columns.maybe_time()?,
        address: columns.take()?,
        stage: Stage::try_from(columns.take::<i32>()?).unwrap_or_default(),
        stage_at: columns.maybe_time()?,
        hardware: columns.maybe_message()?,
        hardware_at: columns.maybe_time()?,
        finished_generation: columns.count()?,
        flashed: flashed(&mut columns)?,
        run: latest_run(&mut columns)?,
        attempts: columns.count()?,
        attempt: attempt(&mut columns)?,
        open_boot_id: columns.take()?,
        disk_turn_at: columns.maybe_time()?,
        failure: failure(&mut columns)?,
        platform: Platform::Unspecified,
        way: Way::default(),
        returns: 0,
        restart_returns: 0,
        checked_in: None,
    };
    let mut machine = Machine { mac, intent, observed, revision: columns.count()? };
    // The columns come in the order of the migrations that added them. Of schema_0002:
    machine.intent.chain = columns.maybe_parsed("a boot chain")?;
    machine.observed.platform = Platform::try_from(columns.take::<i32>()?).unwrap_or_default();
    machine.observed.way = Way {
        own_drivers: columns.take()?,
        other_exit: columns.take()?,
        moved_at: columns.maybe_time()?,
    };
    machine.observed.returns = columns.count()?;
    // Of schema_0003:
    machine.intent.boot_entry = columns.maybe_parsed("a wish for boot entries")?;
    // Of schema_0004:
    machine.observed.restart_returns = columns.count()?;
    machine.observed.checked_in = columns.take()?;
    // Of schema_0006:
    machine.intent.failing_disk_ok = columns.take()?;
    // Of schema_0008:
    machine.intent.fix_ups = columns.maybe_message()?;
    Ok(machine)
}

fn flashed(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Option<Flashed>> {
    let image = columns.maybe_parsed("an image id")?;
    let at = columns.maybe_time()?;
    Ok(image.zip(at).map(|(image, at)| Flashed { image, at }))
}

fn latest_run(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Option<LatestRun>> {
    let id: Option<String> = columns.take()?;
    let state: Option<String> = columns.take()?;
    let boot_id: Option<String> = columns.take()?;
    let percent: Option<u32> = columns.take()?;
    let state = state.as_deref().and_then(encode::state);
    Ok(id.zip(state).map(|(id, state)| LatestRun {
        id,
        state,
        boot_id: boot_id.unwrap_or_default(),
        percent: percent.unwrap_or(0),
    }))
}

fn attempt(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Option<Attempt>> {
    let action: Option<String> = columns.take()?;
    let paths: String = columns.take()?;
    let at = columns.maybe_time()?;
    let action = action.as_deref().and_then(encode::action);
    Ok(action.zip(at).map(|(action, at)| Attempt { action, paths: encode::paths(&paths), at }))
}

fn failure(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Option<Failure>> {
    let generation: Option<i64> = columns.take()?;
    let reason: Option<String> = columns.take()?;
    let message: Option<String> = columns.take()?;
    Ok(generation.map(|generation| Failure {
        generation: u64::try_from(generation).unwrap_or(0),
        reason: reason.unwrap_or_default(),
        message: message.unwrap_or_default(),
    }))
}
