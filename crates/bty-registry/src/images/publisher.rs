//! What a publisher says of a file: a list of checksums, and the signature of that.

use bty_types::{Checksum, ChecksumList};
use minisign_verify::{PublicKey, Signature};
use reqwest::Url;

use super::{Fetcher, ImportProblem, fetch::without_user, url};
use crate::problem::Problem;

/// What a list may have: some thousand files.
const MAX_LIST_BYTES: usize = 1 << 20;
const MAX_SIGNATURE_BYTES: usize = 16 << 10;

/// Where a publisher's checksums are, and who must have signed them.
#[derive(Debug)]
pub(crate) struct Publisher {
    list: Url,
    signed: Option<(PublicKey, Url)>,
}

impl Publisher {
    /// Reads what is asked for; `None` where nothing is.
    pub(crate) fn parse(
        list: &str,
        minisign_key: &str,
        minisign_url: &str,
    ) -> Result<Option<Self>, Problem> {
        if list.is_empty() && minisign_key.is_empty() && minisign_url.is_empty() {
            return Ok(None);
        }
        if list.is_empty() {
            return Err(Problem::Missing("options.checksums_url"));
        }
        let list = url("options.checksums_url", list)?;
        if minisign_key.is_empty() {
            return match minisign_url {
                "" => Ok(Some(Self { list, signed: None })),
                _ => Err(Problem::Missing("options.minisign_key")),
            };
        }
        let key = PublicKey::from_base64(minisign_key).map_err(|problem| {
            let shown = format!("{problem}; it is the second line of the publisher's minisign.pub");
            Problem::value("options.minisign_key", shown)
        })?;
        let signature = match minisign_url {
            "" => beside(&list),
            given => url("options.minisign_url", given)?,
        };
        Ok(Some(Self { list, signed: Some((key, signature)) }))
    }

    /// The checksum of the file of this name.
    pub(super) async fn checksum(
        &self,
        name: &str,
        fetcher: &Fetcher,
    ) -> Result<Checksum, ImportProblem> {
        let list = fetcher.get_all(&self.list, MAX_LIST_BYTES).await?;
        if let Some((key, signature_url)) = &self.signed {
            let signature = fetcher.get_all(signature_url, MAX_SIGNATURE_BYTES).await?;
            // Lists are small, so that the form of old programs, which isn't hashed first, is no burden.
            Signature::decode(&String::from_utf8_lossy(&signature))
                .and_then(|signature| key.verify(&list, &signature, true))
                .map_err(|source| ImportProblem::Signature {
                    url: without_user(signature_url),
                    source,
                })?;
        }
        let list_url = without_user(&self.list);
        ChecksumList::parse(&String::from_utf8_lossy(&list)).of(name).map_err(|source| {
            ImportProblem::NotListed { url: list_url, name: name.to_owned(), source }
        })
    }
}

/// Where publishers put the signature of a file.
fn beside(list: &Url) -> Url {
    let mut signature = list.clone();
    signature.set_path(&format!("{}.minisig", list.path()));
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of minisign's own documentation.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn what_is_asked_for_is_whole_or_refused() {
        let list = "https://example.org/a/SHA256SUMS?x=1";
        assert!(Publisher::parse("", "", "").unwrap().is_none());
        assert!(Publisher::parse(list, "", "").unwrap().unwrap().signed.is_none());
        let (_, signature) = Publisher::parse(list, KEY, "").unwrap().unwrap().signed.unwrap();
        assert_eq!(signature.as_str(), "https://example.org/a/SHA256SUMS.minisig?x=1");
        let other = "https://example.org/sig";
        let (_, signature) = Publisher::parse(list, KEY, other).unwrap().unwrap().signed.unwrap();
        assert_eq!(signature.as_str(), other);
        for (list, key, signature) in [
            ("", KEY, ""),
            ("", "", other),
            (list, "", other),
            (list, "RWQ", ""),
            ("file:///etc/SHA256SUMS", "", ""),
            (list, KEY, "ftp://example.org/sig"),
        ] {
            assert!(Publisher::parse(list, key, signature).is_err(), "{list} {key} {signature}");
        }
    }
}
