//! The folder that is served, and the memory of what was read from it.
//!
//! Everything here may block on a disk, so it is called off the runtime.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bty_service::open_beneath;

use crate::{file_name::FileName, settings::Settings};

/// Files up to this size are read whole and kept; larger ones are read as they are sent.
const MAX_KEPT_BYTES: u64 = 4 << 20;

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// There is no such regular file.
    #[error("no such file")]
    Absent,
    /// It is larger than the settings allow.
    #[error("the file has {size_bytes} bytes, more than max_file_bytes allows")]
    TooLarge {
        /// Its size.
        size_bytes: u64,
    },
    /// The machine can't read it.
    #[error("the file can't be read")]
    Unreadable(#[source] io::Error),
}

/// The folder. It is opened for each request, so it may come later than the daemon, or be replaced by an upgrade.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    max_file_bytes: u64,
    kept: Mutex<Kept>,
}

/// A file that is being served, as it was when it was asked for.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// In memory.
    Kept(Arc<[u8]>),
    /// Too large for that.
    Open(Arc<File>, u64),
}

impl Content {
    /// The size of the file.
    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::Kept(content) => content.len() as u64,
            Self::Open(_, size_bytes) => *size_bytes,
        }
    }
}

impl Folder {
    /// The folder of the settings.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            root: settings.root.clone(),
            max_file_bytes: settings.max_file_bytes,
            kept: Mutex::new(Kept::new(settings.cache_bytes)),
        }
    }

    /// Opens a file by its name, or by its name in lower case.
    pub(crate) fn open(&self, name: &FileName) -> Result<Content, OpenError> {
        match self.open_exactly(name) {
            Err(OpenError::Absent) => match name.lower_case() {
                Some(lower) => self.open_exactly(&lower),
                None => Err(OpenError::Absent),
            },
            opened => opened,
        }
    }

    fn open_exactly(&self, name: &FileName) -> Result<Content, OpenError> {
        let file = self.open_beneath(name)?;
        let found = file.metadata().map_err(OpenError::Unreadable)?;
        if !found.is_file() {
            return Err(OpenError::Absent);
        }
        let size_bytes = found.len();
        if size_bytes > self.max_file_bytes {
            return Err(OpenError::TooLarge { size_bytes });
        }
        if size_bytes > MAX_KEPT_BYTES {
            return Ok(Content::Open(Arc::new(file), size_bytes));
        }
        let version = Version::of(&found);
        if let Some(content) = self.lock().get(version) {
            return Ok(Content::Kept(content));
        }
        let mut content = vec![0; usize::try_from(size_bytes).unwrap_or(0)];
        file.read_exact_at(&mut content, 0).map_err(OpenError::Unreadable)?;
        let content: Arc<[u8]> = content.into();
        self.lock().put(version, Arc::clone(&content));
        Ok(Content::Kept(content))
    }

    fn open_beneath(&self, name: &FileName) -> Result<File, OpenError> {
        let opened = open_beneath(&self.root, name.as_str()).map_err(OpenError::Unreadable)?;
        opened.ok_or(OpenError::Absent)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Nothing panics while it holds this lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One version of one file: what is replaced or written to gets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Version {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size_bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Content in memory, the least recently used dropped first.
#[derive(Debug)]
struct Kept {
    files: HashMap<Version, (u64, Arc<[u8]>)>,
    bytes: u64,
    capacity_bytes: u64,
    uses: u64,
}

impl Kept {
    fn new(capacity_bytes: u64) -> Self {
        Self { files: HashMap::new(), bytes: 0, capacity_bytes, uses: 0 }
    }

    fn get(&mut self, version: Version) -> Option<Arc<[u8]>> {
        self.uses += 1;
        let (used, content) = self.files.get_mut(&version)?;
        *used = self.uses;
        Some(Arc::clone(content))
    }

    fn put(&mut self, version: Version, content: Arc<[u8]>) {
        if version.size_bytes > self.capacity_bytes {
            return;
        }
        self.uses += 1;
        if self.files.insert(version, (self.uses, content)).is_none() {
            self.bytes += version.size_bytes;
        }
        while self.bytes > self.capacity_bytes {
            let oldest =
                self.files.iter().min_by_key(|(_, (used, _))| *used).map(|(version, _)| *version);
            let Some(oldest) = oldest else { break };
            self.files.remove(&oldest);
            self.bytes -= oldest.size_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn served(max_file_bytes: u64, cache_bytes: u64) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("x64")).unwrap();
        fs::write(root.join("x64/snponly.efi"), "MZ").unwrap();
        let settings = Settings { root, max_file_bytes, cache_bytes, ..Settings::default() };
        (dir, Folder::new(&settings))
    }

    fn read(folder: &Folder, name: &str) -> Result<Vec<u8>, OpenError> {
        let content = folder.open(&FileName::parse(name.as_bytes()).unwrap())?;
        match content {
            Content::Kept(content) => Ok(content.to_vec()),
            Content::Open(file, size_bytes) => {
                let mut content = vec![0; usize::try_from(size_bytes).unwrap()];
                file.read_exact_at(&mut content, 0).unwrap();
                Ok(content)
            }
        }
    }

    #[test]
    fn a_file_is_found_in_either_case() {
        let (_dir, folder) = served(100, 100);
        assert_eq!(read(&folder, "x64/snponly.efi").unwrap(), b"MZ");
        assert_eq!(read(&folder, "\\X64\\SNPONLY.EFI").unwrap(), b"MZ");
        assert!(matches!(read(&folder, "x64/absent"), Err(OpenError::Absent)));
    }

    #[test]
    fn nothing_but_regular_files_is_served() {
        let (dir, folder) = served(100, 100);
        symlink("x64/snponly.efi", dir.path().join("root/link")).unwrap();
        for name in ["link", "x64", "x64/snponly.efi/x"] {
            assert!(matches!(read(&folder, name), Err(OpenError::Absent)), "{name}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let (_dir, folder) = served(1, 100);
        let refused = read(&folder, "x64/snponly.efi");
        assert!(matches!(refused, Err(OpenError::TooLarge { size_bytes: 2 })));
    }

    #[test]
    fn a_replaced_file_is_served_new() {
        let (dir, folder) = served(100, 100);
        assert_eq!(read(&folder, "x64/snponly.efi").unwrap(), b"MZ");
        let path = dir.path().join("root/x64/snponly.efi");
        fs::write(dir.path().join("new"), "ZM").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(read(&folder, "x64/snponly.efi").unwrap(), b"ZM");
    }

    #[test]
    fn memory_is_bounded_and_the_least_recently_used_goes_first() {
        let (dir, folder) = served(100, 10);
        for name in ["a", "b", "c"] {
            fs::write(dir.path().join("root").join(name), [b'x'; 4]).unwrap();
        }
        for name in ["a", "b", "a", "c"] {
            read(&folder, name).unwrap();
        }
        let kept = folder.lock();
        assert_eq!((kept.bytes, kept.files.len()), (8, 2));
        let mut uses: Vec<_> = kept.files.values().map(|(used, _)| *used).collect();
        uses.sort_unstable();
        assert!(uses[0] > 2, "b went, a and c stayed: {uses:?}");
    }
}
