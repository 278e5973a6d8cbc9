//! Opening the file, and what may go wrong with it.

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bty_types::ErrorKind;
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

/// `bty1`, so that file(1) and we know the file for what it is.
const APPLICATION_ID: i32 = 0x6274_7931;
/// Landed migrations are never edited; a change is a new one.
const STEPS: &[M<'static>] = &[
    M::up(include_str!("schema_0001.sql")),
    M::up(include_str!("schema_0002.sql")),
    M::up(include_str!("schema_0003.sql")),
    M::up(include_str!("schema_0004.sql")),
    M::up(include_str!("schema_0005.sql")),
    M::up(include_str!("schema_0006.sql")),
    M::up(include_str!("schema_0007.sql")),
    M::up(include_str!("schema_0008.sql")),
];
const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);
/// How many there are.
const VERSION: i64 = 8;
/// How long a connection waits for another's lock. Only a backup tool beside us would hold one for long.
const BUSY: Duration = Duration::from_secs(5);

/// Why the database can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// It can't be opened.
    #[error("opening the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// It can't be made or written.
    #[error("opening the database {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It was made by a newer bty.
    #[error(
        "the database {} has version {found}, made by a newer bty than this one, which knows {VERSION}; it was not touched: \
         install the newer version again, or restore a backup",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// It is some other program's.
    #[error("{} is a database of another program; it was not touched: choose another --state-dir", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It can't be brought to this version.
    #[error("upgrading the database {}", path.display())]
    Upgrade {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rusqlite_migration::Error,
    },
    /// The thread that writes can't be started.
    #[error("starting the thread that writes the database")]
    Thread(#[source] std::io::Error),
    /// A statement failed.
    #[error("{doing}")]
    Statement {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// A row holds what this program would not have written.
    #[error("the database holds {what} {value:?}, which this version does not understand")]
    Row {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// The group of changes that this one was part of could not be committed.
    #[error("writing to the database: {0}")]
    Commit(String),
    /// There is no room.
    #[error(
        "the disk that holds the database is full; nothing of this change was kept: make room, and try again"
    )]
    Full,
    /// The daemon ends.
    #[error("the registry is shutting down")]
    Closed,
    /// A reading or writing job panicked.
    #[error("a job in the database failed; the log says more")]
    Job,
}

impl StoreError {
    /// Why a group of changes was not committed.
    pub(super) fn uncommitted(problem: &rusqlite::Error) -> Self {
        if problem.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            return Self::Full;
        }
        Self::Commit(problem.to_string())
    }

    /// The same once more, for everybody else whom it concerns.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Full => Self::Full,
            Self::Commit(why) => Self::Commit(why.clone()),
            other => Self::Commit(bty_api::status::chain(other)),
        }
    }

    /// What kind of failure this is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Newer { .. } | Self::Foreign { .. } => ErrorKind::Precondition,
            Self::Closed => ErrorKind::Unavailable,
            Self::Full => ErrorKind::Exhausted,
            Self::Statement { source, .. } | Self::Open { source, .. } => {
                match source.sqlite_error_code() {
                    Some(rusqlite::ErrorCode::DiskFull) => ErrorKind::Exhausted,
                    Some(
                        rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase,
                    ) => ErrorKind::Corrupt,
                    _ => ErrorKind::Internal,
                }
            }
            Self::Row { .. } => ErrorKind::Corrupt,
            Self::Create { .. }
            | Self::Upgrade { .. }
            | Self::Thread(_)
            | Self::Commit(_)
            | Self::Job => ErrorKind::Internal,
        }
    }
}

/// An error of a job, which may be the database's.
pub(crate) trait JobError: From<StoreError> {
    /// The database's, where it is.
    fn of_store(&self) -> Option<&StoreError>;
}

impl JobError for StoreError {
    fn of_store(&self) -> Option<&StoreError> {
        Some(self)
    }
}

/// Names what was being done when a statement failed.
pub(super) trait Doing<T> {
    /// The same result, with what was being done.
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
            _ => StoreError::Statement { doing, source },
        })
    }
}

/// Opens the file for the writer, making or upgrading it.
pub(super) fn read_write(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    // Only we read it; the folder is open to bty-httpd, which reads images. SQLite gives its log the same mode.
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::Create { path: path.to_owned(), source })?;
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    // Before anything is written, even the journal mode: a database that isn't ours stays as it is.
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let found = number("user_version").map_err(failed)?;
    let application = number("application_id").map_err(failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    if tables > 0 && application != i64::from(APPLICATION_ID) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if found > VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found });
    }
    if application != i64::from(APPLICATION_ID) {
        connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    // FULL: an appliance must not forget after a power cut that a disk was written.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    harden(&connection).map_err(failed)?;
    MIGRATIONS
        .to_latest(&mut connection)
        .map_err(|source| StoreError::Upgrade { path: path.to_owned(), source })?;
    Ok(connection)
}

/// Opens the file for a reader.
pub(super) fn read_only(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    harden(&connection).map_err(failed)?;
    connection.pragma_update(None, "query_only", true).map_err(failed)?;
    Ok(connection)
}

fn harden(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // KiB, as a negative number says: enough for what a lab has, and little per connection.
    connection.pragma_update(None, "cache_size", -1024)
}

#[cfg(test)]
mod tests {
    use bty_types::{BootChain, BootEntry, ImageId, MacAddr};

    use super::*;
    use crate::{record::Machine, rules::Rules, store::Snapshot};

