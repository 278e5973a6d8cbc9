//! A container at an HTTP server: its index by two Range requests, then its frames, a request for each run of them, by several
//! connections that are kept.
//!
//! Host names are not looked up: the agent is linked without a resolver and is always given an address.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bty_image::container::{Index, IndexError, TAIL_BYTES, locate};
use bty_types::ImageId;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime::Runtime, time::timeout};

use super::{Container, Frames, SupplyError};

/// Nothing heard for so long means that the connection is dead.
const STALL: Duration = Duration::from_secs(30);
/// Tries in a row without a byte of progress.
const TRIES: u32 = 8;
/// Between two tries, at most.
const MAX_PAUSE: Duration = Duration::from_secs(8);
/// How much of an index is taken into memory: that of a disk of 12 TiB in the chunks that large disks have.
const MAX_INDEX_BYTES: u64 = 512 << 20;
/// Requests at a time: while one waits for the server, others are on their way, are unpacked or written.
const LANES: usize = 4;

/// A container at a server.
#[derive(Debug)]
pub struct ContainerHttp {
    place: Place,
    index: Index,
    version: Version,
    is_pinned: bool,
    fetched_bytes: AtomicU64,
    retried_requests: AtomicU64,
}

/// Which file it is, so that one that is replaced in the middle is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    total_bytes: u64,
    /// Its strong entity tag, where the server gives one.
    etag: Option<String>,
}

/// A part of a file, as a server sends it.
#[derive(Debug)]
struct Part {
    start: u64,
    bytes: u64,
    version: Version,
    body: Incoming,
}

/// Where the container is.
#[derive(Debug, Clone)]
struct Place {
    url: String,
    address: SocketAddr,
    path: String,
    host: String,
}

/// A connection to the server, where there is one.
type Connection = Option<SendRequest<Empty<Bytes>>>;

/// One connection's worth of requests.
struct HttpFrames<'a> {
    container: &'a ContainerHttp,
    runtime: Runtime,
    connection: Connection,
}

impl ContainerHttp {
    /// Reads the index of the container at this `http://ADDRESS[:PORT]/PATH`. With a digest the index must have it.
    pub fn open(url: &str, index_digest: Option<ImageId>) -> Result<Self, SupplyError> {
        let place = Place::parse(url)?;
        let (index, version, fetched_bytes) = place.runtime()?.block_on(place.index())?;
        if let Some(wanted) = index_digest.filter(|&wanted| wanted != index.digest()) {
            return Err(SupplyError::WrongIndex { wanted, found: index.digest() });
        }
        let (is_pinned, fetched_bytes) = (index_digest.is_some(), AtomicU64::new(fetched_bytes));
        let retried_requests = AtomicU64::new(0);
        Ok(Self { place, index, version, is_pinned, fetched_bytes, retried_requests })
    }
}

impl Container for ContainerHttp {
    fn index(&self) -> &Index {
        &self.index
    }

    fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    fn frames(&self) -> Result<Box<dyn Frames + '_>, SupplyError> {
        let runtime = self.place.runtime()?;
        Ok(Box::new(HttpFrames { container: self, runtime, connection: None }))
    }

    fn lanes(&self, processors: usize) -> usize {
        LANES.max(processors + 1)
    }

    fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    fn retried_requests(&self) -> u64 {
        self.retried_requests.load(Ordering::Relaxed)
    }
}

impl Frames for HttpFrames<'_> {
    fn read(&mut self, offset: u64, room: &mut [u8]) -> Result<(), SupplyError> {
        let Self { container, runtime, connection } = self;
        let place = &container.place;
        let (mut filled, mut tries) = (0, 0);
        while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let from = offset + filled as u64;
            let mut came = 0;
            let part = place.fill(connection, from, rest, &container.version, &mut came);
            let outcome = runtime.block_on(part);
            container.fetched_bytes.fetch_add(came as u64, Ordering::Relaxed);
            filled += came;
            match outcome {
                Ok(()) => {}
                Err(Trouble::Fatal(fatal)) => return Err(place.failed(fatal)),
                Err(Trouble::Passing(problem)) => {
                    *connection = None;
                    tries = if came > 0 { 1 } else { tries + 1 };
                    if tries >= TRIES {
                        return Err(place.failed(format!("{problem} ({TRIES} tries)")));
                    }
                    container.retried_requests.fetch_add(1, Ordering::Relaxed);
                    // A connection that was kept may have been given up by the server: at first no time is lost on it.
                    if tries > 1 {
                        runtime.block_on(async { tokio::time::sleep(pause(tries)).await });
                    }
                }
            }
        }
        Ok(())
    }

    fn distrust(&mut self) {
        self.connection = None;
    }
}

