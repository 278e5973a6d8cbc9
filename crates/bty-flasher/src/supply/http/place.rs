//! Where a container is, and asking for parts of it.

use std::{
    error::Error as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bty_image::container::{Index, IndexError, TAIL_BYTES, locate};
use bytes::Bytes;
use reqwest::{Client, Response, StatusCode, Url, header};
use tokio::{runtime::Runtime, time::timeout};

use super::range::parse_content_range;
use crate::supply::SupplyError;

/// Nothing heard for so long means that the connection is dead.
const STALL: Duration = Duration::from_secs(30);
/// Tries in a row without a byte of progress.
pub(super) const TRIES: u32 = 8;
/// Between two tries, at most.
const MAX_PAUSE: Duration = Duration::from_secs(8);
/// How much of an index is taken into memory: that of a disk of 12 TiB in the chunks that large disks have.
const MAX_INDEX_BYTES: u64 = 512 << 20;

/// Why a request got no further.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Asking again may help.
    Passing(String),
    /// It won't.
    Fatal(String),
}

/// Which file it is, so that one that is replaced in the middle is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    total_bytes: u64,
    /// Its strong entity tag, where the server gives one. Not that of a server that we were sent to: another one may have another.
    etag: Option<String>,
}

/// Where the container is.
pub(super) struct Place {
    /// Without user and password, which reqwest takes out of what it says that it asked for.
    url: Url,
    /// With them; they are for this server alone.
    with_login: Url,
    /// Where its server has sent us: the next request goes there at once. Such an address may be good for some minutes only.
    found: Mutex<Option<Url>>,
}

// Neither who asks nor what a URL has in it is for a log.
impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&bty_fetch::without_secrets(&self.url)).finish()
    }
}

/// A part of a file, as a server sends it.
#[derive(Debug)]
struct Part {
    start: u64,
    bytes: u64,
    version: Version,
    response: Response,
}

impl Place {
    pub(super) fn parse(text: &str) -> Result<Self, SupplyError> {
        let with_login = bty_fetch::url(text).map_err(|problem| SupplyError::Http {
            url: named(text),
            problem: problem.to_string(),
        })?;
        let url = with_login_of(with_login.clone(), "", None);
        Ok(Self { url, with_login, found: Mutex::default() })
    }

    pub(super) fn failed(&self, problem: String) -> SupplyError {
        SupplyError::Http { url: bty_fetch::without_secrets(&self.url), problem }
    }

    pub(super) fn runtime(&self) -> Result<Runtime, SupplyError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|problem| self.failed(problem.to_string()))
    }

    /// One's own connections, of which each lane has one.
    pub(super) fn client(&self) -> Result<Client, SupplyError> {
        bty_fetch::client(STALL).map_err(|problem| self.failed(shown(problem)))
    }

    /// Fills `room` from this offset; `came` says how much of it is filled, whatever the outcome.
    pub(super) async fn fill(
        &self,
        client: &Client,
        from: u64,
        room: &mut [u8],
        version: &Version,
        came: &mut usize,
    ) -> Result<(), Trouble> {
        let range = format!("bytes={from}-{}", from + room.len() as u64 - 1);
        let mut part = self.request(client, &range, Some(version)).await?;
        if (part.start, part.bytes) != (from, room.len() as u64) {
            return Err(Trouble::Fatal(format!(
                "the server sends {} bytes from byte {}, and {range} was asked for",
                part.bytes, part.start
            )));
        }
        while let Some(bytes) = next_bytes(&mut part.response).await? {
            let place = room
                .get_mut(*came..*came + bytes.len())
                .ok_or_else(|| Trouble::Fatal("the server sends more than it says".into()))?;
            place.copy_from_slice(&bytes);
            *came += bytes.len();
        }
        if *came < room.len() {
            return Err(Trouble::Passing("the connection broke off".into()));
        }
        Ok(())
    }

    /// The index, which file it is of, and how many bytes that took.
    pub(super) async fn index(
        &self,
        client: &Client,
    ) -> Result<(Index, Version, u64), SupplyError> {
        let (tail, version) =
            self.patiently(client, &format!("bytes=-{TAIL_BYTES}"), TAIL_BYTES, None).await?;
        let total = version.total_bytes;
        let place = locate(&tail, total)?;
        let size = place.end - place.start;
        if size > MAX_INDEX_BYTES {
            return Err(IndexError::Damaged("it is larger than any").into());
        }
        let mut fetched = u64::try_from(tail.len()).unwrap_or_default();
        let content = if let Some(at) = place.start.checked_sub(total - fetched) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let end = at.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            tail.get(at..end).ok_or(IndexError::NotAContainer)?.to_vec()
        } else {
            let range = format!("bytes={}-{}", place.start, place.end - 1);
            let (content, _) = self.patiently(client, &range, size, Some(&version)).await?;
            fetched += size;
            content
        };
        Ok((Index::parse(content, place.start)?, version, fetched))
    }

    /// A range of at most so many bytes as a whole, asked for several times if need be.
    async fn patiently(
        &self,
        client: &Client,
        range: &str,
        most: u64,
        version: Option<&Version>,
    ) -> Result<(Vec<u8>, Version), SupplyError> {
        let mut problem = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(pause(attempt)).await;
            }
            match self.whole(client, range, most, version).await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Fatal(fatal)) => return Err(self.failed(fatal)),
                Err(Trouble::Passing(passing)) => problem = passing,
            }
        }
        Err(self.failed(format!("{problem} ({TRIES} tries)")))
    }

    async fn whole(
        &self,
        client: &Client,
        range: &str,
        most: u64,
        version: Option<&Version>,
    ) -> Result<(Vec<u8>, Version), Trouble> {
        let mut part = self.request(client, range, version).await?;
        if part.bytes > most {
            return Err(Trouble::Fatal(format!(
                "the server sends {} bytes for {range}",
                part.bytes
            )));
        }
        let mut content = Vec::with_capacity(usize::try_from(part.bytes).unwrap_or_default());
        while let Some(bytes) = next_bytes(&mut part.response).await? {
            content.extend_from_slice(&bytes);
            if u64::try_from(content.len()).unwrap_or(u64::MAX) > part.bytes {
                return Err(Trouble::Fatal("the server sends more than it says".into()));
            }
        }
        if u64::try_from(content.len()) != Ok(part.bytes) {
            return Err(Trouble::Passing("the connection broke off".into()));
        }
        Ok((content, part.version))
    }

    /// Asks for a range, of the file of this version where one is given.
    async fn request(
        &self,
        client: &Client,
        range: &str,
        version: Option<&Version>,
    ) -> Result<Part, Trouble> {
        let found = self.found();
        let url = found.as_ref().unwrap_or(&self.url);
        let asked = self.ask(client, url, range, version).await;
        if found.is_some() && matches!(asked, Err(Trouble::Passing(_))) {
            self.forget(url);
        }
        asked
    }

    async fn ask(
        &self,
        client: &Client,
        url: &Url,
        range: &str,
        version: Option<&Version>,
    ) -> Result<Part, Trouble> {
        let replaced = "the image was replaced while it was fetched; begin again";
        let is_own = url.origin() == self.url.origin();
        let (user, password) = (self.with_login.username(), self.with_login.password());
        let to = if is_own { with_login_of(url.clone(), user, password) } else { url.clone() };
        let mut request = client.get(to).header(header::RANGE, range);
        let etag = version.and_then(|version| version.etag.as_deref());
        if let Some(etag) = etag {
            request = request.header(header::IF_RANGE, etag);
        }
        let response = timeout(STALL, request.send())
            .await
            .map_err(|_| Trouble::Passing("the server does not answer the request".into()))?
            .map_err(trouble)?;
        let was_sent_on = *response.url() != self.url;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK if etag.is_some() => return Err(Trouble::Fatal(replaced.into())),
            StatusCode::OK => {
                return Err(Trouble::Fatal("the server does not serve ranges".into()));
            }
            status if bty_fetch::is_passing(status) => {
                return Err(Trouble::Passing(format!("the server says {status}")));
            }
            // It was good before, so the address is what is not good any more.
            status if version.is_some() && was_sent_on => {
                return Err(Trouble::Passing(format!("where it was sent to it says {status}")));
            }
            status => return Err(Trouble::Fatal(format!("the server says {status}"))),
        }
        if response.url() != url {
            self.find(response.url().clone());
        }
        let part = Part::of(response, !was_sent_on)?;
        if version.is_some_and(|version| *version != part.version) {
            return Err(Trouble::Fatal(replaced.into()));
        }
        Ok(part)
    }

    fn found(&self) -> Option<Url> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, url: Url) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(url);
    }

    /// What is no good any more, unless another lane has found another one meanwhile.
    fn forget(&self, url: &Url) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).take_if(|found| found == url);
    }
}

