//! Where an export goes: standard output, or a file that gets its name when it is whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bty_image::is_zero;
use bty_types::ErrorKind;

use crate::failure::Failure;

/// Zeros of a disk that are left out of a file, so that they take no room, come in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;

/// Where an export goes. Dropping it removes what is not whole.
#[derive(Debug)]
pub(super) struct Sink(Option<Unfinished>);

/// A file that is not whole yet.
#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
    aside: PathBuf,
    file: File,
}

/// Writes in order.
#[derive(Debug)]
pub(super) enum Writer {
    /// Standard output.
    Stdout,
    /// The file, and how much of it is written.
    File(File, u64),
}

impl Sink {
    /// The file at `path`, or standard output for `-`.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self(None));
        }
        // What a link leads to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            let message = format!("{} is no regular file", path.display());
            return Err(Failure::new(ErrorKind::InvalidInput, message)
                .hint("a disk is written by bty-flasher write; - writes to standard output"));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!(".{name}.{}.unfinished", std::process::id()));
        let file = File::options().write(true).create_new(true).open(&aside);
        let file =
            file.map_err(|problem| Failure::io(&format!("making {}", path.display()), &problem))?;
        Ok(Self(Some(Unfinished { path, aside, file })))
    }

    /// Whether it is standard output.
    pub(super) fn is_stdout(&self) -> bool {
        self.0.is_none()
    }

    /// What writes to it.
    pub(super) fn writer(&self) -> Result<Writer, Failure> {
        let Some(Unfinished { path, file, .. }) = &self.0 else { return Ok(Writer::Stdout) };
        let file = file.try_clone();
        file.map(|file| Writer::File(file, 0))
            .map_err(|problem| Failure::io(&format!("writing {}", path.display()), &problem))
    }

    /// Gives the file its name.
    pub(super) fn keep(mut self) -> Result<(), Failure> {
        let Some(Unfinished { path, aside, file }) = self.0.take() else { return Ok(()) };
        let kept = file.sync_all().and_then(|()| fs::rename(&aside, &path));
        kept.map_err(|problem| {
            let _ = fs::remove_file(&aside);
            Failure::io(&format!("writing {}", path.display()), &problem)
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(Unfinished { aside, .. }) = &self.0 {
            // A thread may still be writing; what it writes goes with the last one that has the file open.
            let _ = fs::remove_file(aside);
        }
    }
}

impl Writer {
    /// Writes the next bytes of a disk.
    pub(super) fn write_disk(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(bytes),
            Self::File(file, at) => {
                for piece in bytes.chunks(PIECE_BYTES) {
                    if !is_zero(piece) {
                        file.write_all_at(piece, *at)?;
                    }
                    *at += u64::try_from(piece.len()).unwrap_or_default();
                }
                Ok(())
            }
        }
    }

    /// Writes the next bytes as they are.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(bytes),
            Self::File(file, at) => {
                file.write_all_at(bytes, *at)?;
                *at += u64::try_from(bytes.len()).unwrap_or_default();
                Ok(())
            }
        }
    }

    /// There is no more to write.
    pub(super) fn end(self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().flush(),
            // Zeros at the end are none until the file is so long.
            Self::File(file, at) => file.set_len(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_disk_is_written_with_holes_and_named_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        let mut disk = vec![0; 4 << 20];
        disk[1 << 20..(1 << 20) + 100].fill(7);
        let sink = Sink::open(&path).unwrap();
        let mut writer = sink.writer().unwrap();
        disk.chunks(300_000).for_each(|piece| writer.write_disk(piece).unwrap());
        writer.end().unwrap();
        assert!(!path.exists(), "it has its name before it is whole");
        sink.keep().unwrap();
        assert!(fs::read(&path).unwrap() == disk, "another disk was written");
        let blocks = fs::metadata(&path).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{blocks} blocks for a few bytes");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_whole_leaves_nothing_and_harms_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        fs::write(&path, "old").unwrap();
        let sink = Sink::open(&path).unwrap();
        sink.writer().unwrap().write(b"new").unwrap();
        drop(sink);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("disk.img"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink("disk.img", &link).unwrap();
        let sink = Sink::open(&link).unwrap();
        sink.writer().unwrap().write(b"new").unwrap();
        sink.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn only_regular_files_are_written() {
        for path in ["/dev/null", "/"] {
            let refusal = Sink::open(Path::new(path)).unwrap_err();
            assert_eq!(refusal.kind(), ErrorKind::InvalidInput, "{path}");
        }
    }
}
