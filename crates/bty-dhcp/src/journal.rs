//! Leases on disk: a text file to which each change is appended, and which is on disk before the change is told to a client.
//!
//! Each line begins with a checksum of the rest, so that the line which a power cut tears is known for what it is. At a start
//! and when the file has grown, it is written anew beside the old one and renamed over it.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::engine::{Lease, LeaseChange};

/// The first line of a journal.
const HEADER: &str = "bty-dhcp leases 1";
/// Lines that may be appended before the file is written anew.
const APPENDED_LINES: usize = 20_000;
/// The file grows by so many zeros at a time, so that most changes alter nothing but the file's content: its new length would have to
/// be on disk too, which costs as much again.
const GROWS_BY: u64 = 256 << 10;
/// Characters of a line's checksum.
const CHECKSUM_CHARACTERS: usize = 8;

/// What can go wrong with the journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// A file can't be read or written.
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// It is not a journal that we know.
    #[error("{} is not a journal of leases that this version reads; move it away to start anew", .0.display())]
    Foreign(PathBuf),
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    appended: usize,
    /// Where the next line goes, and how long the file is.
    end: u64,
    length: u64,
}

/// What a journal held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) changes: Vec<LeaseChange>,
    /// Lines that are not what was written, but for a torn last one.
    pub(crate) damaged_lines: usize,
}

impl Journal {
    /// Reads a journal; one that isn't there holds nothing.
    pub(crate) fn read(path: &Path) -> Result<Held, JournalError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(Held::default()),
            Err(source) => return Err(JournalError::io("reading", path, source)),
        };
        parse(&String::from_utf8_lossy(&bytes))
            .ok_or_else(|| JournalError::Foreign(path.to_owned()))
    }

    /// Writes a journal with these changes in place of what is there.
    pub(crate) fn create(path: &Path, changes: &[LeaseChange]) -> Result<Self, JournalError> {
        let fresh = path.with_extension("new");
        let mut text = format!("{HEADER}\n");
        text.extend(changes.iter().map(line));
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, path)?;
            // The rename itself is on disk only with its folder.
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok(file)
        };
        let file = write().map_err(|source| JournalError::io("writing", path, source))?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        Ok(Self { path: path.to_owned(), file, appended: 0, end: length, length })
    }

    /// Appends changes and returns when they are on disk.
    pub(crate) fn append<'c>(
        &mut self,
        changes: impl IntoIterator<Item = &'c LeaseChange>,
    ) -> Result<(), JournalError> {
        let mut text = String::new();
        for change in changes {
            text.push_str(&line(change));
            self.appended += 1;
        }
        let written = self.write(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| {
            // Half a line may be there now: whatever comes next must not be glued to it.
            self.appended = APPENDED_LINES;
            JournalError::io("appending to", &self.path, source)
        })
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let end = self.end + u64::try_from(text.len()).unwrap_or(u64::MAX);
        if end > self.length {
            let zeros = vec![0; usize::try_from(GROWS_BY).unwrap_or_default()];
            // A disk that is nearly full has room for the changes all the same.
            let has_grown = self.file.write_all_at(&zeros, end).is_ok();
            self.length = if has_grown { end + GROWS_BY } else { end };
        }
        self.file.write_all_at(text, self.end)?;
        self.end = end;
        Ok(())
    }

    /// Whether it is time to write it anew.
    pub(crate) fn is_long(&self) -> bool {
        self.appended >= APPENDED_LINES
    }

    /// Writes it anew, with these changes alone.
    pub(crate) fn compact(&mut self, changes: &[LeaseChange]) -> Result<(), JournalError> {
        *self = Self::create(&self.path, changes)?;
        Ok(())
    }
}

impl JournalError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}

/// `None` where the text is of something else. An empty file is what a power cut may leave of a first start.
fn parse(text: &str) -> Option<Held> {
    let mut held = Held::default();
    let Some(rest) =
        text.strip_prefix(HEADER).filter(|rest| rest.is_empty() || rest.starts_with('\n'))
    else {
        return HEADER.starts_with(text).then_some(held);
    };
    for line in rest.split_inclusive('\n').skip(1) {
        match line.strip_suffix('\n').and_then(checked).and_then(change) {
            Some(change) => held.changes.push(change),
            None if line.ends_with('\n') => held.damaged_lines += 1,
            None => {} // The last one, torn and so never told to a client, or the zeros behind it.
        }
    }
    Some(held)
}

