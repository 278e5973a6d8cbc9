//! Small files: a receipt, a signature, a key.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// What is larger is none of them.
const MOST_BYTES: u64 = 1 << 20;

/// The bytes of a file, one more than any of ours has where it is too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|problem| Failure::io(&format!("reading {}", path.display()), &problem))?;
    Ok(bytes)
}

/// Writes a file, whole or not at all; one that is there is replaced.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let partial = partial(path);
    let made = File::create(&partial).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    });
    made.map_err(|problem| {
        // Whatever keeps it from being removed is said by nobody: the first failure counts.
        let _ = fs::remove_file(&partial);
        Failure::io(&format!("writing {}", path.display()), &problem)
    })
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
