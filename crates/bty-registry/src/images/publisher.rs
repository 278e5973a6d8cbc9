//! What a publisher says of a file: a list of checksums, and the signature of that, or of the file itself.

use bty_api::registry::v1::ImportOptions;
use bty_fetch::without_secrets;
use bty_types::{Checksum, ChecksumList};
use minisign_verify::{PublicKey, Signature};
use reqwest::Url;

use super::{
    Fetcher, ImportProblem,
    openpgp::{Detached, Keyring, OpenPgpProblem, clear_text, is_clear_signed},
    url,
    witness::{Minisign, Sort, Witness},
};
use crate::problem::Problem;

/// What a list may have: some thousand files.
const MAX_LIST_BYTES: usize = 1 << 20;
const MAX_SIGNATURE_BYTES: usize = 16 << 10;

/// Where a publisher's checksums are, and who must have signed them; or, without a list, who must have signed the file itself.
#[derive(Debug)]
pub(crate) struct Publisher {
    list: Option<Url>,
    signer: Option<Signer>,
}

/// Who must have signed, and where the signature is.
#[derive(Debug)]
enum Signer {
    Minisign(PublicKey, Url),
    /// The signature is in the list itself where there is no URL.
    OpenPgp(Keyring, Option<Url>),
}

impl Publisher {
    /// Reads what is asked for; `None` where nothing is. `source` is the image's own URL, where it has one.
    pub(crate) fn parse(
        options: &ImportOptions,
        source: Option<&Url>,
    ) -> Result<Option<Self>, Problem> {
        let list = match options.checksums_url.as_str() {
            "" => None,
            list => Some(url("options.checksums_url", list)?),
        };
        let minisign = minisign(options, list.as_ref().or(source))?;
        let openpgp = openpgp(options, list.is_some())?;
        let signer = match (minisign, openpgp) {
            (Some(_), Some(_)) => {
                let why = "a minisign key is given too; give the one or the other";
                return Err(Problem::value("options.openpgp_key", why));
            }
            (minisign, openpgp) => minisign.or(openpgp),
        };
        let publisher = Self { list, signer };
        let is_given = publisher.list.is_some() || publisher.signer.is_some();
        Ok(is_given.then_some(publisher))
    }

    /// Whether it has a list of checksums.
    pub(crate) fn lists(&self) -> bool {
        self.list.is_some()
    }

    /// The checksum of the file of this name; `None` where there is no list.
    pub(super) async fn checksum(
        &self,
        name: &str,
        fetcher: &Fetcher,
    ) -> Result<Option<Checksum>, ImportProblem> {
        let Some(list_url) = &self.list else { return Ok(None) };
        let mut list = fetcher.get_all(list_url, MAX_LIST_BYTES).await?;
        match &self.signer {
            None => {}
            Some(Signer::Minisign(key, url)) => {
                let signature = fetcher.get_all(url, MAX_SIGNATURE_BYTES).await?;
                // Lists are small, so that the form of old programs, which isn't hashed first, is no burden.
                Signature::decode(&String::from_utf8_lossy(&signature))
                    .and_then(|signature| key.verify(&list, &signature, true))
                    .map_err(unsigned(url))?;
            }
            Some(Signer::OpenPgp(keys, at)) => {
                let signature = match at {
                    Some(url) => Some(fetcher.get_all(url, MAX_SIGNATURE_BYTES).await?),
                    None if is_clear_signed(&list) => None,
                    None => return Err(Problem::Missing("options.openpgp_url").into()),
                };
                let (keys, url) = (keys.clone(), without_secrets(at.as_ref().unwrap_or(list_url)));
                let checking = tokio::task::spawn_blocking(move || listed(&keys, list, signature));
                let checked = checking.await.unwrap_or(Err(OpenPgpProblem::Bad));
                list = checked.map_err(|source| ImportProblem::OpenPgp { url, source })?;
            }
        }
        let url = without_secrets(list_url);
        let list = ChecksumList::parse(&String::from_utf8_lossy(&list));
        let found = list.of(name).map_err(|source| ImportProblem::NotListed {
            url,
            name: name.to_owned(),
            source,
        });
        found.map(Some)
    }

    /// Who is to see the file itself; `None` where the list is what is signed, or nothing.
    pub(super) async fn witness(
        &self,
        fetcher: &Fetcher,
    ) -> Result<Option<Witness>, ImportProblem> {
        if self.lists() {
            return Ok(None);
        }
        match &self.signer {
            None | Some(Signer::OpenPgp(_, None)) => Ok(None),
            Some(Signer::Minisign(key, at)) => {
                let signature = fetcher.get_all(at, MAX_SIGNATURE_BYTES).await?;
                let witness = Signature::decode(&String::from_utf8_lossy(&signature))
                    .and_then(|signature| Minisign::begin(key.clone(), signature))
                    .map_err(unsigned(at))?;
                Ok(Some(Witness { url: without_secrets(at), sort: Sort::Minisign(witness) }))
            }
            Some(Signer::OpenPgp(keys, Some(at))) => {
                let (signature, url) =
                    (fetcher.get_all(at, MAX_SIGNATURE_BYTES).await?, without_secrets(at));
                match Detached::begin(keys, &signature) {
                    Ok(witness) => Ok(Some(Witness { url, sort: Sort::OpenPgp(witness) })),
                    Err(source) => Err(ImportProblem::OpenPgp { url, source }),
                }
            }
        }
    }
}

