//! Connecting to a daemon's unix socket.

use std::{
    io,
    path::{Path, PathBuf},
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Where a daemon's API socket is below the run folder: `<run>/<daemon>/api.sock`, such as `/run/bty/registry/api.sock`.
pub fn socket_path(run_dir: &Path, daemon: &str) -> PathBuf {
    run_dir.join(daemon).join("api.sock")
}

/// A channel to the daemon that listens on this socket.
///
/// Connects at the first call and again after the daemon has restarted; calls fail with `UNAVAILABLE` while it is away.
pub fn unix(socket: impl Into<PathBuf>) -> Channel {
    let socket = socket.into();
    // The URI names no host that is looked up: it becomes the `:authority` of each request.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(
        move |_: Uri| {
            let socket = socket.clone();
            async move {
                let named = |problem: io::Error| {
                    let socket = socket.display();
                    io::Error::new(problem.kind(), format!("connecting to {socket}: {problem}"))
                };
                UnixStream::connect(&socket).await.map(TokioIo::new).map_err(named)
            }
        },
    ))
}