fn line(change: &LeaseChange) -> String {
    let mut rest = String::new();
    let _ = match change {
        LeaseChange::Bound(Lease { address, mac, expires_at, hostname }) => {
            write!(rest, "bound {address} {mac} {} {hostname}", seconds(*expires_at))
        }
        LeaseChange::Freed(address) => write!(rest, "freed {address}"),
        LeaseChange::Declined { address, until } => {
            write!(rest, "declined {address} {}", seconds(*until))
        }
    };
    format!("{} {rest}\n", checksum(&rest))
}

fn checked(line: &str) -> Option<&str> {
    let (sum, rest) = line.split_once(' ')?;
    (sum == checksum(rest)).then_some(rest)
}

fn change(rest: &str) -> Option<LeaseChange> {
    let mut words = rest.splitn(5, ' ');
    let kind = words.next()?;
    let address: Ipv4Addr = words.next()?.parse().ok()?;
    match kind {
        "bound" => {
            let mac = words.next()?.parse().ok()?;
            let expires_at = time(words.next()?)?;
            let hostname = words.next()?.to_owned();
            Some(LeaseChange::Bound(Lease { address, mac, expires_at, hostname }))
        }
        "freed" => Some(LeaseChange::Freed(address)),
        "declined" => Some(LeaseChange::Declined { address, until: time(words.next()?)? }),
        _ => None,
    }
}

fn checksum(text: &str) -> String {
    let mut sum = blake3::hash(text.as_bytes()).to_hex().to_string();
    sum.truncate(CHECKSUM_CHARACTERS);
    sum
}

/// Whole seconds, rounded up, so that a lease never ends earlier than its client was told.
fn seconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() + u64::from(since.subsec_nanos() > 0)
}

fn time(word: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(word.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Vec<LeaseChange> {
        let at = UNIX_EPOCH + Duration::from_hours(500_000);
        let bound = |last: u8, hostname: &str| {
            LeaseChange::Bound(Lease {
                address: Ipv4Addr::new(10, 77, 0, last),
                mac: format!("52:54:00:77:00:{last:02x}").parse().unwrap(),
                expires_at: at + Duration::from_secs(last.into()),
                hostname: hostname.to_owned(),
            })
        };
        vec![
            bound(100, "node"),
            bound(101, ""),
            bound(102, "a name of words"),
            LeaseChange::Freed(Ipv4Addr::new(10, 77, 0, 101)),
            LeaseChange::Declined { address: Ipv4Addr::new(10, 77, 0, 103), until: at },
            bound(100, "node"),
        ]
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        assert_eq!(Journal::read(&path).unwrap(), Held::default());
        let mut journal = Journal::create(&path, &[]).unwrap();
        journal.append(&changes()[..2]).unwrap();
        journal.append(&changes()[2..]).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), Held { changes: changes(), damaged_lines: 0 });
        journal.compact(&changes()[4..]).unwrap();
        journal.append(&changes()[..1]).unwrap();
        let want = [&changes()[4..], &changes()[..1]].concat();
        assert_eq!(Journal::read(&path).unwrap().changes, want);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_journal_that_is_cut_at_any_byte_keeps_every_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        Journal::create(&path, &changes()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            let cut = &whole[..length];
            fs::write(&path, cut).unwrap();
            let lines = cut.split(|byte| *byte == b'\n').count() - 1;
            let want = &changes()[..lines.saturating_sub(1)];
            let held = Journal::read(&path).unwrap();
            assert_eq!((held.changes.as_slice(), held.damaged_lines), (want, 0), "{length} bytes");
            // And it goes on from there.
            let mut journal = Journal::create(&path, &held.changes).unwrap();
            journal.append(&changes()[..1]).unwrap();
            let again = Journal::read(&path).unwrap();
            assert_eq!(again.changes, [want, &changes()[..1]].concat(), "{length} bytes");
        }
    }

    #[test]
    fn a_damaged_line_is_left_out_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        Journal::create(&path, &changes()).unwrap();
        let text = fs::read_to_string(&path).unwrap().replacen("10.77.0.101 ", "10.77.0.111 ", 1);
        fs::write(&path, text).unwrap();
        let held = Journal::read(&path).unwrap();
        assert_eq!((held.changes.len(), held.damaged_lines), (5, 1));
    }

    #[test]
    fn another_file_is_not_taken_for_a_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        fs::write(&path, "bty-dhcp leases 2\n").unwrap();
        assert!(matches!(Journal::read(&path), Err(JournalError::Foreign(_))));
    }
}
