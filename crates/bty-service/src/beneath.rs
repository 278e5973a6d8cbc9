//! Opening files beneath a folder that is served to strangers: no name and no link leads out of it.

use std::{fs::File, io, path::Path};

use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, open, openat},
    io::Errno,
};

/// Opens a regular file, socket, FIFO or folder beneath `folder` for reading; `None` where there is nothing of that name, or a
/// link is part of the way. `path` is relative, with `/` between its parts. Never waits for a FIFO's writer.
///
/// Goes from part to part itself: openat2(2), which the kernel has for this, is not allowed to units with
/// `RestrictSUIDSGID=` (systemd.exec(5)). Links are not followed, because one that points out of the folder would be a way out,
/// and one that doesn't is not needed.
pub fn open_beneath(folder: &Path, path: &str) -> io::Result<Option<File>> {
    match walk(folder, path) {
        Ok(file) => Ok(Some(File::from(file))),
        // LOOP: a link; NXIO: a socket or a FIFO.
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::NXIO
            | Errno::NAMETOOLONG
            | Errno::INVAL,
        ) => Ok(None),
        Err(problem) => Err(problem.into()),
    }
}

fn walk(folder: &Path, path: &str) -> Result<OwnedFd, Errno> {
    let along = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let last = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut at = open(folder, along, Mode::empty())?;
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in folders.split('/').filter(|_| !folders.is_empty()) {
        at = openat(&at, plain(part)?, along | OFlags::NOFOLLOW, Mode::empty())?;
    }
    openat(&at, plain(name)?, last | OFlags::NOFOLLOW, Mode::empty())
}

/// A name of something in a folder, and not the folder itself or the one above.
fn plain(part: &str) -> Result<&str, Errno> {
    if part.is_empty() || part == "." || part == ".." { Err(Errno::NOENT) } else { Ok(part) }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::fs::symlink};

    use proptest::prelude::*;

    use super::*;

    /// A folder with a file in a folder, beside a secret, with links of every kind.
    fn served() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("x64")).unwrap();
        fs::write(root.join("x64/file"), "good").unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink("x64/file", root.join("inner")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("/", root.join("all")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), Mode::from(0o644)).unwrap();
        dir
    }

    fn read(dir: &tempfile::TempDir, path: &str) -> Option<String> {
        let mut text = String::new();
        let mut file = open_beneath(&dir.path().join("root"), path).unwrap()?;
        file.metadata().unwrap().is_file().then(|| file.read_to_string(&mut text).unwrap())?;
        Some(text)
    }

    #[test]
    fn a_file_is_found_and_nothing_else_is() {
        let dir = served();
        assert_eq!(read(&dir, "x64/file").as_deref(), Some("good"));
        for path in [
            "",
            "/",
            ".",
            "..",
            "x64",
            "x64/",
            "/x64/file",
            "x64//file",
            "./x64/file",
            "x64/../x64/file",
            "../secret",
            "link",
            "inner",
            "up/secret",
            "all/etc/passwd",
            "x64/file/x",
            "fifo",
            "x64/absent",
            "a\0b",
        ] {
            assert_eq!(read(&dir, path), None, "{path:?}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_an_error_and_an_absent_one_is_empty() {
        let dir = served();
        assert!(open_beneath(&dir.path().join("absent"), "x").unwrap().is_none());
        assert!(open_beneath(&dir.path().join("secret"), "x").unwrap().is_none());
    }

    proptest! {
        #[test]
        fn no_path_leads_out(path in "(\\.|\\.\\.|/|up|all|link|x64|secret|file|root){0,12}") {
            let dir = served();
            prop_assert_ne!(read(&dir, &path), Some("secret".to_owned()));
        }
    }
}
