//! The table of tokens.

use std::time::SystemTime;

use rusqlite::Row;

use super::{
    encode::{self, Columns, millis},
    open::{Doing, StoreError},
    readers::Snapshot,
    transaction::Transaction,
};
use crate::record::Token;

impl Snapshot<'_> {
    /// All tokens, by name.
    pub(crate) fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        let doing = "reading the tokens";
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT name, role, hash, created_at, expires_at, last_used_at FROM tokens ORDER BY name",
            )
            .doing(doing)?;
        let rows = statement.query_map([], token).doing(doing)?;
        rows.collect::<rusqlite::Result<_>>().doing(doing)
    }
}

impl Transaction<'_> {
    /// Records a token; false where the name is taken.
    pub(crate) fn insert_token(&mut self, token: &Token) -> Result<bool, StoreError> {
        self.change()?;
        let inserted = self
            .connection()
            .execute(
                "INSERT INTO tokens (name, role, hash, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (name) DO NOTHING",
                (
                    &token.name,
                    encode::role_text(token.role),
                    token.hash.as_slice(),
                    millis(token.created_at),
                    token.expires_at.map(millis),
                ),
            )
            .doing("recording a token")?;
        Ok(inserted == 1)
    }

    /// Removes a token; false where there is none of this name.
    pub(crate) fn delete_token(&mut self, name: &str) -> Result<bool, StoreError> {
        self.change()?;
        let deleted = self
            .connection()
            .execute("DELETE FROM tokens WHERE name = ?1", [name])
            .doing("removing a token")?;
        Ok(deleted == 1)
    }

    /// Records when a token was last used.
    pub(crate) fn token_used(&mut self, hash: [u8; 32], at: SystemTime) -> Result<(), StoreError> {
        self.connection()
            .execute(
                "UPDATE tokens SET last_used_at = ?2 WHERE hash = ?1",
                (hash.as_slice(), millis(at)),
            )
            .doing("recording the use of a token")?;
        Ok(())
    }
}

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    let mut columns = Columns::of(row);
    Ok(Token {
        name: columns.take()?,
        role: columns.read("a role", encode::role)?,
        hash: columns.take()?,
        created_at: columns.time()?,
        expires_at: columns.maybe_time()?,
        last_used_at: columns.maybe_time()?,
    })
}
