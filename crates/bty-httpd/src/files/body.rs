//! A part of a file as the body of a response: large reads, off the runtime, one ahead of the network.
//!
//! It goes over every connection. Most take the [`FileParts`] instead and need no copy; see [`crate::direct`].

use std::{
    collections::VecDeque,
    fs::File,
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use rustix::{buffer::spare_capacity, io::pread};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes in one read. One chunk is being sent while the next is read, so a response holds two or three of them: with 64 machines that
/// load at the same time, chunks of 1 MiB were 150 MB and no faster.
pub(super) const CHUNK_BYTES: u64 = 1 << 18;

/// A part of a file.
#[derive(Debug, Clone)]
pub(crate) struct FilePart {
    pub(crate) file: Arc<File>,
    pub(crate) bytes: Range<u64>,
}

impl FilePart {
    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}

/// Parts of files, one behind the other: an extension of the response whose body they are.
#[derive(Debug, Clone)]
pub(crate) struct FileParts(pub(crate) VecDeque<FilePart>);

impl FileParts {
    /// Their length together, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.0.iter().map(FilePart::length).sum()
    }
}

/// A part of a file, read.
pub(super) struct FileBody {
    file: Arc<File>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// What has not been asked for.
    unread: Range<u64>,
    /// Bytes not yet given away.
    left: u64,
}

impl FileBody {
    /// The body of this part. Nothing is read before it is asked for.
    pub(super) fn new(part: FilePart) -> Self {
        let left = part.length();
        Self { file: part.file, reading: None, unread: part.bytes, left }
    }

    fn read_ahead(&mut self) {
        if self.unread.is_empty() {
            return;
        }
        let chunk = first_chunk(&self.unread);
        self.unread.start = chunk.end;
        let file = Arc::clone(&self.file);
        self.reading = Some(spawn_blocking(move || read(&file, &chunk)));
    }
}

fn first_chunk(bytes: &Range<u64>) -> Range<u64> {
    // Whole chunks at whole offsets, so that readahead and the page cache work in step.
    let end = (bytes.start / CHUNK_BYTES + 1) * CHUNK_BYTES;
    bytes.start..end.min(bytes.end)
}

fn read(file: &File, bytes: &Range<u64>) -> io::Result<Bytes> {
    let wanted = usize::try_from(bytes.end - bytes.start).map_err(io::Error::other)?;
    let mut chunk = Vec::with_capacity(wanted);
    while chunk.len() < wanted {
        let offset = bytes.start + chunk.len() as u64;
        match pread(file, spare_capacity(&mut chunk), offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    // The allocator may give more than was asked for, and the file may have grown.
    chunk.truncate(wanted);
    Ok(chunk.into())
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.reading.is_none() {
            self.read_ahead();
        }
        let Some(reading) = self.reading.as_mut() else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let chunk = match read.unwrap_or_else(|stopped| Err(io::Error::other(stopped))) {
            Ok(chunk) => chunk,
            Err(problem) => return Poll::Ready(Some(Err(problem))),
        };
        self.left -= chunk.len() as u64;
        self.read_ahead();
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
