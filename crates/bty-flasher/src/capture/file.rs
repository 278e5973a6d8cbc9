//! A file that is there only when it is whole and on the disk. Until then it has no name, so that nothing is left whatever happens.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};

/// A file without a name, or, where the file system has no such files, with one that the next capture takes too.
#[derive(Debug)]
pub(crate) struct Unnamed {
    pub(crate) file: File,
    out: PathBuf,
    /// What it is called for the time being, where it has to be.
    called: Option<PathBuf>,
}

impl Unnamed {
    /// Begins the file that is to be `out`.
    pub(crate) fn begin(out: &Path) -> io::Result<Self> {
        if out.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(folder(out), flags, Mode::from_raw_mode(0o666));
        match file {
            Ok(file) => Ok(Self { file: file.into(), out: out.to_owned(), called: None }),
            // Not everything that is mounted has files without names (FAT, NFS).
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => Self::called(out),
            Err(problem) => Err(problem.into()),
        }
    }

    fn called(out: &Path) -> io::Result<Self> {
        let mut called = out.as_os_str().to_owned();
        called.push(".partial");
        let called = PathBuf::from(called);
        let mut options = File::options();
        // Not emptied before it is ours: another capture may write it.
        let file = options.read(true).write(true).create(true).truncate(false).open(&called)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    format!("another capture writes {}", called.display()),
                ));
            }
            locked => locked?,
        }
        let [ours, named] = [file.metadata()?, fs::metadata(&called)?];
        if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
            // The other capture ended between those two steps.
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        file.set_len(0)?;
        Ok(Self { file, out: out.to_owned(), called: Some(called) })
    }

    /// Gives it its name. When this returns, it keeps it through a power cut.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(called) = &self.called {
            match rustix::fs::renameat_with(CWD, called, CWD, &self.out, RenameFlags::NOREPLACE) {
                Err(rustix::io::Errno::INVAL) if !self.out.exists() => {
                    fs::rename(called, &self.out)?;
                }
                renamed => renamed?,
            }
            self.called = None;
        } else {
            let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, open, CWD, &self.out, AtFlags::SYMLINK_FOLLOW)?;
        }
        File::open(folder(&self.out))?.sync_all()
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(called) = &self.called {
            // Whatever keeps it from being removed is said by nobody: the first failure counts.
            let _ = fs::remove_file(called);
        }
    }
}

/// The folder that a file is in.
pub(crate) fn folder(out: &Path) -> &Path {
    out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_there_when_it_is_whole_and_replaces_none() {
        let at = tempfile::tempdir().unwrap();
        let out = at.path().join("out");
        for begin in [Unnamed::begin, Unnamed::called] {
            drop(begin(&out).unwrap());
            assert_eq!(names(at.path()), [""; 0]);
            let mut whole = begin(&out).unwrap();
            whole.file.write_all(b"whole").unwrap();
            whole.finish().unwrap();
            assert_eq!(fs::read(&out).unwrap(), b"whole");
            let problem = Unnamed::begin(&out).unwrap_err();
            assert_eq!(problem.kind(), io::ErrorKind::AlreadyExists);
            let problem = begin_late(begin, &out).finish().unwrap_err();
            assert_eq!(problem.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(names(at.path()), ["out"]);
            fs::remove_file(&out).unwrap();
        }
    }

    /// A capture that began before the file was there.
    fn begin_late(begin: fn(&Path) -> io::Result<Unnamed>, out: &Path) -> Unnamed {
        let aside = out.with_extension("aside");
        fs::rename(out, &aside).unwrap();
        let late = begin(out).unwrap();
        fs::rename(aside, out).unwrap();
        late
    }

    #[test]
    fn what_another_capture_writes_is_left_alone_and_what_one_left_is_taken() {
        let at = tempfile::tempdir().unwrap();
        let (out, called) = (at.path().join("out"), at.path().join("out.partial"));
        fs::write(&called, b"what a capture that was killed has left").unwrap();
        let mut first = Unnamed::called(&out).unwrap();
        first.file.write_all(b"first").unwrap();
        let problem = Unnamed::called(&out).unwrap_err();
        assert_eq!(problem.kind(), io::ErrorKind::ResourceBusy);
        assert!(problem.to_string().contains("another capture"), "{problem}");
        first.finish().unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"first");
        assert_eq!(names(at.path()), ["out"]);
    }
}
