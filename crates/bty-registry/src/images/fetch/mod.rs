//! What is fetched from http and https URLs, and from OCI registries.

mod download;
mod redirects;
mod validator;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use reqwest::{Client, Response, Url};

use super::ImportProblem;
use crate::problem::Problem;
pub(super) use download::{Download, Place};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What something small may take as a whole: a server that sends a byte now and then keeps nobody for ever.
pub(super) const SMALL_TIMEOUT: Duration = Duration::from_mins(5);

/// Fetches; the client is made when it is first needed, since its certificates cost memory.
#[derive(Debug)]
pub(crate) struct Fetcher {
    client: Mutex<Option<Client>>,
    /// How long a server may say nothing, and how long it is asked again after it broke off.
    patience: Duration,
}

/// An http or https URL, from this field of a request.
pub(crate) fn url(field: &'static str, text: &str) -> Result<Url, Problem> {
    let url = Url::parse(text).map_err(|problem| Problem::value(field, problem.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Problem::value(field, "it is no http or https URL"));
    }
    Ok(url)
}

/// What the names of a query's parameters have in them whose values let in whoever knows them, as in addresses that are signed.
const SECRETS: [&str; 7] = ["token", "sig", "secret", "passw", "key", "cred", "auth"];

/// A URL as it is recorded: without user, password, and what else lets anybody in.
pub(super) fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for URLs without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let is_secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        SECRETS.iter().any(|word| name.contains(word))
    };
    if url.query_pairs().any(|(name, _)| is_secret(&name)) {
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        let shown = pairs.iter().map(|(name, value)| {
            (name.as_str(), if is_secret(name) { "..." } else { value.as_str() })
        });
        url.query_pairs_mut().clear().extend_pairs(shown);
    }
    url.to_string()
}

/// A URL that couldn't be fetched. What reqwest says of it is left out: it would name the user.
pub(super) fn failed(url: &Url) -> impl Fn(reqwest::Error) -> ImportProblem {
    let url = without_secrets(url);
    move |source| ImportProblem::Fetch { url: url.clone(), source: source.without_url() }
}

impl Fetcher {
    /// One that waits for so long.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { client: Mutex::default(), patience }
    }

    pub(super) fn client(&self) -> Result<Client, reqwest::Error> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        // An error means that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(self.patience)
            .redirect(redirects::policy())
            .user_agent(concat!("bty/", env!("CARGO_PKG_VERSION")))
            .build()?;
        *client = Some(made.clone());
        Ok(made)
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Asks for a URL; returns the answer, whose body has not been read.
    async fn get(&self, url: &Url) -> Result<Response, ImportProblem> {
        let client = self.client().map_err(failed(url))?;
        let request = client.get(url.clone()).timeout(SMALL_TIMEOUT);
        let response = request.send().await.map_err(failed(url))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(ImportProblem::Answer { url: without_secrets(url), status }),
        }
    }

    /// Fetches something small.
    pub(super) async fn get_all(&self, url: &Url, most: usize) -> Result<Vec<u8>, ImportProblem> {
        read_all(self.get(url).await?, url, most).await
    }
}

/// The body of an answer from this URL, of at most so many bytes.
pub(super) async fn read_all(
    response: Response,
    url: &Url,
    most: usize,
) -> Result<Vec<u8>, ImportProblem> {
    let mut body = response.bytes_stream();
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(failed(url))?;
        if all.len() + piece.len() > most {
            return Err(ImportProblem::TooMuch { url: without_secrets(url), most });
        }
        all.extend(piece);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_anybody_in_is_not_recorded() {
        let url = url("source.url", "https://me:secret@example.org/a.img.xz?v=1#frag").unwrap();
        assert_eq!(without_secrets(&url), "https://example.org/a.img.xz?v=1");
        for (query, want) in [
            ("X-Amz-Date=1&X-Amz-Signature=abc", "X-Amz-Date=1&X-Amz-Signature=..."),
            ("file=a%20b&private_token=abc&sig=d%2F", "file=a+b&private_token=...&sig=..."),
            ("file=a%20b", "file=a%20b"),
        ] {
            let url = Url::parse(&format!("https://example.org/a?{query}")).unwrap();
            assert_eq!(without_secrets(&url), format!("https://example.org/a?{want}"));
        }
    }

    #[test]
    fn only_http_is_fetched() {
        for text in ["", "file:///etc/passwd", "ftp://example.org/a", "http:", "/a", "data:,x"] {
            assert!(url("source.url", text).is_err(), "{text:?} was accepted");
        }
    }
}
