//! The appliance's own key: made at its first start, in its state folder, and never anywhere else.
//!
//! The file is a secret key of minisign's without a password, so it can be kept and looked at with that program.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bty_types::receipt::Receipt;
use minisign::{KeyPair, PError, PublicKey, SecretKey, SecretKeyBox};

use super::Signed;

/// What the file says of itself.
const COMMENT: &str = "bty's key for receipts: keep it secret";

/// The key.
pub(crate) struct Key {
    secret: SecretKey,
    checks: PublicKey,
    public: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A key that can't be had or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// Its file can't be read or made.
    #[error("reading or making the key for receipts {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its file is none.
    #[error(
        "the key for receipts {} is damaged: restore it from a backup, or remove it to have another made, \
         and keep the old public key for the receipts that were signed until now",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PError,
    },
    /// Making it or signing with it failed.
    #[error("using the key for receipts")]
    Use(#[from] PError),
}

impl Key {
    /// Reads the key, or makes it where there is none.
    pub(crate) fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
                let made = KeyPair::generate_unencrypted_keypair()?;
                let text = made.sk.to_box(Some(COMMENT))?.into_string();
                write_private(path, text.as_bytes()).map_err(failed)?;
                text
            }
            Err(problem) => return Err(failed(problem)),
        };
        Self::read(&text).map_err(|source| KeyError::Damaged { path: path.to_owned(), source })
    }

    fn read(text: &str) -> Result<Self, PError> {
        let secret = SecretKeyBox::from_string(text)?.into_unencrypted_secret_key()?;
        let public_key = PublicKey::from_secret_key(&secret)?;
        let public = public_key.to_box()?.into_string();
        Ok(Self { secret, checks: public_key, public })
    }

    /// The file of the public key.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    /// Signs a receipt of a run.
    pub(crate) fn sign(&self, receipt: &Receipt) -> Result<Signed, KeyError> {
        let document = receipt.document();
        let run = receipt.body.run.as_deref().unwrap_or_default();
        let trusted = format!("receipt of the flash by the run {run}");
        let signature = minisign::sign(
            Some(&self.checks),
            &self.secret,
            document.as_bytes(),
            Some(&trusted),
            Some("signature by a bty appliance's key for receipts"),
        )?;
        Ok(Signed { document, signature: signature.into_string() })
    }
}

/// Writes a file that only its owner reads, whole or not at all.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let partial = path.with_extension("partial");
    // What a start that was cut off has left.
    match fs::remove_file(&partial) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipt.key");
        fs::write(path.with_extension("partial"), "cut off").unwrap();
        let made = Key::load_or_make(&path).unwrap();
        let read = Key::load_or_make(&path).unwrap();
        assert_eq!(made.public(), read.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!path.with_extension("partial").exists());
        let other = Key::load_or_make(&folder.path().join("other.key")).unwrap();
        assert_ne!(made.public(), other.public());
        let secret = fs::read_to_string(&path).unwrap();
        let secret = secret.lines().nth(1).unwrap();
        assert!(!format!("{made:?}").contains(secret), "the secret is shown");
    }

    #[test]
    fn a_damaged_key_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipt.key");
        Key::load_or_make(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        fs::write(&path, [0xff; 80]).unwrap();
        let problem = Key::load_or_make(&path).unwrap_err();
        assert!(problem.to_string().contains("damaged"), "{problem}");
        for bad in ["", "x", good.get(..good.len() - 9).unwrap(), &good.replace("RWQ", "RWR")[1..]]
        {
            fs::write(&path, bad).unwrap();
            let problem = Key::load_or_make(&path).unwrap_err();
            assert!(problem.to_string().contains("damaged"), "{bad:?}: {problem}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }
}
