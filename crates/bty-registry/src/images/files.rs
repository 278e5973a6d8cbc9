//! The folder of the store.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bty_types::ImageId;
use uuid::Uuid;

use super::ImportProblem;

/// What the names of files begin with that are not whole yet.
const UNFINISHED: &str = ".import-";
/// What the names of images end with.
const SUFFIX: &str = ".img.zst";

/// The folder of the store.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// A file that is not whole yet. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) file: File,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder, making it where it is absent. Everybody may read it: bty-httpd serves from it.
    pub(crate) fn open(path: PathBuf) -> Result<Self, ImportProblem> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&path);
        made.map_err(ImportProblem::files(format!("making the image store {}", path.display())))?;
        Ok(Self(path))
    }

    /// Removes what imports left that did not end: unfinished files, and whole ones that are not on record. Returns the images
    /// that are on record without a file.
    pub(crate) fn sweep(
        &self,
        on_record: &HashSet<ImageId>,
    ) -> Result<Vec<ImageId>, ImportProblem> {
        let doing = || format!("reading the image store {}", self.0.display());
        let mut missing = on_record.clone();
        for entry in fs::read_dir(&self.0).map_err(ImportProblem::files(doing()))? {
            let entry = entry.map_err(ImportProblem::files(doing()))?;
            let name = entry.file_name();
            let is_left = match Self::id_of(&name) {
                Some(id) => !missing.remove(&id),
                None => Self::is_unfinished(&name),
            };
            if is_left {
                let name = name.to_string_lossy();
                tracing::warn!(file = %name, "a file that an import left was removed");
                let doing = format!("removing {name} from the image store");
                fs::remove_file(entry.path()).map_err(ImportProblem::files(doing))?;
            }
        }
        Ok(missing.into_iter().collect())
    }

    /// Where it is.
    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    /// Whose file is called so, where it is an image's.
    pub(super) fn id_of(file_name: &OsStr) -> Option<ImageId> {
        file_name.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
    }

    /// Whether a file that is not whole yet is called so.
    pub(super) fn is_unfinished(file_name: &OsStr) -> bool {
        file_name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
    }

    /// Where the file of an image is.
    pub(crate) fn path(&self, id: ImageId) -> PathBuf {
        self.0.join(format!("{}{SUFFIX}", id.hex()))
    }

    /// Whether the file of an image is there.
    pub(super) fn has(&self, id: ImageId) -> bool {
        self.path(id).is_file()
    }

    /// Begins a file.
    pub(super) fn begin(&self) -> Result<Unfinished, ImportProblem> {
        let path = self.0.join(format!("{UNFINISHED}{}", Uuid::now_v7()));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let doing = format!("making a file in the image store {}", self.0.display());
        Ok(Unfinished { file: file.map_err(ImportProblem::files(doing))?, path })
    }

    /// Gives a whole file its name. When this returns, it keeps it through a power cut.
    pub(super) fn place(&self, unfinished: &Unfinished, id: ImageId) -> Result<(), ImportProblem> {
        let doing = || format!("placing {id} in the image store");
        let place = || -> io::Result<()> {
            unfinished.file.set_permissions(fs::Permissions::from_mode(0o644))?;
            unfinished.file.sync_all()?;
            fs::rename(&unfinished.path, self.path(id))?;
            File::open(&self.0)?.sync_all()
        };
        place().map_err(ImportProblem::files(doing()))
    }

    /// Removes the file of an image.
    pub(crate) fn remove(&self, id: ImageId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => Err(problem),
            Err(_) | Ok(()) => File::open(&self.0)?.sync_all(),
        }
    }
}

impl Unfinished {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is absent under this name where it was placed.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_not_placed_leaves_nothing_behind() {
        let at = tempfile::tempdir().unwrap();
        let folder = Folder::open(at.path().join("images")).unwrap();
        let id = ImageId::new([7; 32]);
        drop(folder.begin().unwrap());
        let whole = folder.begin().unwrap();
        folder.place(&whole, id).unwrap();
        drop(whole);
        assert_eq!(names(&at.path().join("images")), [format!("{}.img.zst", id.hex())]);
        let mode = fs::metadata(folder.path(id)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "bty-httpd must be able to read it");
    }

    #[test]
    fn a_sweep_removes_what_is_not_on_record_and_nothing_else() {
        let at = tempfile::tempdir().unwrap();
        let folder = Folder::open(at.path().to_owned()).unwrap();
        let (known, orphan, lost) =
            (ImageId::new([1; 32]), ImageId::new([2; 32]), ImageId::new([3; 32]));
        for name in [
            format!("{}.img.zst", known.hex()),
            format!("{}.img.zst", orphan.hex()),
            ".import-0192".into(),
            "notes.txt".into(),
        ] {
            fs::write(at.path().join(name), "x").unwrap();
        }
        let missing = folder.sweep(&HashSet::from([known, lost])).unwrap();
        assert_eq!(missing, [lost]);
        assert_eq!(names(at.path()), [format!("{}.img.zst", known.hex()), "notes.txt".into()]);
    }
}
