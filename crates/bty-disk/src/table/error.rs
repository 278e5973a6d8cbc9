//! Why a table is not changed.

/// A table that was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// There is none.
    #[error("the disk has no partition table")]
    Absent,
    /// It contradicts itself.
    #[error("the partition table contradicts itself: {0}; it was left as it is")]
    Damaged(&'static str),
    /// It is of a sort that is not changed.
    #[error("{0}; it was left as it is")]
    Unsuited(&'static str),
    /// There is no room.
    #[error(
        "there is no room for {needs} bytes more behind the last partition (there are {free}): the disk is hardly larger than the image"
    )]
    NoRoom {
        /// What is needed, in bytes.
        needs: u64,
        /// What is free there, in bytes.
        free: u64,
    },
    /// All entries are taken.
    #[error("the partition table has no entry free for one more partition")]
    NoEntry,
}
