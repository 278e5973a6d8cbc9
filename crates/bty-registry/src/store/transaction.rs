//! A change in the making.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    time::SystemTime,
};

use bty_api::registry::v1::{Event, MachineBoot};
use bty_types::MacAddr;
use rusqlite::Connection;

use super::{
    open::{Doing, StoreError},
    readers::Snapshot,
};
use crate::{
    change::Change,
    record::{Machine, NewEvent},
    rules::Rules,
    view,
};

/// A change in the making: it reads what it has written itself, and keeps account of what watchers must be told.
#[derive(Debug)]
pub(crate) struct Transaction<'c> {
    snapshot: Snapshot<'c>,
    now: SystemTime,
    revision: Option<u64>,
    /// Machines that changed, and what they were told at boot before (nothing where that is to be told again anyway).
    machines: BTreeMap<MacAddr, Option<MachineBoot>>,
    deleted: BTreeSet<MacAddr>,
    runs: BTreeSet<String>,
    events: Vec<Event>,
}

impl<'c> Deref for Transaction<'c> {
    type Target = Snapshot<'c>;

    fn deref(&self) -> &Snapshot<'c> {
        &self.snapshot
    }
}

impl<'c> Transaction<'c> {
    pub(super) fn new(connection: &'c Connection, rules: &'c Rules, now: SystemTime) -> Self {
        Self {
            snapshot: Snapshot { connection, rules },
            now,
            revision: None,
            machines: BTreeMap::new(),
            deleted: BTreeSet::new(),
            runs: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// The time that everything in this change happens at.
    pub(crate) fn now(&self) -> SystemTime {
        self.now
    }

    pub(super) fn connection(&self) -> &'c Connection {
        self.snapshot.connection
    }

    /// The revision of this change: counted up when it is first asked for.
    pub(super) fn change(&mut self) -> Result<u64, StoreError> {
        if let Some(revision) = self.revision {
            return Ok(revision);
        }
        let revision: i64 = self
            .connection()
            .query_row("UPDATE meta SET revision = revision + 1 RETURNING revision", [], |row| {
                row.get(0)
            })
            .doing("counting the revision")?;
        let revision = u64::try_from(revision).unwrap_or(0);
        self.revision = Some(revision);
        Ok(revision)
    }

    /// Takes it that this machine is about to change from `before`.
    pub(super) fn touch_machine(
        &mut self,
        before: Option<&Machine>,
        mac: MacAddr,
    ) -> Result<(), StoreError> {
        self.deleted.remove(&mac);
        if self.machines.contains_key(&mac) {
            return Ok(());
        }
        let boot = match before {
            Some(before) => {
                let around = self.surroundings(&before.intent)?;
                Some(view::machine_boot(before, &around, self.now))
            }
            None => None,
        };
        self.machines.insert(mac, boot);
        Ok(())
    }

    /// Takes it that watchers are to be told what this machine is told at boot, changed or not.
    pub(super) fn touch_boot(&mut self, mac: MacAddr) {
        self.machines.insert(mac, None);
    }

    pub(super) fn touch_deleted(&mut self, mac: MacAddr) {
        self.machines.remove(&mac);
        self.deleted.insert(mac);
    }

    pub(super) fn touch_run(&mut self, id: &str) {
        self.runs.insert(id.to_owned());
    }

    /// Records what happened.
    pub(crate) fn event(&mut self, event: NewEvent) -> Result<(), StoreError> {
        self.change()?;
        let event = super::events::insert(self.connection(), self.now, event)?;
        tracing::info!(
            kind = event.kind,
            mac = event.mac,
            actor = event.actor,
            "{}",
            event.message
        );
        self.events.push(event);
        Ok(())
    }

    /// What watchers are told once this is committed.
    pub(super) fn changes(&mut self) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for (mac, before) in std::mem::take(&mut self.machines) {
            let Some(machine) = self.machine(mac)? else { continue };
            let around = self.surroundings(&machine.intent)?;
            let boot = view::machine_boot(&machine, &around, self.now);
            changes.push(Change::Machine {
                machine: Box::new(view::machine(&machine, &around, self.now)),
                boot: (before.as_ref() != Some(&boot)).then_some(boot),
            });
        }
        for mac in std::mem::take(&mut self.deleted) {
            let revision = self.change()?;
            changes.push(Change::MachineDeleted { mac: mac.to_string(), revision });
        }
        for id in std::mem::take(&mut self.runs) {
            if let Some(run) = self.run(&id)? {
                changes.push(Change::Run(Box::new(view::run(&run, true))));
            }
        }
        changes.extend(std::mem::take(&mut self.events).into_iter().map(Change::Event));
        Ok(changes)
    }
}
