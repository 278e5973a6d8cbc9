//! The secret that tokens are made with: made at first start, kept in the daemon's state.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::boot::token::Key;

/// A file of secrets that can't be read or made.
#[derive(Debug, thiserror::Error)]
#[error("reading or making the secret {}", path.display())]
pub(crate) struct SecretError {
    path: PathBuf,
    source: io::Error,
}

/// Reads the key, or makes it. A file of another length is refused, never used: a key of nothing would let anybody forge.
pub(crate) fn load_or_make(path: &Path) -> Result<Key, SecretError> {
    let refuse = |source| SecretError { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|bytes: Vec<u8>| {
            let problem =
                format!("it has {} bytes, not 32; remove it to make a new one", bytes.len());
            refuse(io::Error::other(problem))
        }),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            File::open("/dev/urandom")
                .and_then(|mut random| random.read_exact(&mut key))
                .map_err(refuse)?;
            write_private(path, &key).map_err(refuse)?;
            Ok(key)
        }
        Err(problem) => Err(refuse(problem)),
    }
}

/// Writes a file that only its owner reads, whole or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    // A temporary file has mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/token.key");
        let made = load_or_make(&path).unwrap();
        assert_eq!(load_or_make(&path).unwrap(), made);
        assert_ne!(made, [0; 32]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_empty_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.key");
        fs::write(&path, b"").unwrap();
        let shown = bty_api::status::chain(&load_or_make(&path).unwrap_err());
        assert!(shown.contains("0 bytes, not 32"), "{shown}");
    }
}
