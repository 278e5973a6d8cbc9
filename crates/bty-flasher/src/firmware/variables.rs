//! The firmware's variables, as the kernel shows them (efivarfs: Documentation/filesystems/efivarfs.rst).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{IFlags, ioctl_getflags, ioctl_setflags},
    mount::{MountFlags, mount},
};

use super::choose::Known;
use crate::drivers;

/// Where they are shown.
const FOLDER: &str = "/sys/firmware/efi/efivars";
/// Whose variables: UEFI's own (`EFI_GLOBAL_VARIABLE`).
const VENDOR: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Kept without power, for boot and run time: what all that are written here are.
const ATTRIBUTES: [u8; 4] = 7_u32.to_le_bytes();
/// The longest variable that is believed.
const MOST_BYTES: u64 = 16 * 1024;
/// The most files that are looked at.
const MOST_FILES: usize = 4096;

/// Access to them.
#[derive(Debug)]
pub(super) struct Variables {
    folder: PathBuf,
}

/// What goes wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum VariablesError {
    /// The kernel shows none.
    #[error("the kernel does not show the firmware's variables ({what})")]
    Hidden { what: &'static str, source: io::Error },
    /// Looking at them.
    #[error("reading the firmware's variables")]
    List(#[source] io::Error),
    /// There are more than is believed, so it isn't known which entries there are.
    #[error("the firmware has more than {MOST_FILES} variables")]
    Many,
    /// Reading one that is there.
    #[error("reading the firmware's variable {name}")]
    Read { name: String, source: io::Error },
    /// Writing one.
    #[error("writing the firmware's variable {name}")]
    Write { name: String, source: io::Error },
    /// The firmware's flash is full.
    #[error(
        "the firmware has no room for the variable {name}: remove boot entries that nobody needs"
    )]
    Full { name: String },
    /// The firmware took it and has something else.
    #[error(
        "the firmware did not keep its variable {name}: is it write-protected, or its flash worn out?"
    )]
    NotKept { name: String },
    /// Removing one.
    #[error("removing the firmware's variable {name}")]
    Remove { name: String, source: io::Error },
}

impl Variables {
    /// The variables of this machine's firmware.
    pub(super) fn of_firmware() -> Result<Self, VariablesError> {
        let hidden = |what| move |source| VariablesError::Hidden { what, source };
        drivers::load("efivarfs").map_err(hidden("loading efivarfs"))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        match mount("efivarfs", FOLDER, "efivarfs", flags, None) {
            // It is mounted already.
            Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(Self { folder: FOLDER.into() }),
            Err(problem) => Err(hidden("mounting efivarfs")(problem.into())),
        }
    }

    /// What is there of booting.
    pub(super) fn known(&self) -> Result<Known, VariablesError> {
        let mut known = Known::default();
        for (count, entry) in fs::read_dir(&self.folder).map_err(VariablesError::List)?.enumerate()
        {
            if count >= MOST_FILES {
                return Err(VariablesError::Many);
            }
            let name = entry.map_err(VariablesError::List)?.file_name();
            let Some(number) = name.to_str().and_then(number) else { continue };
            // One that can't be read is there all the same.
            let content = self.read(&entry_name(number)).ok().flatten();
            known.entries.insert(number, content.unwrap_or_default());
        }
        // These are judged by what is in them: unread they would look as if nothing was.
        let units = |name| Ok(self.read(name)?.map(|bytes| units(&bytes)).unwrap_or_default());
        known.order = units("BootOrder")?;
        known.current = units("BootCurrent")?.first().copied();
        Ok(known)
    }

    /// Makes a variable that isn't there, and looks whether it was kept.
    pub(super) fn create(&self, name: &str, content: &[u8]) -> Result<(), VariablesError> {
        self.put(name, content, OpenOptions::new().write(true).create_new(true))
    }

    /// Writes a variable, where it isn't so already, and looks whether it was kept. What can't be read is not written over.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), VariablesError> {
        if self.read(name)?.as_deref() == Some(content) {
            return Ok(());
        }
        self.put(name, content, OpenOptions::new().write(true).create(true).truncate(false))
    }

    fn put(&self, name: &str, content: &[u8], options: &OpenOptions) -> Result<(), VariablesError> {
        let path = self.path(name);
        let written = make_mutable(&path).and_then(|()| {
            let mut file = options.open(&path)?;
            // In one piece: each write is a call of the firmware.
            let bytes = [&ATTRIBUTES[..], content].concat();
            if file.write(&bytes)? == bytes.len() {
                Ok(())
            } else {
                Err(io::ErrorKind::WriteZero.into())
            }
        });
        let name = name.to_owned();
        match written {
            Err(problem) if problem.kind() == io::ErrorKind::StorageFull => {
                Err(VariablesError::Full { name })
            }
            Err(source) => Err(VariablesError::Write { name, source }),
            Ok(()) if self.read(&name)?.as_deref() != Some(content) => {
                Err(VariablesError::NotKept { name })
            }
            Ok(()) => Ok(()),
        }
    }

    /// Removes a variable; one that isn't there is removed.
    pub(super) fn remove(&self, name: &str) -> Result<(), VariablesError> {
        let path = self.path(name);
        match make_mutable(&path).and_then(|()| fs::remove_file(&path)) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
                Err(VariablesError::Remove { name: name.to_owned(), source: problem })
            }
            _ => Ok(()),
        }
    }

    /// A variable's content; `None` where it isn't there.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VariablesError> {
        let mut bytes = Vec::new();
        let read = File::open(self.path(name))
            .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
        let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        let content = match (read, bytes.split_at_checked(ATTRIBUTES.len())) {
            (Err(problem), _) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
            // So the kernel shows one that the firmware does not have.
            (Ok(0), _) => return Ok(None),
            (Err(problem), _) => Err(problem),
            (Ok(count), _) if count as u64 > MOST_BYTES => wrong("it is too long"),
            (Ok(_), None) => wrong("it is too short"),
            (Ok(_), Some((_, content))) => Ok(content.to_vec()),
        };
        content.map(Some).map_err(|source| VariablesError::Read { name: name.to_owned(), source })
    }

    /// Variables that are files in a folder.
    #[cfg(test)]
    pub(super) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-{VENDOR}"))
    }
}

