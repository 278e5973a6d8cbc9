//! Images from http and https URLs.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use reqwest::{Client, Response, Url, redirect};

use super::{Feeder, ImportProblem};
use crate::problem::Problem;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that says nothing for so long has broken off.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
const MOST_REDIRECTS: usize = 5;

/// Fetches; the client is made when it is first needed, since its certificates cost memory.
#[derive(Debug, Default)]
pub(crate) struct Fetcher(Mutex<Option<Client>>);

/// An http or https URL, from this field of a request.
pub(crate) fn url(field: &'static str, text: &str) -> Result<Url, Problem> {
    let url = Url::parse(text).map_err(|problem| Problem::value(field, problem.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Problem::value(field, "it is no http or https URL"));
    }
    Ok(url)
}

/// A URL as it is recorded: without user and password.
pub(crate) fn without_user(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for URLs without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url.to_string()
}

impl Fetcher {
    fn client(&self) -> Result<Client, reqwest::Error> {
        let mut client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        // An error means that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(redirect::Policy::custom(follow))
            .user_agent(concat!("bty/", env!("CARGO_PKG_VERSION")))
            .build()?;
        *client = Some(made.clone());
        Ok(made)
    }

    /// Asks for a URL; returns the answer, whose body has not been read.
    pub(super) async fn get(&self, url: &Url) -> Result<Response, ImportProblem> {
        let failed = |source: reqwest::Error| ImportProblem::Fetch {
            url: without_user(url),
            source: source.without_url(),
        };
        let client = self.client().map_err(failed)?;
        let response = client.get(url.clone()).send().await.map_err(failed)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(ImportProblem::Answer { url: without_user(url), status }),
        }
    }

    /// Fetches something small.
    pub(super) async fn get_all(&self, url: &Url, most: usize) -> Result<Vec<u8>, ImportProblem> {
        let mut body = self.get(url).await?.bytes_stream();
        let mut all = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|source| ImportProblem::Fetch {
                url: without_user(url),
                source: source.without_url(),
            })?;
            if all.len() + piece.len() > most {
                return Err(ImportProblem::TooMuch { url: without_user(url), most });
            }
            all.extend(piece);
        }
        Ok(all)
    }
}

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error("it redirects more than 5 times");
    }
    if was_secure && attempt.url().scheme() != "https" {
        return attempt.error("it redirects from https to http");
    }
    attempt.follow()
}

/// Passes the body on to the import; returns why it broke off, where it did.
pub(super) async fn pump(response: Response, url: &Url, feeder: Feeder) -> Option<ImportProblem> {
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(bytes) => {
                if !feeder.pass(bytes).await {
                    return None;
                }
            }
            Err(source) => {
                let url = without_user(url);
                return Some(ImportProblem::Fetch { url, source: source.without_url() });
            }
        }
    }
    feeder.end().await;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_not_recorded() {
        let url = url("source.url", "https://me:secret@example.org/a.img.xz?v=1#frag").unwrap();
        assert_eq!(without_user(&url), "https://example.org/a.img.xz?v=1");
    }

    #[test]
    fn only_http_is_fetched() {
        for text in ["", "file:///etc/passwd", "ftp://example.org/a", "http:", "/a", "data:,x"] {
            assert!(url("source.url", text).is_err(), "{text:?} was accepted");
        }
    }
}
