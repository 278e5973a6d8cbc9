//! Checking a receipt, with nothing but its files and a key.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bty_types::ErrorKind;
use minisign_verify::{Error, PublicKey, Signature};

use super::{file, read, show};
use crate::{arguments::VerifyReceipt, failure::Failure, output::Output};

/// Checks a receipt, and shows what it says where that holds.
pub(crate) fn verify(what: &VerifyReceipt, output: Output) -> Result<(), Failure> {
    let key = key(&what.key)?;
    let document = file::read(&what.file)?;
    let signature = what.signature.clone().unwrap_or_else(|| beside(&what.file));
    let signature = String::from_utf8_lossy(&file::read(&signature)?).into_owned();
    let trusted = check(&key, &document, &signature).map_err(|why| {
        Failure::new(ErrorKind::Corrupt, format!("{}: {why}", what.file.display()))
    })?;
    let receipt = read(&document)?;
    output.show_text(&String::from_utf8_lossy(&document), || {
        format!("the signature is good: {trusted}\n\n{}", show::receipt(&receipt))
    })
}

/// Where the signature of a file is.
pub(super) fn beside(document: &Path) -> PathBuf {
    let mut name = document.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// A key that was given as a file or as itself.
fn key(given: &str) -> Result<PublicKey, Failure> {
    if let Ok(key) = PublicKey::from_base64(given) {
        return Ok(key);
    }
    let wrong = |problem: &Error| {
        let shown = format!("--key {given}: {problem}; it is what btyctl receipt key prints");
        Failure::new(ErrorKind::InvalidInput, shown)
    };
    if !fs::exists(given).unwrap_or_default() {
        let shown = format!("--key {given}: it is neither a minisign key nor a file");
        return Err(Failure::new(ErrorKind::InvalidInput, shown));
    }
    let text = file::read(Path::new(given))?;
    PublicKey::decode(&String::from_utf8_lossy(&text)).map_err(|problem| wrong(&problem))
}

/// The trusted comment of a signature that this key made of this document; why it is none, otherwise.
fn check(key: &PublicKey, document: &[u8], signature: &str) -> Result<String, String> {
    let signature = Signature::decode(signature)
        .map_err(|problem| format!("its signature can't be read: {problem}"))?;
    // The form of old programs, which the appliance never writes, is not taken.
    key.verify(document, &signature, false).map_err(|problem| match problem {
        Error::UnexpectedKeyId => "it was signed with another key".to_owned(),
        Error::InvalidSignature => {
            "it is not what was signed: the receipt, or its signature, was changed".to_owned()
        }
        other => other.to_string(),
    })?;
    Ok(signature.trusted_comment().to_owned())
}
