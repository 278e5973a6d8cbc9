//! How far each reporter of contacts has been heard.

use rusqlite::OptionalExtension;

use super::{
    encode::{integer, millis},
    open::{Doing, StoreError},
    transaction::Transaction,
};

/// Reporters that are remembered. A daemon is a new one at each start, and repeats only its latest report.
const REMEMBERED: i64 = 64;

impl Transaction<'_> {
    /// The latest sequence that was heard of this reporter; 0 where it is new.
    pub(crate) fn heard_of(&self, reporter: &str) -> Result<u64, StoreError> {
        let doing = "reading how far a reporter was heard";
        let sequence: Option<i64> = self
            .connection()
            .query_row("SELECT sequence FROM reporters WHERE reporter = ?1", [reporter], |row| {
                row.get(0)
            })
            .optional()
            .doing(doing)?;
        Ok(sequence.and_then(|sequence| u64::try_from(sequence).ok()).unwrap_or(0))
    }

    /// Takes it that this reporter has been heard so far.
    pub(crate) fn heard(&mut self, reporter: &str, sequence: u64) -> Result<(), StoreError> {
        let doing = "recording how far a reporter was heard";
        let now = self.now();
        self.connection()
            .execute(
                "INSERT INTO reporters (reporter, sequence, seen_at) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (reporter) DO UPDATE SET sequence = ?2, seen_at = ?3",
                (reporter, integer(sequence), millis(now)),
            )
            .doing(doing)?;
        self.connection()
            .execute(
                "DELETE FROM reporters WHERE reporter NOT IN \
                 (SELECT reporter FROM reporters ORDER BY seen_at DESC LIMIT ?1)",
                [REMEMBERED],
            )
            .doing(doing)?;
        Ok(())
    }
}
