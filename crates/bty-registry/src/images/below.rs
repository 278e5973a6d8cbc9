//! Files of this machine that may be imported from.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::ImportProblem;

/// Opens a file that lies below one of these folders, whatever `..` and links it is reached by.
pub(super) fn open_below(folders: &[PathBuf], path: &Path) -> Result<std::fs::File, ImportProblem> {
    let outside = || {
        let allowed: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let allowed =
            if allowed.is_empty() { "none is set".to_owned() } else { allowed.join(", ") };
        ImportProblem::Outside { path: path.to_owned(), allowed }
    };
    let failed = |errno: rustix::io::Errno| ImportProblem::Open {
        path: path.to_owned(),
        source: errno.into(),
    };
    let below = folders.iter().find_map(|folder| Some((folder, path.strip_prefix(folder).ok()?)));
    let (folder, rest) =
        below.filter(|(_, rest)| !rest.as_os_str().is_empty()).ok_or_else(outside)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty()).map_err(failed)?;
    // NONBLOCK: opening a pipe must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(&folder, rest, flags, Mode::empty(), resolve);
    let file =
        opened.map_err(
            |errno| if errno == rustix::io::Errno::XDEV { outside() } else { failed(errno) },
        )?;
    let file = std::fs::File::from(file);
    let metadata =
        file.metadata().map_err(|source| ImportProblem::Open { path: path.to_owned(), source })?;
    if !metadata.is_file() {
        return Err(ImportProblem::NotAFile { path: path.to_owned() });
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use bty_types::ErrorKind;

    use super::*;

    #[test]
    fn neither_dots_nor_links_lead_out_of_the_folders() {
        let at = tempfile::tempdir().unwrap();
        let folder = at.path().join("images");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(at.path().join("secret"), "x").unwrap();
        fs::write(folder.join("sub/a.img"), "a").unwrap();
        symlink("../secret", folder.join("out")).unwrap();
        symlink(at.path(), folder.join("up")).unwrap();
        symlink("sub/a.img", folder.join("in")).unwrap();
        let folders = [folder.clone()];
        let open = |path: &str| {
            open_below(&folders, &folder.join(path)).map(drop).map_err(|problem| problem.kind())
        };
        assert_eq!(open("sub/a.img"), Ok(()));
        assert_eq!(open("in"), Ok(()));
        assert_eq!(open("sub/../sub/a.img"), Ok(()));
        for path in ["../secret", "sub/../../secret", "out", "up/secret", "/etc/passwd", ""] {
            assert_eq!(open(path), Err(ErrorKind::Denied), "{path}");
        }
        assert_eq!(open("absent"), Err(ErrorKind::NotFound));
        assert_eq!(open("sub"), Err(ErrorKind::InvalidInput));
        assert_eq!(open_below(&[], &folder.join("in")).unwrap_err().kind(), ErrorKind::Denied);
    }
}
