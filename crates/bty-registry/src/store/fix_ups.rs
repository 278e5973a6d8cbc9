//! The table of what is changed on machines' disks after a flash, with contents that may be secret.

use bty_api::types::v1::FixUps as WireFixUps;
use bty_types::{FixUps, MacAddr};
use prost::Message as _;
use rusqlite::OptionalExtension;

use super::{
    encode::Columns,
    open::{Doing, StoreError},
    readers::Snapshot,
    transaction::Transaction,
};

impl Snapshot<'_> {
    /// What is to be changed on this machine's disk after a flash.
    pub(crate) fn fix_ups(&self, mac: MacAddr) -> Result<Option<FixUps>, StoreError> {
        let doing = "reading the fix-ups of a machine";
        let mut statement = self
            .connection
            .prepare_cached("SELECT message FROM machine_fix_ups WHERE mac = ?1")
            .doing(doing)?;
        let message: Option<Option<WireFixUps>> = statement
            .query_row([mac.to_string()], |row| Columns::of(row).maybe_message())
            .optional()
            .doing(doing)?;
        let parsed = message.flatten().map(|message| FixUps::try_from(&message)).transpose();
        parsed.map_err(|problem| StoreError::Row { what: "fix-ups", value: problem.to_string() })
    }
}

impl Transaction<'_> {
    /// Writes what is to be changed on this machine's disk after a flash.
    pub(crate) fn put_fix_ups(
        &mut self,
        mac: MacAddr,
        wanted: Option<&FixUps>,
    ) -> Result<(), StoreError> {
        let doing = "writing the fix-ups of a machine";
        let connection = self.connection();
        match wanted {
            None => {
                connection.execute("DELETE FROM machine_fix_ups WHERE mac = ?1", [mac.to_string()])
            }
            Some(wanted) => connection.execute(
                "INSERT INTO machine_fix_ups (mac, message) VALUES (?1, ?2) \
                 ON CONFLICT (mac) DO UPDATE SET message = ?2",
                (mac.to_string(), WireFixUps::from(wanted).encode_to_vec()),
            ),
        }
        .doing(doing)?;
        Ok(())
    }
}
