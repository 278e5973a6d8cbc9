//! Parts of files as a body that never holds them.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::pieces::{PIECE_BYTES, Piece, Pieces, stand_in};
use crate::files::FileParts;

/// Stand-ins for parts of files, for the connection with these pieces.
#[derive(Debug)]
pub(crate) struct DirectBody {
    /// What has not been given away.
    parts: FileParts,
    pieces: Pieces,
}

impl DirectBody {
    /// The body of these parts. Only a [`DirectStream`](super::DirectStream) with the same pieces can send it, beneath HTTP/1.
    pub(crate) fn new(parts: FileParts, pieces: Pieces) -> Self {
        Self { parts, pieces }
    }
}

impl Body for DirectBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.parts.0.front().is_some_and(|part| part.bytes.is_empty()) {
            self.parts.0.pop_front();
        }
        let Some(part) = self.parts.0.front_mut() else { return Poll::Ready(None) };
        let bytes = usize::try_from(part.length()).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let piece = Piece { file: Arc::clone(&part.file), offset: part.bytes.start, bytes };
        part.bytes.start += bytes as u64;
        self.pieces.push(piece);
        Poll::Ready(Some(Ok(Frame::data(stand_in(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.length() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.parts.length())
    }
}
