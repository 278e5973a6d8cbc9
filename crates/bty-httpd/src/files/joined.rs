//! Several files as one, one behind the other: a live system that has just what its machine needs.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    pin::Pin,
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
use tokio::task::{JoinHandle, spawn_blocking};

use super::{body::FileBody, served::Folder};

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
    let files = opened.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    let files = files
        .inspect_err(
            |problem| tracing::error!(err = %problem, "a part of a live system could not be read"),
        )
        .ok()??;
    let body = JoinedBody::new(files);
    Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CACHE_CONTROL, "no-cache, no-transform")
        .header(header::CONTENT_LENGTH, body.left)
        .body(if is_head { Body::empty() } else { Body::new(body) })
        .ok()
}

fn open_all(folder: &Folder, paths: &[String]) -> io::Result<Option<Vec<(File, u64)>>> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let Some(file) = open_beneath(folder.path(), path)? else {
            tracing::warn!(path, "a part of a live system is absent: the whole one is served");
            return Ok(None);
        };
        let bytes = file.metadata()?.len();
        files.push((file, bytes));
    }
    Ok(Some(files))
}

/// The files that are left, the first of them being sent.
struct JoinedBody {
    files: VecDeque<(File, u64)>,
    opening: Option<JoinHandle<io::Result<FileBody>>>,
    sending: Option<FileBody>,
    /// Bytes not yet given away.
    left: u64,
}

impl JoinedBody {
    fn new(files: Vec<(File, u64)>) -> Self {
        let left = files.iter().map(|(_, bytes)| bytes).sum();
        Self { files: files.into(), opening: None, sending: None, left }
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
            } else if let Some(opening) = self.opening.as_mut() {
                let opened = ready!(Pin::new(opening).poll(context));
                self.opening = None;
                match opened.unwrap_or_else(|stopped| Err(io::Error::other(stopped))) {
                    Ok(body) => self.sending = Some(body),
                    Err(problem) => return Poll::Ready(Some(Err(problem))),
                }
            } else if let Some((file, bytes)) = self.files.pop_front() {
                // Its first bytes are read with it.
                self.opening = Some(spawn_blocking(move || FileBody::open(file, 0..bytes)));
            } else {
                return Poll::Ready(None);
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