/// Why a request got no further.
#[derive(Debug)]
enum Trouble {
    /// Asking again may help.
    Passing(String),
    /// It won't.
    Fatal(String),
}

impl Place {
    fn parse(url: &str) -> Result<Self, SupplyError> {
        let wrong =
            |problem: &str| SupplyError::Http { url: url.to_owned(), problem: problem.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("only http:// is fetched here; the chunks prove themselves"));
        }
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let address = host
            .parse()
            .or_else(|_| format!("{host}:80").parse())
            .map_err(|_| wrong("its host is no IP address; names are not looked up here"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { url: url.to_owned(), address, path, host })
    }

    fn failed(&self, problem: String) -> SupplyError {
        SupplyError::Http { url: self.url.clone(), problem }
    }

    fn runtime(&self) -> Result<Runtime, SupplyError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|problem| self.failed(problem.to_string()))
    }

    /// Fills `room` from this offset; `came` says how much of it is filled, whatever the outcome.
    async fn fill(
        &self,
        connection: &mut Connection,
        from: u64,
        room: &mut [u8],
        version: &Version,
        came: &mut usize,
    ) -> Result<(), Trouble> {
        let range = format!("bytes={from}-{}", from + room.len() as u64 - 1);
        let mut part = self.request(connection, &range, Some(version)).await?;
        if (part.start, part.bytes) != (from, room.len() as u64) {
            return Err(Trouble::Fatal(format!(
                "the server sends {} bytes from byte {}, and {range} was asked for",
                part.bytes, part.start
            )));
        }
        while let Some(bytes) = next_bytes(&mut part.body).await? {
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
    async fn index(&self) -> Result<(Index, Version, u64), SupplyError> {
        let (tail, version) =
            self.patiently(&format!("bytes=-{TAIL_BYTES}"), TAIL_BYTES, None).await?;
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
            let (content, _) = self.patiently(&range, size, Some(&version)).await?;
            fetched += size;
            content
        };
        Ok((Index::parse(content, place.start)?, version, fetched))
    }

    /// A range of at most so many bytes as a whole, asked for several times if need be.
    async fn patiently(
        &self,
        range: &str,
        most: u64,
        version: Option<&Version>,
    ) -> Result<(Vec<u8>, Version), SupplyError> {
        let mut problem = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(pause(attempt)).await;
            }
            match self.whole(range, most, version).await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Fatal(fatal)) => return Err(self.failed(fatal)),
                Err(Trouble::Passing(passing)) => problem = passing,
            }
        }
        Err(self.failed(format!("{problem} ({TRIES} tries)")))
    }

    async fn whole(
        &self,
        range: &str,
        most: u64,
        version: Option<&Version>,
    ) -> Result<(Vec<u8>, Version), Trouble> {
        let mut part = self.request(&mut None, range, version).await?;
        if part.bytes > most {
            return Err(Trouble::Fatal(format!(
                "the server sends {} bytes for {range}",
                part.bytes
            )));
        }
        let mut content = Vec::new();
        while let Some(bytes) = next_bytes(&mut part.body).await? {
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

    /// Asks for a range, of the file of this version where one is given, by this connection or a new one.
    async fn request(
        &self,
        connection: &mut Connection,
        range: &str,
        version: Option<&Version>,
    ) -> Result<Part, Trouble> {
        let passing = |problem: String| Trouble::Passing(problem);
        let replaced = "the image was replaced while it was fetched; begin again";
        // A server may end a connection that was idle at any time.
        if let Some(sender) = connection.as_mut()
            && (sender.is_closed() || !matches!(timeout(STALL, sender.ready()).await, Ok(Ok(()))))
        {
            *connection = None;
        }
        let mut sender = match connection.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut request =
            Request::get(&self.path).header(header::HOST, &self.host).header(header::RANGE, range);
        let etag = version.and_then(|version| version.etag.as_deref());
        if let Some(etag) = etag {
            request = request.header(header::IF_RANGE, etag);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|problem| Trouble::Fatal(problem.to_string()))?;
        let response = timeout(STALL, sender.send_request(request))
            .await
            .map_err(|_| passing("the server does not answer the request".into()))?
            .map_err(|problem| passing(problem.to_string()))?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK if etag.is_some() => return Err(Trouble::Fatal(replaced.into())),
            StatusCode::OK => {
                return Err(Trouble::Fatal("the server does not serve ranges".into()));
            }
            status if status.is_server_error() => {
                return Err(passing(format!("the server says {status}")));
            }
            status => return Err(Trouble::Fatal(format!("the server says {status}"))),
        }
        let part = Part::of(response)?;
        if version.is_some_and(|version| *version != part.version) {
            return Err(Trouble::Fatal(replaced.into()));
        }
        *connection = Some(sender);
        Ok(part)
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, Trouble> {
        let stream = timeout(STALL, TcpStream::connect(self.address))
            .await
            .map_err(|_| Trouble::Passing(format!("{} does not answer", self.address)))?
            .map_err(|problem| {
                Trouble::Passing(format!("connecting to {}: {problem}", self.address))
            })?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|problem| Trouble::Passing(problem.to_string()))?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

impl Part {
    fn of(response: Response<Incoming>) -> Result<Self, Trouble> {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        // A weak tag never fits If-Range (RFC 9110, section 13.1.5).
        let etag = text(header::ETAG).filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
        let range = text(header::CONTENT_RANGE).and_then(parse_content_range);
        let (first, last, total_bytes) = range
            .ok_or_else(|| Trouble::Fatal("the server does not say which bytes it sends".into()))?;
        let version = Version { total_bytes, etag };
        Ok(Self { start: first, bytes: last - first + 1, version, body: response.into_body() })
    }
}

/// Before the next try.
fn pause(attempt: u32) -> Duration {
    Duration::from_millis(250 << attempt.min(5)).min(MAX_PAUSE)
}

/// The next data of a body; `None` at its end. A server that says nothing for too long is a broken connection.
async fn next_bytes(body: &mut Incoming) -> Result<Option<Bytes>, Trouble> {
    let asked = Instant::now();
    loop {
        let frame = timeout(STALL, body.frame()).await.map_err(|_| {
            Trouble::Passing(format!("nothing came for {} s", asked.elapsed().as_secs()))
        })?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|problem| Trouble::Passing(problem.to_string()))?;
        // Trailers have no data.
        if let Ok(bytes) = frame.into_data()
            && !bytes.is_empty()
        {
            return Ok(Some(bytes));
        }
    }
}

/// First and last byte and the size of the whole, from `Content-Range: bytes FIRST-LAST/SIZE` (RFC 9110, section 14.4).
fn parse_content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_addresses_are_fetched_from() {
        let place = Place::parse("http://10.77.0.1/images/x.img.zst").unwrap();
        assert_eq!(
            (place.address.to_string(), place.path.as_str()),
            ("10.77.0.1:80".into(), "/images/x.img.zst")
        );
        assert_eq!(Place::parse("http://10.0.0.1:8080/x").unwrap().address.port(), 8080);
        for url in ["https://10.0.0.1/x", "http://example.org/x", "x", "ftp://10.0.0.1/"] {
            assert!(Place::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_content_range_that_contradicts_itself_is_refused() {
        assert_eq!(parse_content_range("bytes 0-9/10"), Some((0, 9, 10)));
        for value in ["bytes 0-10/10", "bytes 5-4/10", "bytes */10", "bytes 0-9/*", "0-9/10", ""] {
            assert_eq!(parse_content_range(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_content_range_is_read_or_refused(value: String) {
            let _ = parse_content_range(&value);
        }
    }
}
