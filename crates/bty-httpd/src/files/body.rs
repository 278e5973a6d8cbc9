//! A part of a file as the body of a response: large reads, off the runtime, one ahead of the network.

use std::{
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
pub(super) struct FileBody {
    file: Arc<File>,
    /// What has been read and not yet given away.
    ready: Option<Bytes>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// What has not been asked for.
    unread: Range<u64>,
    /// Bytes not yet given away.
    left: u64,
}

impl FileBody {
    /// The body of these bytes; reads the first of them now, so it is called off the runtime.
    pub(super) fn open(file: File, bytes: Range<u64>) -> io::Result<Self> {
        let first = first_chunk(&bytes);
        let ready = read(&file, &first)?;
        let unread = first.end..bytes.end;
        let left = bytes.end - bytes.start;
        Ok(Self { file: Arc::new(file), ready: Some(ready), reading: None, unread, left })
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
        let chunk = match (self.ready.take(), self.reading.as_mut()) {
            (Some(chunk), _) => Ok(chunk),
            (None, Some(reading)) => {
                let read = ready!(Pin::new(reading).poll(context));
                self.reading = None;
                read.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
            }
            (None, None) => return Poll::Ready(None),
        };
        let chunk = match chunk {
            Ok(chunk) if chunk.is_empty() => return Poll::Ready(None),
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
