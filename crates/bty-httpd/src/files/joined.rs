//! Several files as one, one behind the other: a live system that has just what its machine needs.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{Method, header},
    response::Response,
};
use bty_service::open_beneath;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::spawn_blocking;

use super::{
    body::{FileBody, FilePart, FileParts},
    served::Folder,
};

/// Answers a GET or HEAD with these files of the folder, in order; `None` where one of them is not there. No ranges and no validators:
/// who asks for it has nothing of it.
pub(crate) async fn serve_joined(
    folder: &Folder,
    paths: Vec<String>,
    method: &Method,
) -> Option<Response> {
    if method != Method::GET && method != Method::HEAD {
        return None;
    }
    let (folder, is_head) = (folder.clone(), method == Method::HEAD);
    let opened = spawn_blocking(move || open_all(&folder, &paths)).await;
    let parts = opened.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    let parts = parts
        .inspect_err(
            |problem| tracing::error!(err = %problem, "a part of a live system could not be read"),
        )
        .ok()??;
    let response = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CACHE_CONTROL, "no-cache, no-transform")
        .header(header::CONTENT_LENGTH, parts.length());
    if is_head {
        return response.body(Body::empty()).ok();
    }
    let body = Body::new(JoinedBody::new(parts.clone()));
    response.extension(parts).body(body).ok()
}

fn open_all(folder: &Folder, paths: &[String]) -> io::Result<Option<FileParts>> {
    let mut parts = VecDeque::with_capacity(paths.len());
    for path in paths {
        let found = open_beneath(folder.path(), path)?;
        let found =
            found.map(|file| file.metadata().map(|metadata| (file, metadata))).transpose()?;
        let Some((file, metadata)) = found.filter(|(_, metadata)| metadata.is_file()) else {
            // Anybody may ask for what there never was.
            tracing::debug!(path, "a part of a live system is absent: the whole one is served");
            return Ok(None);
        };
        parts.push_back(FilePart { file: Arc::new(file), bytes: 0..metadata.len() });
    }
    Ok(Some(FileParts(parts)))
}

/// The files that are left.
struct JoinedBody {
    sending: Option<FileBody>,
    waiting: VecDeque<FilePart>,
    /// Bytes not yet given away.
    left: u64,
}

impl JoinedBody {
    fn new(parts: FileParts) -> Self {
        let left = parts.length();
        Self { sending: None, waiting: parts.0, left }
    }
}

impl http_body::Body for JoinedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(sending) = self.sending.as_mut() {
                match ready!(Pin::new(sending).poll_frame(context)) {
                    None => self.sending = None,
                    Some(Ok(frame)) => {
                        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                        self.left = self.left.saturating_sub(bytes);
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    problem => return Poll::Ready(problem),
                }
            }
            let Some(next) = self.waiting.pop_front() else { return Poll::Ready(None) };
            self.sending = Some(FileBody::new(next));
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
