//! A part of a file as a body that never holds it.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::pieces::{PIECE_BYTES, Piece, Pieces, stand_in};
use crate::files::FilePart;

/// Stand-ins for a part of a file, for the connection with these pieces.
#[derive(Debug)]
pub(crate) struct DirectBody {
    /// What has not been given away.
    part: FilePart,
    pieces: Pieces,
}

impl DirectBody {
    /// The body of this part. Only a [`DirectStream`](super::DirectStream) with the same pieces can send it, beneath HTTP/1.
    pub(crate) fn new(part: FilePart, pieces: Pieces) -> Self {
        Self { part, pieces }
    }
}

impl Body for DirectBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = &mut self.part;
        let left = usize::try_from(part.bytes.end - part.bytes.start).unwrap_or(usize::MAX);
        let bytes = left.min(PIECE_BYTES);
        if bytes == 0 {
            return Poll::Ready(None);
        }
        let piece = Piece { file: Arc::clone(&part.file), offset: part.bytes.start, bytes };
        part.bytes.start += bytes as u64;
        self.pieces.push(piece);
        Poll::Ready(Some(Ok(Frame::data(stand_in(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.part.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.part.bytes.end - self.part.bytes.start)
    }
}
