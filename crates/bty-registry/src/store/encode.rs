//! Between values of records and columns.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bty_api::{
    registry::v1::Role,
    types::v1::{Action, BootPath},
};
use rusqlite::{
    Row,
    types::{FromSql, Type},
};

use super::open::StoreError;
use crate::record::RunState;

/// A time as its column has it; before 1970 is 1970.
pub(super) fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time from its column.
pub(super) fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A count or size as its column has it: SQLite's integers have a sign.
pub(super) fn integer(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

/// Reads a row's columns one after the other, in the order of the statement: adding a column in the middle of a statement
/// cannot shift the meaning of the others unseen.
pub(super) struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl<'r, 's> Columns<'r, 's> {
    pub(super) fn of(row: &'r Row<'s>) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn take<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        let index = self.next;
        self.next += 1;
        self.row.get(index)
    }

    /// A count or size.
    pub(super) fn count<T: TryFrom<i64> + Default>(&mut self) -> rusqlite::Result<T> {
        Ok(T::try_from(self.take::<i64>()?).unwrap_or_default())
    }

    pub(super) fn time(&mut self) -> rusqlite::Result<SystemTime> {
        self.take().map(time)
    }

    pub(super) fn maybe_time(&mut self) -> rusqlite::Result<Option<SystemTime>> {
        Ok(self.take::<Option<i64>>()?.map(time))
    }

    /// Text that one of our types reads.
    pub(super) fn parsed<T: std::str::FromStr>(
        &mut self,
        what: &'static str,
    ) -> rusqlite::Result<T> {
        let text: String = self.take()?;
        text.parse().map_err(|_| misread(self.next - 1, what, text))
    }

    pub(super) fn maybe_parsed<T: std::str::FromStr>(
        &mut self,
        what: &'static str,
    ) -> rusqlite::Result<Option<T>> {
        let Some(text) = self.take::<Option<String>>()? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| misread(self.next - 1, what, text))
    }

    /// Text that a function reads.
    pub(super) fn read<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> rusqlite::Result<T> {
        let text: String = self.take()?;
        read(&text).ok_or_else(|| misread(self.next - 1, what, text))
    }

    /// A message of the contract.
    pub(super) fn maybe_message<T: prost::Message + Default>(
        &mut self,
    ) -> rusqlite::Result<Option<T>> {
        let Some(bytes) = self.take::<Option<Vec<u8>>>()? else { return Ok(None) };
        T::decode(bytes.as_slice()).map(Some).map_err(|problem| {
            rusqlite::Error::FromSqlConversionFailure(self.next - 1, Type::Blob, Box::new(problem))
        })
    }
}

fn misread(column: usize, what: &'static str, value: String) -> rusqlite::Error {
    let problem = StoreError::Row { what, value };
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(problem))
}

pub(super) const fn action_text(action: Action) -> &'static str {
    match action {
        Action::Local => "local",
        Action::Flash => "flash",
        Action::Inventory => "inventory",
        Action::Hold | Action::Unspecified => "hold",
    }
}

pub(super) fn action(text: &str) -> Option<Action> {
    [Action::Local, Action::Flash, Action::Inventory, Action::Hold]
        .into_iter()
        .find(|&action| action_text(action) == text)
}

pub(super) const fn state_text(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Lost => "lost",
    }
}

pub(super) fn state(text: &str) -> Option<RunState> {
    [RunState::Running, RunState::Succeeded, RunState::Failed, RunState::Lost]
        .into_iter()
        .find(|&state| state_text(state) == text)
}

pub(super) const fn role_text(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Operator => "operator",
        Role::Viewer | Role::Unspecified => "viewer",
    }
}

pub(super) fn role(text: &str) -> Option<Role> {
    [Role::Admin, Role::Operator, Role::Viewer].into_iter().find(|&role| role_text(role) == text)
}

/// Boot paths as words with commas between.
pub(super) fn paths_text(paths: &[BootPath]) -> String {
    let words = paths.iter().map(|path| match path {
        BootPath::Http => "http",
        BootPath::Pxe => "pxe",
        BootPath::Unspecified => "unknown",
    });
    words.collect::<Vec<_>>().join(",")
}

pub(super) fn paths(text: &str) -> Vec<BootPath> {
    let words = text.split(',').filter(|word| !word.is_empty());
    words
        .map(|word| match word {
            "http" => BootPath::Http,
            "pxe" => BootPath::Pxe,
            _ => BootPath::Unspecified,
        })
        .collect()
}
