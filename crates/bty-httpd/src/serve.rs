//! Taking connections: bounded in number, with a time limit for requests' heads, drained at shutdown.

use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    pin::pin,
    sync::{Arc, Once},
    time::Duration,
};

use axum::{Router, body::Body};
use bty_service::{Context, RunError};
use http::{Request, Response, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use prometheus_client::metrics::counter::Counter;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    direct::{DirectBody, DirectStream, Pieces},
    files::FileParts,
    places::Places,
    settings::Settings,
};

/// How long a client may take to send a request's head, or to begin TLS.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that has connected may still take to ask after the daemon was told to stop.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// The most bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// What may be under way to iPXE, in bytes. It says that it has what came out of order, and drops it again when its little memory is
/// full; a server with megabytes under way then waits for seconds, again and again, where the network loses packets. A LAN is
/// full with less.
const IPXE_UNDER_WAY: usize = 64 * 1024;
/// Calls that one HTTP/2 connection may have under way.
const STREAMS_PER_CONNECTION: u32 = 32;

/// The two ends of the connection that a request came by; an extension of every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection {
    /// The client.
    pub(crate) peer: SocketAddr,
    /// The address and port that it reached us by.
    pub(crate) local: SocketAddr,
}

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address} for {name}; is another server there, or does the port need root?")]
struct ListenError {
    name: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Listens: on systemd's socket of this name, or on an own one.
pub(crate) async fn bind(
    context: &Context<Settings>,
    name: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, RunError> {
    let listener = match context.sockets.take(name).into_iter().next() {
        Some(socket) => {
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener))
        }
        None => TcpListener::bind(address).await,
    };
    Ok(listener.map_err(|source| ListenError { name, address, source })?)
}

/// Serves the router on the listener until shutdown.
pub(crate) fn serve(
    context: &Context<Settings>,
    name: &'static str,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    refused: &Counter,
) {
    let places = Arc::new(Semaphore::new(context.settings.max_connections));
    let of_clients = Places::new(context.settings.max_connections_per_client);
    let refused = refused.clone();
    let shutdown = context.shutdown().clone();
    let sessions = context.clone();
    context.spawn(name, async move {
        loop {
            let place = Arc::clone(&places).acquire_owned().await?;
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => return Ok(()),
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                // A client that went away, or no file descriptors for a moment: neither ends the daemon.
                Err(problem) => {
                    tracing::warn!(err = %problem, "taking a connection failed");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Closed at once: a client that waits for an answer tries again, one that fills the table gains nothing.
            let Some(of_client) = of_clients.take(peer.ip()) else {
                tracing::debug!(%peer, "it has as many connections as it may");
                refused.inc();
                continue;
            };
            let (tls, router, shutdown) = (tls.clone(), router.clone(), shutdown.clone());
            sessions.spawn_session("connection", async move {
                if let Err(problem) = session(stream, peer, tls, router, shutdown).await {
                    tracing::debug!(%peer, err = %problem, "a connection ended");
                }
                drop((place, of_client));
            });
        }
    });
}

/// Serves one connection until its client or a shutdown ends it.
pub(crate) async fn session(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    stream.set_nodelay(true)?;
    let connection = Connection { peer, local: stream.local_addr()? };
    match tls {
        None => {
            let socket = stream.as_fd().try_clone_to_owned()?;
            let first_of_ipxe = Once::new();
            let look = move |request: &Request<Incoming>| {
                let agent = request.headers().get(header::USER_AGENT);
                if agent.is_some_and(|agent| agent.as_bytes().starts_with(b"iPXE/")) {
                    // Where it fails, what follows is slow at worst.
                    first_of_ipxe.call_once(|| {
                        let _ = set_socket_send_buffer_size(&socket, IPXE_UNDER_WAY);
                    });
                }
            };
            let pieces = Pieces::default();
            let stream = DirectStream::new(stream, pieces.clone());
            http(stream, connection, router, shutdown, look, Some(pieces)).await
        }
        Some(tls) => {
            let stream = timeout(HEAD_TIMEOUT, tls.accept(stream)).await??;
            http(stream, connection, router, shutdown, |_| (), None).await
        }
    }
}

async fn http<S>(
    stream: S,
    connection: Connection,
    router: Router,
    shutdown: CancellationToken,
    look: impl Fn(&Request<Incoming>) + Send + Sync,
    pieces: Option<Pieces>,
) -> Result<(), RunError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        // GRUB and old firmware know `Content-Length` in this spelling only.
        .title_case_headers(true)
        .max_buf_size(HEAD_BYTES.max(8192));
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_PER_CONNECTION);
    let asked = CancellationToken::new();
    let has_asked = asked.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        has_asked.cancel();
        look(&request);
        request.extensions_mut().insert(connection);
        // HTTP/2 cuts bodies into frames of its own, with other streams' between them.
        let pieces = pieces.clone().filter(|_| request.version() != Version::HTTP_2);
        let answered = router.clone().oneshot(request.map(Body::new));
        async move { answered.await.map(|response| direct(response, pieces)) }
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            // Who has just connected is about to ask, and would take an end without an answer for a fault.
            tokio::select! {
                ended = serving.as_mut() => return ended,
                () = asked.cancelled() => {}
                () = sleep(FIRST_REQUEST) => {}
            }
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    }
}

/// The response, with its parts of files sent by the connection with these pieces, where there are any.
fn direct(mut response: Response<Body>, pieces: Option<Pieces>) -> Response<Body> {
    match (response.extensions_mut().remove::<FileParts>(), pieces) {
        (Some(parts), Some(pieces)) => response.map(|_| Body::new(DirectBody::new(parts, pieces))),
        _ => response,
    }
}
