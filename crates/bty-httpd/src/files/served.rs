//! A folder that is served: only regular files beneath it, whatever a path or a link says.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bty_service::open_beneath;
use tokio::task::spawn_blocking;

use super::{
    body::{FileBody, FilePart, FileParts},
    conditions::{Conditions, Verdict, Version},
    range::Part,
};

/// The longest path below a folder, in bytes.
const MAX_PATH_BYTES: usize = 1024;

/// A folder that is served. It is opened for each request, so it may come later than the daemon, or be replaced.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at this path.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Answers a GET or HEAD for `path` (decoded, without a leading slash) beneath `folder`.
pub(crate) async fn serve(
    folder: &Folder,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    if !is_plain(path) {
        return not_found();
    }
    let conditions = Conditions::read(method, headers);
    let (folder, asked) = (folder.clone(), path.to_owned());
    let answered = spawn_blocking(move || answer(&folder, &asked, &conditions)).await;
    match answered.unwrap_or_else(|stopped| Err(io::Error::other(stopped))) {
        Ok(response) => response,
        Err(problem) => {
            tracing::error!(file = path, err = %problem, "a file could not be read");
            (StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read\n").into_response()
        }
    }
}

/// Names only: no empty, hidden or dotted part, nothing that a terminal would act on.
fn is_plain(path: &str) -> bool {
    path.len() <= MAX_PATH_BYTES
        && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && !path.contains(|sign: char| sign.is_control())
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "no such file\n").into_response()
}

fn answer(folder: &Folder, path: &str, conditions: &Conditions) -> io::Result<Response> {
    let Some(file) = open_beneath(&folder.path, path)? else { return Ok(not_found()) };
    let found = file.metadata()?;
    if !found.is_file() {
        return Ok(not_found());
    }
    let size = found.len();
    let version = version(&found);
    let response = Response::builder()
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, &version.tag)
        .header(header::LAST_MODIFIED, httpdate::fmt_http_date(version.modified))
        // A proxy that compresses would take away the length (RFC 9111 §5.2.2.6).
        .header(header::CACHE_CONTROL, "no-cache, no-transform");
    let (response, bytes) = match conditions.judge(&version, size, SystemTime::now()) {
        Verdict::NotModified => {
            return response
                .status(StatusCode::NOT_MODIFIED)
                .body(Body::empty())
                .map_err(io::Error::other);
        }
        Verdict::Failed => {
            return response
                .status(StatusCode::PRECONDITION_FAILED)
                .body(Body::empty())
                .map_err(io::Error::other);
        }
        Verdict::Send(Part::Unsatisfiable) => {
            return response
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(header::CONTENT_RANGE, format!("bytes */{size}"))
                .body(Body::empty())
                .map_err(io::Error::other);
        }
        Verdict::Send(Part::Whole) => (response, 0..size),
        Verdict::Send(Part::Bytes(bytes)) => {
            let shown = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
            let partial = StatusCode::PARTIAL_CONTENT;
            (response.status(partial).header(header::CONTENT_RANGE, shown), bytes)
        }
    };
    let response = response
        .header(header::CONTENT_TYPE, content_type(Path::new(path)))
        .header(header::CONTENT_LENGTH, bytes.end - bytes.start);
    if conditions.is_head() {
        return response.body(Body::empty()).map_err(io::Error::other);
    }
    let part = FilePart { file: Arc::new(file), bytes };
    let response = response.extension(FileParts([part.clone()].into()));
    response.body(Body::new(FileBody::new(part))).map_err(io::Error::other)
}

/// A file that is replaced has another inode; one that is written to has another time. So equal tags are equal bytes.
fn version(found: &std::fs::Metadata) -> Version {
    let (seconds, nanos) = (found.mtime(), found.mtime_nsec());
    let tag = format!("\"{:x}-{:x}-{seconds:x}.{nanos:x}\"", found.ino(), found.len());
    // The format of HTTP's dates ends at the year 9999, and begins where nobody's file does.
    let seconds = u64::try_from(seconds).unwrap_or(0).min(253_402_300_799);
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let modified = modified + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    Version { tag, modified }
}

fn content_type(path: &Path) -> &'static str {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if ending.eq_ignore_ascii_case("efi") {
        // UEFI HTTP Boot tells boot programs by it (UEFI 2.10 §24.7.3.2).
        "application/efi"
    } else if ending.eq_ignore_ascii_case("ipxe") {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}
