//! A small HTTP server of one file, with the faults that real ones have.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What is wrong with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// The server is not ready.
    Unavailable,
    /// It knows no ranges.
    NoRanges,
    /// It sends another range than was asked for.
    OtherRange,
    /// It has no such file.
    NotFound,
    /// The connection ends before an answer.
    HangUp,
}

/// A server of one file.
pub(crate) struct Server {
    address: String,
    state: Arc<State>,
}

struct State {
    file: Mutex<(Vec<u8>, Option<String>)>,
    /// What is wrong with each request, in order; after the last, nothing.
    faults: Vec<Fault>,
    requests: AtomicUsize,
    /// Bytes of the file that were sent.
    sent: AtomicUsize,
    /// The byte that is sent with a bit flipped, and how often it is still.
    lie: Option<(usize, AtomicUsize)>,
    /// How often it was.
    lies: AtomicUsize,
    /// After so many requests this file, with this tag, takes the place of the first.
    replacement: Option<(usize, Vec<u8>, Option<String>)>,
}

impl Server {
    /// Serves the bytes with these faults.
    pub(crate) fn new(file: Vec<u8>, faults: Vec<Fault>) -> Self {
        Self::start(file, Some("\"one\""), faults, None, None)
    }

    /// Serves the bytes, but for one of them, which has a bit flipped the first so many times that it is sent.
    pub(crate) fn lying(file: Vec<u8>, at: usize, times: usize) -> Self {
        Self::start(file, Some("\"one\""), Vec::new(), None, Some((at, AtomicUsize::new(times))))
    }

    /// Serves the bytes, and after so many requests others. `tags` are their entity tags.
    pub(crate) fn replacing(
        file: Vec<u8>,
        after: usize,
        other: Vec<u8>,
        tags: [Option<&str>; 2],
    ) -> Self {
        let replacement = Some((after, other, tags[1].map(str::to_owned)));
        Self::start(file, tags[0], Vec::new(), replacement, None)
    }

    fn start(
        file: Vec<u8>,
        tag: Option<&str>,
        faults: Vec<Fault>,
        replacement: Option<(usize, Vec<u8>, Option<String>)>,
        lie: Option<(usize, AtomicUsize)>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            file: Mutex::new((file, tag.map(str::to_owned))),
            faults,
            requests: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            lie,
            lies: AtomicUsize::new(0),
            replacement,
        });
        let shared = Arc::clone(&state);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.answer(stream));
            }
        });
        Self { address, state }
    }

    /// `ADDRESS:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where the file is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/images/x.img.zst", self.address)
    }

    /// Bytes of the file that were sent so far.
    pub(crate) fn sent(&self) -> usize {
        self.state.sent.load(Ordering::Relaxed)
    }

    /// How often the wrong byte was sent so far.
    pub(crate) fn lies(&self) -> usize {
        self.state.lies.load(Ordering::Relaxed)
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }
}

impl State {
    /// Flips a bit of the wrong byte where it is in this range and the server still lies.
    fn lie(&self, bytes: &mut [u8], range: std::ops::RangeInclusive<usize>) {
        let Some((at, times)) = self.lie.as_ref().filter(|(at, _)| range.contains(at)) else {
            return;
        };
        let is_left = |times: usize| times.checked_sub(1);
        if times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_left).is_ok() {
            bytes[*at] ^= 1 << (at % 8);
            self.lies.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One request; then the connection ends. `None` where the client went away.
    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let (mut range, mut if_range) = (None, None);
        for line in BufReader::new(stream.try_clone().ok()?).lines() {
            let line = line.ok()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            range = line.strip_prefix("range: bytes=").map(str::to_owned).or(range);
            if_range = line.strip_prefix("if-range: ").map(str::to_owned).or(if_range);
        }
        let mut file = self.file.lock().unwrap();
        if let Some((after, other, tag)) = &self.replacement
            && number >= *after
        {
            *file = (other.clone(), tag.clone());
        }
        let (mut bytes, tag) = file.clone();
        drop(file);
        let fault = self.faults.get(number).copied().unwrap_or(Fault::None);
        let status = match fault {
            Fault::HangUp => return None,
            Fault::Unavailable => Some("503 Service Unavailable"),
            Fault::NotFound => Some("404 Not Found"),
            _ => None,
        };
        if let Some(status) = status {
            return write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").ok();
        }
        let tag_line = tag.as_ref().map(|tag| format!("etag: {tag}\r\n")).unwrap_or_default();
        let fits = if_range.is_none() || if_range == tag;
        if fault == Fault::NoRanges || !fits {
            write!(stream, "HTTP/1.1 200 OK\r\n{tag_line}content-length: {}\r\n\r\n", bytes.len())
                .ok()?;
            return stream.write_all(&bytes).ok();
        }
        let (first, last) = asked(&range?, bytes.len())?;
        let shift = usize::from(fault == Fault::OtherRange);
        let (first, last) = (first.checked_sub(shift)?, last - shift);
        self.lie(&mut bytes, first..=last);
        let body = &bytes[first..=last];
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\n{tag_line}content-range: bytes {first}-{last}/{}\r\ncontent-length: {}\r\n\r\n",
            bytes.len(),
            body.len()
        )
        .ok()?;
        let sent =
            if let Fault::Cut(after) = fault { &body[..after.min(body.len())] } else { body };
        for piece in sent.chunks(1 << 16) {
            stream.write_all(piece).ok()?;
            self.sent.fetch_add(piece.len(), Ordering::Relaxed);
            // Some 100 MB a second: a network, and not this machine's memory.
            std::thread::sleep(Duration::from_micros(600));
        }
        Some(())
    }
}

/// First and last byte of `FIRST-[LAST]` or `-COUNT`.
fn asked(range: &str, size: usize) -> Option<(usize, usize)> {
    let (first, last) = range.split_once('-')?;
    if first.is_empty() {
        let count: usize = last.parse().ok()?;
        return Some((size.saturating_sub(count), size - 1));
    }
    let last = last.parse().unwrap_or(size - 1);
    Some((first.parse().ok()?, last))
}