/// A URL with this user and password.
fn with_login_of(mut url: Url, user: &str, password: Option<&str>) -> Url {
    // These fail only for URLs without a host.
    let _ = url.set_username(user);
    let _ = url.set_password(password);
    url
}

/// A URL as it may be shown; one that is none isn't shown at all.
pub(in crate::supply) fn named(text: &str) -> String {
    bty_fetch::url(text)
        .map_or_else(|_| "the URL".to_owned(), |url| bty_fetch::without_secrets(&url))
}

impl Part {
    fn of(response: Response, keeps_tag: bool) -> Result<Self, Trouble> {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        // A weak tag never fits If-Range (RFC 9110, section 13.1.5).
        let etag = text(header::ETAG)
            .filter(|etag| keeps_tag && !etag.starts_with("W/"))
            .map(str::to_owned);
        let range = text(header::CONTENT_RANGE).and_then(parse_content_range);
        let (first, last, total_bytes) = range
            .ok_or_else(|| Trouble::Fatal("the server does not say which bytes it sends".into()))?;
        let version = Version { total_bytes, etag };
        Ok(Self { start: first, bytes: last - first + 1, version, response })
    }
}

/// Before the next try.
pub(super) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(250 << attempt.min(5)).min(MAX_PAUSE)
}

/// The next data of a body; `None` at its end. A server that says nothing for too long is a broken connection.
async fn next_bytes(response: &mut Response) -> Result<Option<Bytes>, Trouble> {
    let asked = Instant::now();
    let next = timeout(STALL, response.chunk()).await.map_err(|_| {
        Trouble::Passing(format!("nothing came for {} s", asked.elapsed().as_secs()))
    })?;
    next.map_err(trouble)
}

fn trouble(problem: reqwest::Error) -> Trouble {
    let is_lasting = bty_fetch::is_lasting(&problem);
    let problem = shown(problem);
    if is_lasting { Trouble::Fatal(problem) } else { Trouble::Passing(problem) }
}

/// Whom it happened with, and what is at the bottom of it.
fn shown(problem: reqwest::Error) -> String {
    let host = problem.url().and_then(Url::host_str).map(|host| format!("{host}: "));
    let problem = problem.without_url();
    let mut reason = problem.source();
    while let Some(deeper) = reason.and_then(std::error::Error::source) {
        reason = Some(deeper);
    }
    let reason = reason.map_or_else(|| problem.to_string(), ToString::to_string);
    format!("{}{reason}", host.unwrap_or_default())
}
