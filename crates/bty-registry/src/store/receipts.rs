//! The table of receipts.

use rusqlite::OptionalExtension;

use super::{
    open::{Doing, StoreError},
    readers::Snapshot,
    transaction::Transaction,
};
use crate::receipt::Signed;

impl Snapshot<'_> {
    /// The receipt of this run.
    pub(crate) fn receipt(&self, run_id: &str) -> Result<Option<Signed>, StoreError> {
        let doing = "reading a receipt";
        let mut statement = self
            .connection
            .prepare_cached("SELECT document, signature FROM receipts WHERE run_id = ?1")
            .doing(doing)?;
        statement
            .query_row([run_id], |row| Ok(Signed { document: row.get(0)?, signature: row.get(1)? }))
            .optional()
            .doing(doing)
    }
}

impl Transaction<'_> {
    /// Keeps the receipt of a run. One that is kept stays as it is.
    pub(crate) fn put_receipt(&mut self, run_id: &str, receipt: &Signed) -> Result<(), StoreError> {
        self.change()?;
        self.connection()
            .execute(
                "INSERT INTO receipts (run_id, document, signature) VALUES (?1, ?2, ?3) ON CONFLICT (run_id) DO NOTHING",
                (run_id, &receipt.document, &receipt.signature),
            )
            .doing("writing a receipt")
            .map(drop)
    }
}
