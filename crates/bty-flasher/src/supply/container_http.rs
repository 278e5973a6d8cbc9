//! A container at an HTTP server: its index by two Range requests, then its frames as one stream that is taken up again where it
//! breaks off.
//!
//! Host names are not looked up: the agent is linked without a resolver and is always given an address.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bty_image::container::{Index, IndexError, TAIL_BYTES, locate};
use bty_types::ImageId;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime::Runtime, time::timeout};

use super::{Payload, Piece, Supply, SupplyError, holes};

/// Nothing heard for so long means that the connection is dead.
const STALL: Duration = Duration::from_secs(30);
/// Tries in a row without a byte of progress.
const TRIES: u32 = 8;
/// Between two tries, at most.
const MAX_PAUSE: Duration = Duration::from_secs(8);
/// How much of an index is taken into memory: that of a disk of 3 TiB in small chunks.
const MAX_INDEX_BYTES: u64 = 512 << 20;

/// Chunks of a container at a server.
#[derive(Debug)]
pub struct ContainerHttp {
    runtime: Runtime,
    place: Place,
    index: Index,
    version: Version,
    next: u64,
    stream: Option<Stream>,
    fetched_bytes: u64,
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

/// A response whose body is read.
#[derive(Debug)]
struct Stream {
    body: Incoming,
    /// What was received and not taken yet.
    buffer: Bytes,
    /// Where in the container `buffer` begins.
    offset: u64,
}

impl ContainerHttp {
    /// Reads the index of the container at this `http://ADDRESS[:PORT]/PATH`. With a digest the index must have it.
    pub fn open(url: &str, index_digest: Option<ImageId>) -> Result<Self, SupplyError> {
        let place = Place::parse(url)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|problem| place.failed(problem.to_string()))?;
        let (index, version, fetched_bytes) = runtime.block_on(place.index())?;
        if let Some(wanted) = index_digest.filter(|&wanted| wanted != index.digest()) {
            return Err(SupplyError::WrongIndex { wanted, found: index.digest() });
        }
        Ok(Self { runtime, place, index, version, next: 0, stream: None, fetched_bytes })
    }

    /// The bytes of a frame. The stream goes on from the last one; what lies between (frames of holes) is read over.
    fn frame(&mut self, offset: u64, size: u64) -> Result<Vec<u8>, SupplyError> {
        let mut frame = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let mut tries = 0;
        let mut problem = String::new();
        let end = offset + size;
        while tries < TRIES {
            let from = offset + u64::try_from(frame.len()).unwrap_or_default();
            if from == end {
                return Ok(frame);
            }
            match self.runtime.block_on(continue_frame(
                &self.place,
                &mut self.stream,
                &self.version,
                from,
                end,
            )) {
                Ok(bytes) => {
                    self.fetched_bytes += u64::try_from(bytes.len()).unwrap_or_default();
                    frame.extend_from_slice(&bytes);
                    tries = 0;
                }
                Err(Trouble::Fatal(fatal)) => return Err(self.place.failed(fatal)),
                Err(Trouble::Passing(passing)) => {
                    self.stream = None;
                    problem = passing;
                    std::thread::sleep(pause(tries));
                    tries += 1;
                }
            }
        }
        Err(self.place.failed(format!("{problem} ({TRIES} tries)")))
    }
}

impl Supply for ContainerHttp {
    fn chunk_bytes(&self) -> u32 {
        self.index.chunk_bytes()
    }

    fn raw_bytes(&self) -> Option<u64> {
        Some(self.index.raw_bytes())
    }

    fn id(&self) -> Option<ImageId> {
        Some(self.index.id())
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, SupplyError> {
        let Some(chunk) = self.index.chunk(self.next) else { return Ok(None) };
        let piece = if chunk.is_hole {
            holes::from(&self.index, chunk)
        } else {
            let frame = self.frame(chunk.frame_offset, chunk.frame_bytes.into())?;
            Piece {
                number: chunk.number,
                raw_offset: chunk.raw_offset,
                raw_bytes: chunk.raw_bytes.into(),
                is_whole_disk: chunk.is_whole_disk,
                payload: Payload::Frame(chunk, frame),
            }
        };
        self.next += holes::chunks(&piece);
        Ok(Some(piece))
    }

    fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes
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
        Ok((Index::parse(&content, place.start)?, version, fetched))
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
        let mut part = self.request(range, version).await?;
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

    /// Asks for a range, of the file of this version where one is given.
    async fn request(&self, range: &str, version: Option<&Version>) -> Result<Part, Trouble> {
        let passing = |problem: String| Trouble::Passing(problem);
        let replaced = "the image was replaced while it was fetched; begin again";
        let stream = timeout(STALL, TcpStream::connect(self.address))
            .await
            .map_err(|_| passing(format!("{} does not answer", self.address)))?
            .map_err(|problem| passing(format!("connecting to {}: {problem}", self.address)))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|problem| passing(problem.to_string()))?;
        tokio::spawn(connection);
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
        Ok(part)
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

/// Goes on with a frame from `from`, to `end` at most: some bytes of it.
async fn continue_frame(
    place: &Place,
    stream: &mut Option<Stream>,
    version: &Version,
    from: u64,
    end: u64,
) -> Result<Bytes, Trouble> {
    // Reading over a few KiB of hole frames is cheaper than a new request; over more, it is not.
    if stream
        .as_ref()
        .is_some_and(|stream| stream.offset > from || from - stream.offset > TAIL_BYTES)
    {
        *stream = None;
    }
    if stream.is_none() {
        let part = place.request(&format!("bytes={from}-"), Some(version)).await?;
        if part.start != from {
            return Err(Trouble::Fatal(format!(
                "the server sends from byte {}, and {from} was asked for",
                part.start
            )));
        }
        *stream = Some(Stream { body: part.body, buffer: Bytes::new(), offset: from });
    }
    let Some(open) = stream else { return Err(Trouble::Passing("no connection".into())) };
    loop {
        let skip = usize::try_from(from - open.offset).unwrap_or(usize::MAX).min(open.buffer.len());
        let _ = open.buffer.split_to(skip);
        open.offset += u64::try_from(skip).unwrap_or_default();
        if open.offset == from && !open.buffer.is_empty() {
            let wanted = usize::try_from(end - from).unwrap_or(usize::MAX).min(open.buffer.len());
            open.offset += u64::try_from(wanted).unwrap_or_default();
            return Ok(open.buffer.split_to(wanted));
        }
        open.buffer = next_bytes(&mut open.body)
            .await?
            .ok_or_else(|| Trouble::Passing("the connection broke off".into()))?;
    }
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
