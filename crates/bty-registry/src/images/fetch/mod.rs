//! What is fetched from http and https URLs, and from OCI registries.

mod download;
mod validator;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bty_fetch::without_secrets;
use futures_util::StreamExt as _;
use reqwest::{Client, Response, Url};

use super::ImportProblem;
use crate::problem::Problem;
pub(super) use download::{Download, Place};

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
    bty_fetch::url(text).map_err(|problem| Problem::value(field, problem.to_string()))
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
        let made = bty_fetch::client(self.patience)?;
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