/// What of a list is signed: all of it by a signature that is apart, else what its own signature stands around.
fn listed(
    keys: &Keyring,
    list: Vec<u8>,
    signature: Option<Vec<u8>>,
) -> Result<Vec<u8>, OpenPgpProblem> {
    let Some(signature) = signature else { return clear_text(keys, &list) };
    let mut check = Detached::begin(keys, &signature)?;
    check.see(&list);
    check.finish()?;
    Ok(list)
}

fn unsigned(url: &Url) -> impl FnOnce(minisign_verify::Error) -> ImportProblem {
    let url = without_secrets(url);
    move |source| ImportProblem::Signature { url, source }
}

fn minisign(options: &ImportOptions, signed: Option<&Url>) -> Result<Option<Signer>, Problem> {
    let ImportOptions { minisign_key, minisign_url, .. } = options;
    if minisign_key.is_empty() {
        return match minisign_url.as_str() {
            "" => Ok(None),
            _ => Err(Problem::Missing("options.minisign_key")),
        };
    }
    let key = PublicKey::from_base64(minisign_key).map_err(|problem| {
        let shown = format!("{problem}; it is the second line of the publisher's minisign.pub");
        Problem::value("options.minisign_key", shown)
    })?;
    let signature = match (minisign_url.as_str(), signed) {
        ("", Some(signed)) => beside(signed),
        ("", None) => return Err(Problem::Missing("options.minisign_url")),
        (given, _) => url("options.minisign_url", given)?,
    };
    Ok(Some(Signer::Minisign(key, signature)))
}

fn openpgp(options: &ImportOptions, has_list: bool) -> Result<Option<Signer>, Problem> {
    let ImportOptions { openpgp_key, openpgp_url, .. } = options;
    if openpgp_key.is_empty() {
        return match openpgp_url.as_str() {
            "" => Ok(None),
            _ => Err(Problem::Missing("options.openpgp_key")),
        };
    }
    let keys = Keyring::parse(openpgp_key)
        .map_err(|problem| Problem::value("options.openpgp_key", problem))?;
    let signature = match openpgp_url.as_str() {
        "" if has_list => None,
        "" => return Err(Problem::Missing("options.openpgp_url")),
        given => Some(url("options.openpgp_url", given)?),
    };
    Ok(Some(Signer::OpenPgp(keys, signature)))
}

/// Where publishers put the minisign signature of a file.
fn beside(signed: &Url) -> Url {
    let mut signature = signed.clone();
    signature.set_path(&format!("{}.minisig", signed.path()));
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of minisign's own documentation.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const PGP: &[u8] = &[0x99, 1, 2, 3];

    fn options(list: &str, key: &str, at: &str, pgp: &[u8], pgp_at: &str) -> ImportOptions {
        ImportOptions {
            checksums_url: list.into(),
            minisign_key: key.into(),
            minisign_url: at.into(),
            openpgp_key: pgp.into(),
            openpgp_url: pgp_at.into(),
            ..ImportOptions::default()
        }
    }

    #[test]
    fn what_is_asked_for_is_whole_or_refused() {
        let (list, other) = ("https://example.org/a/SHA256SUMS?x=1", "https://example.org/sig");
        let image: Url = "https://example.org/a.img.xz".parse().unwrap();
        let signature = |options: &ImportOptions| match Publisher::parse(options, Some(&image))
            .unwrap()
            .unwrap()
            .signer?
        {
            Signer::Minisign(_, url) => Some(url.to_string()),
            Signer::OpenPgp(_, url) => url.map(String::from),
        };
        assert!(Publisher::parse(&options("", "", "", b"", ""), Some(&image)).unwrap().is_none());
        for (given, want) in [
            (options(list, "", "", b"", ""), None),
            (options(list, KEY, "", b"", ""), Some("https://example.org/a/SHA256SUMS.minisig?x=1")),
            (options(list, KEY, other, b"", ""), Some(other)),
            (options("", KEY, "", b"", ""), Some("https://example.org/a.img.xz.minisig")),
            (options(list, "", "", PGP, ""), None),
            (options(list, "", "", PGP, other), Some(other)),
            (options("", "", "", PGP, other), Some(other)),
        ] {
            assert_eq!(signature(&given).as_deref(), want, "{given:?}");
        }
        for given in [
            options("", KEY, "", b"", ""),
            options("", "", other, b"", ""),
            options(list, "", other, b"", ""),
            options(list, "RWQ", "", b"", ""),
            options("file:///etc/SHA256SUMS", "", "", b"", ""),
            options(list, KEY, "ftp://example.org/sig", b"", ""),
            options("", "", "", PGP, ""),
            options(list, "", "", b"", other),
            options(list, "", "", b"RWQ", other),
            options(list, "", "", PGP, "ftp://example.org/sig"),
            options(list, KEY, "", PGP, ""),
        ] {
            assert!(Publisher::parse(&given, None).is_err(), "{given:?}");
        }
    }
}