    #[test]
    fn the_migrations_are_valid_and_counted() {
        assert_eq!(MIGRATIONS.validate(), Ok(()));
        let mut connection = Connection::open_in_memory().unwrap();
        MIGRATIONS.to_latest(&mut connection).unwrap();
        let version: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, VERSION);
    }

    #[test]
    fn the_boot_whose_agent_checked_in_is_taken_from_the_latest_run() {
        let mut connection = Connection::open_in_memory().unwrap();
        MIGRATIONS.to_version(&mut connection, 3).unwrap();
        let machine = |mac, run| {
            format!(
                "INSERT INTO machines (mac, policy, generation, first_seen, address, stage, finished_generation, attempts, \
                 attempt_paths, revision, run_id) VALUES ('{mac}', 'local', 1, 0, '', 0, 0, 0, '', 1, {run});"
            )
        };
        let run = "INSERT INTO runs (id, mac, boot_id, action, generation, state, image_id, image, disk_selector, started_at, \
                   heard_at, check_ins, percent, failure_message, agent_log, kernel_log, fetched_bytes, written_bytes, \
                   zeroed_bytes, elapsed_ms, revision) \
                   VALUES ('r1', 'a', 'b1', 'flash', 1, 'lost', '', '', '', 0, 0, 1, 0, '', '', '', 0, 0, 0, 0, 1);";
        connection
            .execute_batch(&format!("{run}{}{}", machine("a", "'r1'"), machine("b", "NULL")))
            .unwrap();
        MIGRATIONS.to_latest(&mut connection).unwrap();
        let checked_in = |mac| -> Option<String> {
            let sql = "SELECT checked_in FROM machines WHERE mac = ?1";
            connection.query_row(sql, [mac], |row| row.get(0)).unwrap()
        };
        assert_eq!((checked_in("a").as_deref(), checked_in("b")), (Some("b1"), None));
    }

    #[test]
    fn a_name_counts_as_pointed_when_its_image_was_imported() {
        let mut connection = Connection::open_in_memory().unwrap();
        MIGRATIONS.to_version(&mut connection, 4).unwrap();
        connection
            .execute_batch(
                "INSERT INTO images VALUES ('i', 1, 1, 1, 65536, '', '', 'raw', 77, 'none', 0, 0, 0);
                 INSERT INTO image_names VALUES ('a:1', 'i');",
            )
            .unwrap();
        MIGRATIONS.to_latest(&mut connection).unwrap();
        let pointed_at: i64 = connection
            .query_row("SELECT pointed_at FROM image_names", [], |row| row.get(0))
            .unwrap();
        assert_eq!(pointed_at, 77);
    }

    #[test]
    fn what_an_older_bty_wrote_reads_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        MIGRATIONS.to_version(&mut connection, 5).unwrap();
        let (mac, image): (MacAddr, _) =
            ("52:54:00:77:00:01".parse().unwrap(), ImageId::new([7; 32]));
        connection
            .execute_batch(&format!(
                "INSERT INTO runs (id, mac, boot_id, action, generation, state, image_id, image, disk_selector, started_at, \
                 heard_at, check_ins, percent, failure_message, agent_log, kernel_log, proved_id, fetched_bytes, written_bytes, \
                 zeroed_bytes, elapsed_ms, revision) \
                 VALUES ('r1', '{mac}', 'b1', 'flash', 3, 'succeeded', '{image}', 'debian:13', 'only', 1000, 2000, 1, 100, '', \
                 '', '', '{image}', 11, 12, 13, 14, 9); \
                 INSERT INTO machines (mac, policy, generation, first_seen, address, stage, finished_generation, attempts, \
                 attempt_paths, run_id, chain, boot_entry, own_drivers, returns, restart_returns, checked_in, revision) \
                 VALUES ('{mac}', 'local', 3, 0, '', 0, 3, 0, '', 'r1', 'shim', 'off', 1, 5, 4, 'b1', 8);"
            ))
            .unwrap();
        MIGRATIONS.to_latest(&mut connection).unwrap();
        let rules = Rules::for_tests();
        let snapshot = Snapshot { connection: &connection, rules: &rules };

        let run = snapshot.run("r1").unwrap().unwrap();
        assert_eq!((run.percent, run.revision, run.image_id), (100, 9, Some(image)));
        assert_eq!((run.index_digest.as_str(), run.agent_version.as_str()), ("", ""));
        assert_eq!(run.progress, None);
        let record = run.record.unwrap();
        let counts = [record.fetched_bytes, record.written_bytes, record.zeroed_bytes];
        assert_eq!((counts, record.elapsed_ms, record.proved_id), ([11, 12, 13], 14, image));
        assert_eq!((record.next_boot, record.work, record.fix_ups), (None, None, Vec::new()));

        let Machine { intent, observed, revision, .. } = snapshot.machine(mac).unwrap().unwrap();
        assert_eq!(
            (intent.chain, intent.boot_entry),
            (Some(BootChain::Shim), Some(BootEntry::Off))
        );
        assert_eq!((intent.failing_disk_ok, intent.fix_ups, revision), (false, None, 8));
        assert_eq!((observed.way.own_drivers, observed.way.other_exit), (true, false));
        assert_eq!((observed.returns, observed.restart_returns), (5, 4));
        assert_eq!(observed.checked_in.as_deref(), Some("b1"));
        assert_eq!(snapshot.fix_ups(mac).unwrap(), None);
        assert_eq!(snapshot.receipt("r1").unwrap(), None);
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused_and_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        let connection = read_write(&path).unwrap();
        connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
        connection.close().unwrap();
        let before = std::fs::read(&path).unwrap();
        let problem = read_write(&path).unwrap_err();
        assert!(problem.to_string().contains("newer bty"), "{problem}");
        assert_eq!(problem.kind(), ErrorKind::Precondition);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_database_of_another_program_is_refused_and_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
        connection.close().unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(read_write(&path), Err(StoreError::Foreign { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert_eq!(read_write(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