/// The name of an entry's variable.
pub(super) fn entry_name(number: u16) -> String {
    format!("Boot{number:04X}")
}

/// The number in the name of an entry's file.
fn number(file: &str) -> Option<u16> {
    let digits = file.strip_prefix("Boot")?.strip_suffix(VENDOR)?.strip_suffix('-')?;
    let is_spelled =
        digits.len() == 4 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
    u16::from_str_radix(digits, 16).ok().filter(|_| is_spelled)
}

/// Numbers of entries as variables hold them.
pub(super) fn units(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect()
}

/// Against `rm -rf`, the kernel shows most variables as files that can't be changed.
fn make_mutable(path: &Path) -> io::Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    // A file system without such flags needs none.
    let Ok(flags) = ioctl_getflags(&file) else { return Ok(()) };
    if flags.contains(IFlags::IMMUTABLE) {
        ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Variables) {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let bytes = [&ATTRIBUTES[..], content].concat();
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let variables = Variables { folder: folder.path().to_owned() };
        (folder, variables)
    }

    fn named(name: &str) -> String {
        format!("{name}-{VENDOR}")
    }

    #[test]
    fn entries_order_and_current_are_read_and_nothing_else() {
        let long = vec![0; 20_000];
        let (_folder, variables) = variables(&[
            (&named("Boot0000"), b"one"),
            (&named("Boot00AF"), b"two"),
            (&named("Boot0003"), &long),
            (&named("Boot00af"), b"spelled wrong"),
            (&named("BootNext"), &[1, 0]),
            (&named("BootOrder"), &[0xaf, 0, 0, 0, 9]),
            (&named("BootCurrent"), &[0xaf, 0]),
            ("Boot0007-00000000-0000-0000-0000-000000000000", b"a vendor's"),
        ]);
        let entries =
            [(0, b"one".to_vec()), (0xaf, b"two".to_vec()), (3, Vec::new())].into_iter().collect();
        let want = Known { entries, order: vec![0xaf, 0], current: Some(0xaf) };
        assert_eq!(variables.known().unwrap(), want);
    }

    #[test]
    fn what_can_not_be_read_is_not_taken_for_nothing() {
        let long = vec![0; 20_000];
        for name in ["BootOrder", "BootCurrent"] {
            let (folder, variables) = variables(&[(&named(name), &long)]);
            let problem = variables.known().unwrap_err();
            assert!(matches!(problem, VariablesError::Read { .. }), "{name}: {problem}");
            assert!(variables.write(name, &[1, 0]).is_err(), "{name} is written over");
            let file = folder.path().join(named(name));
            assert_eq!(fs::metadata(file).unwrap().len(), 20_004);
        }
        let (folder, variables) = variables(&[(&named("BootOrder"), &[])]);
        fs::write(folder.path().join(named("BootOrder")), [7, 0]).unwrap();
        assert!(variables.known().is_err(), "no attributes");
        fs::write(folder.path().join(named("BootOrder")), []).unwrap();
        assert_eq!(variables.known().unwrap(), Known::default(), "the kernel's way to show none");
    }

    #[test]
    fn where_not_all_variables_are_seen_no_entry_counts_as_free() {
        let (folder, variables) = variables(&[]);
        for number in 0..MOST_FILES {
            fs::write(folder.path().join(format!("x{number}")), []).unwrap();
        }
        assert_eq!(variables.known().unwrap(), Known::default());
        fs::write(folder.path().join("last"), []).unwrap();
        assert!(matches!(variables.known(), Err(VariablesError::Many)));
    }

    #[test]
    fn a_new_variable_takes_the_place_of_none() {
        let (folder, variables) = variables(&[(&named("Boot0001"), b"a system's")]);
        let file = |name| fs::read(folder.path().join(named(name))).unwrap();
        let problem = variables.create("Boot0001", b"ours").unwrap_err();
        assert!(matches!(problem, VariablesError::Write { .. }), "{problem}");
        assert_eq!(file("Boot0001"), b"\x07\0\0\0a system's");
        variables.create("Boot0002", b"ours").unwrap();
        assert_eq!(file("Boot0002"), b"\x07\0\0\0ours");
    }

    #[test]
    fn a_variable_is_written_with_its_attributes_and_removed() {
        let (folder, variables) = variables(&[]);
        variables.write("BootNext", &[4, 0]).unwrap();
        let file = folder.path().join(named("BootNext"));
        assert_eq!(fs::read(&file).unwrap(), [7, 0, 0, 0, 4, 0]);
        variables.remove("BootNext").unwrap();
        assert!(!file.exists());
        variables.remove("BootNext").unwrap();
    }

    #[test]
    fn what_is_so_already_is_not_written() {
        let (folder, variables) = variables(&[(&named("BootNext"), &[4, 0])]);
        let file = folder.path().join(named("BootNext"));
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        variables.write("BootNext", &[4, 0]).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn what_was_not_kept_is_an_error() {
        // A plain file keeps the end of what was there, which is what a firmware's fault looks like from here.
        let (_folder, variables) = variables(&[(&named("BootNext"), &[4, 0, 9, 9])]);
        let problem = variables.write("BootNext", &[5, 0]).unwrap_err();
        assert!(matches!(problem, VariablesError::NotKept { .. }), "{problem}");
    }
}
