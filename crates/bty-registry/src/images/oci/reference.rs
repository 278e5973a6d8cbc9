//! `oras://REGISTRY/REPOSITORY[:TAG][@DIGEST]`.

use std::{fmt, net::IpAddr, str::FromStr};

use bty_types::Checksum;
use reqwest::Url;

pub(crate) const SCHEME: &str = "oras://";
const DEFAULT_TAG: &str = "latest";
const MOST_TAG_CHARS: usize = 128;
const MOST_REPOSITORY_CHARS: usize = 255;

/// An artifact in an OCI registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Host, and port where one is given.
    pub(super) registry: String,
    pub(super) repository: String,
    pub(super) tag: Option<String>,
    /// Its manifest's.
    pub(super) digest: Option<Checksum>,
}

impl FromStr for Reference {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(SCHEME).ok_or("it does not begin with oras://")?;
        let (registry, path) = rest
            .split_once('/')
            .ok_or("it names no repository: oras://REGISTRY/REPOSITORY[:TAG][@DIGEST]")?;
        if registry.contains('@') {
            return Err("a user in it would be seen by everybody; give it apart (--registry-auth)");
        }
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) => {
                let digest = digest.parse();
                let digest = digest.map_err(|_| "its digest is no sha256:HEX or sha512:HEX")?;
                (path, Some(digest))
            }
            None => (path, None),
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !is_registry(registry) {
            return Err("its registry is no host, or host:port");
        }
        if !is_repository(repository) {
            return Err("its repository is none: lower-case letters, digits, . _ - and /");
        }
        if !tag.is_none_or(is_tag) {
            return Err("its tag is none: letters, digits, . _ and -");
        }
        let tag = tag.map(str::to_owned).or_else(|| match digest {
            None => Some(DEFAULT_TAG.to_owned()),
            Some(_) => None,
        });
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), tag, digest })
    }
}

/// As it was given, with the tag that is taken where none was.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_version())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Reference {
    /// The same, of exactly this manifest.
    pub(crate) fn pinned(&self, digest: Checksum) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Its name, without tag and digest.
    pub(super) fn without_version(&self) -> String {
        format!("{SCHEME}{}/{}", self.registry, self.repository)
    }

    /// The last part of the repository's name.
    pub(super) fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// Whether the registry is on this machine, where nobody listens in.
    fn is_local(&self) -> bool {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, port)| {
            if port.ends_with(']') { self.registry.as_str() } else { host }
        });
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// Where the repository's `kind` ("manifests" or "blobs") of this name is. Without encryption where the registry is on this
    /// machine, or where that is asked for.
    pub(super) fn url(&self, kind: &str, name: &str, is_plain: bool) -> Option<Url> {
        let scheme = if is_plain || self.is_local() { "http" } else { "https" };
        // What Docker calls its registry is not where that answers, and its own images have no folder of their own.
        let (host, repository) = match self.registry.as_str() {
            "docker.io" if self.repository.contains('/') => {
                ("registry-1.docker.io", self.repository.clone())
            }
            "docker.io" => ("registry-1.docker.io", format!("library/{}", self.repository)),
            host => (host, self.repository.clone()),
        };
        Url::parse(&format!("{scheme}://{host}/v2/{repository}/{kind}/{name}")).ok()
    }

    /// What names the manifest.
    pub(super) fn manifest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        }
    }
}

fn is_registry(text: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let url = Url::parse(&format!("https://{text}/"));
    text.chars().all(is_fit) && url.is_ok_and(|url| url.has_host() && url.path() == "/")
}

/// The distribution specification's grammar of a name.
fn is_repository(text: &str) -> bool {
    text.len() <= MOST_REPOSITORY_CHARS && text.split('/').all(is_component)
}

fn is_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let has_ends = text.starts_with(is_word) && text.ends_with(is_word);
    let mut separators = text.split(is_word).filter(|between| !between.is_empty());
    let is_separator =
        |between: &str| matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-');
    has_ends && separators.all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= MOST_TAG_CHARS
        && text.starts_with(is_word)
        && text.chars().all(|c| is_word(c) || matches!(c, '.' | '-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_are_read_whole() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, manifest, url) in [
            ("oras://ghcr.io/lab/debian:13", "13", "https://ghcr.io/v2/lab/debian/blobs/x"),
            ("oras://localhost:5000/debian", "latest", "http://localhost:5000/v2/debian/blobs/x"),
            ("oras://127.0.0.1/a/b__c.d-e", "latest", "http://127.0.0.1/v2/a/b__c.d-e/blobs/x"),
            ("oras://[::1]:5000/a", "latest", "http://[::1]:5000/v2/a/blobs/x"),
            ("oras://[2001:db8::1]/a", "latest", "https://[2001:db8::1]/v2/a/blobs/x"),
            ("oras://r.lab:5000/a:V1.2-x", "V1.2-x", "https://r.lab:5000/v2/a/blobs/x"),
            ("oras://docker.io/a", "latest", "https://registry-1.docker.io/v2/library/a/blobs/x"),
            ("oras://docker.io/a/b", "latest", "https://registry-1.docker.io/v2/a/b/blobs/x"),
        ] {
            let reference: Reference = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(reference.manifest(), manifest, "{text}");
            assert_eq!(reference.url("blobs", "x", false).unwrap().as_str(), url);
            let again: Reference = reference.to_string().parse().unwrap();
            assert_eq!(again, reference);
            let pinned = reference.pinned(digest.parse().unwrap());
            assert_eq!(pinned.manifest(), digest);
            assert_eq!(pinned.to_string().parse(), Ok(pinned));
        }
        let only: Reference = format!("oras://r.lab/a@{digest}").parse().unwrap();
        assert_eq!(only.to_string(), format!("oras://r.lab/a@{digest}"));
        let plain: Reference = "oras://r.lab/a".parse().unwrap();
        assert_eq!(plain.url("blobs", "x", true).unwrap().as_str(), "http://r.lab/v2/a/blobs/x");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "https://ghcr.io/a",
            "oras://",
            "oras://ghcr.io",
            "oras:///a",
            "oras://ghcr.io/",
            "oras://ghcr.io/A",
            "oras://ghcr.io/a//b",
            "oras://ghcr.io/-a",
            "oras://ghcr.io/a..b",
            "oras://ghcr.io/a/../b",
            "oras://ghcr.io/a:",
            "oras://ghcr.io/a:.b",
            "oras://ghcr.io/a@sha256:00",
            "oras://ghcr.io/a@md5:00",
            "oras://me:secret@ghcr.io/a",
            "oras://ghcr.io?x/a",
            "oras://gh cr.io/a",
            "oras://ghcr.io:x/a",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text} was accepted");
        }
        let told = "oras://me:secret@ghcr.io/a".parse::<Reference>().unwrap_err();
        assert!(told.contains("--registry-auth"), "{told}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_reference_or_not(text in "(oras://)?[a-z0-9:@/._\\[\\]-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse(), Ok(reference));
            }
        }
    }
}
