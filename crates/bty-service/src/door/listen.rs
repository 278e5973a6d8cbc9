//! Opening the doors.

use std::{
    fs, io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::fs::PermissionsExt, unix::net::UnixStream as StdUnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{service::Routes, transport::Server};

use super::gate::{Gate, Gatekeeper};
use crate::{
    context::{Context, SocketError},
    tasks::RunError,
};

/// Calls that one connection may have under way. More wait.
const CALLS_PER_CONNECTION: usize = 64;
/// How often a silent connection is asked whether its peer still lives.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Opens `<run>/api.sock`.
pub(crate) async fn open_unix<S: Send + Sync + 'static>(
    context: &Context<S>,
    routes: Routes,
    gatekeeper: Arc<dyn Gatekeeper>,
) -> Result<(), RunError> {
    let path = context.paths.run.join("api.sock");
    let listener = match context.sockets.take("api").into_iter().next() {
        Some(socket) => from_systemd(socket),
        None => bind(&path),
    };
    let listener = listener.map_err(|source| SocketError::new(&path, source))?;
    let shutdown = context.shutdown().clone();
    context.spawn("unix door", async move {
        server(gatekeeper)
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(listener),
                shutdown.cancelled_owned(),
            )
            .await?;
        Ok(())
    });
    Ok(())
}

/// Opens a TCP port on loopback.
pub(crate) async fn open_tcp<S: Send + Sync + 'static>(
    context: &Context<S>,
    address: SocketAddr,
    routes: Routes,
    gatekeeper: Arc<dyn Gatekeeper>,
) -> Result<(), RunError> {
    let named = address.to_string();
    let listener = match context.sockets.take("api-tcp").into_iter().next() {
        Some(socket) => {
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener))
        }
        None => TcpListener::bind(address).await,
    };
    let listener = listener.map_err(|source| SocketError::new(Path::new(&named), source))?;
    let shutdown = context.shutdown().clone();
    context.spawn("tcp door", async move {
        server(gatekeeper)
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                shutdown.cancelled_owned(),
            )
            .await?;
        Ok(())
    });
    Ok(())
}

type Gated = Server<tower::layer::util::Stack<Gate, tower::layer::util::Identity>>;

fn server(gatekeeper: Arc<dyn Gatekeeper>) -> Gated {
    Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .layer(Gate { gatekeeper })
}

fn from_systemd(socket: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Binds the socket; one that a dead process left is replaced, a live one is not.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if StdUnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process listens there; stop it, or choose another --run-dir",
            ));
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}
