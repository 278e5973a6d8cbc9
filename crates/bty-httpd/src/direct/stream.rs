//! A connection that sends files' bytes where hyper writes what stands in for them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::{
    fs::sendfile,
    net::{SendAncillaryBuffer, SendFlags, sendmsg},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    cached::{fetch, is_cached},
    pieces::{Piece, Pieces, stands_in},
};

/// A TCP connection and what is to be sent by it.
#[derive(Debug)]
pub(crate) struct DirectStream {
    stream: TcpStream,
    pieces: Pieces,
    /// The next piece is being read from the disk.
    fetching: Option<JoinHandle<io::Result<()>>>,
}

impl DirectStream {
    /// The connection, for bodies with the same pieces.
    pub(crate) fn new(stream: TcpStream, pieces: Pieces) -> Self {
        Self { stream, pieces, fetching: None }
    }

    /// Sends of the next piece, at most so many bytes: hyper's, not more than its body is said to have.
    fn poll_piece(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let Some(mut piece) = self.pieces.next() else {
            return Poll::Ready(Err(io::Error::other("bytes stand in for no file's")));
        };
        piece.bytes = piece.bytes.min(most);
        // First a place to send it to: until a slow client has one, the kernel may have dropped what it had read.
        ready!(self.stream.poll_write_ready(context))?;
        ready!(self.poll_cached(context, &piece))?;
        let sent = ready!(poll_io(&self.stream, context, || {
            let mut offset = piece.offset;
            Ok(sendfile(&self.stream, &piece.file, Some(&mut offset), piece.bytes)?)
        }))?;
        if sent == 0 {
            let why = "a file became shorter while it was sent";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
        }
        self.pieces.sent(sent);
        Poll::Ready(Ok(sent))
    }

    /// Ready when the piece is in the kernel's memory, or at least has just been.
    fn poll_cached(&mut self, context: &mut Context<'_>, piece: &Piece) -> Poll<io::Result<()>> {
        let bytes = piece.offset..piece.offset + piece.bytes as u64;
        if self.fetching.is_none() {
            if is_cached(&piece.file, bytes.clone()) {
                return Poll::Ready(Ok(()));
            }
            let file = Arc::clone(&piece.file);
            self.fetching = Some(spawn_blocking(move || fetch(&file, bytes)));
        }
        let Some(fetching) = &mut self.fetching else { return Poll::Ready(Ok(())) };
        let fetched = ready!(Pin::new(fetching).poll(context));
        self.fetching = None;
        Poll::Ready(fetched.unwrap_or_else(|stopped| Err(io::Error::other(stopped))))
    }
}

/// Does it when the socket takes bytes, and again when it did not.
fn poll_io(
    stream: &TcpStream,
    context: &mut Context<'_>,
    mut send: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match stream.try_io(Interest::WRITABLE, &mut send) {
            Err(problem)
                if matches!(
                    problem.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            done => return Poll::Ready(done),
        }
    }
}

impl AsyncWrite for DirectStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if stands_in(bytes) {
            return self.poll_piece(context, bytes.len());
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(first) = slices.iter().position(|slice| stands_in(slice)) else {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        };
        let (before, from) = slices.split_at(first);
        match from.first() {
            Some(piece) if before.iter().all(|slice| slice.is_empty()) => {
                self.poll_piece(context, piece.len())
            }
            // A head travels in one segment with the first bytes of its body.
            _ => poll_io(&self.stream, context, || {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                Ok(sendmsg(&self.stream, before, &mut SendAncillaryBuffer::default(), flags)?)
            }),
        }
    }

    /// hyper joins what it writes where this is false; a copy of a stand-in is worth nothing.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper has written all that it had. A piece that is left was not sent, so a copy of its stand-in was: better no answer.
        if !self.pieces.is_empty() {
            return Poll::Ready(Err(io::Error::other(
                "a copy of bytes that stand in for a file's",
            )));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for DirectStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
