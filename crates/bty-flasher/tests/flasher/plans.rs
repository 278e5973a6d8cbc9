//! A server of plans: the agents' API over TLS, as bty-httpd serves it, that answers as a test wants and keeps what it was told.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bty_api::agent::v1::{
    CheckInRequest, CheckInResponse, FinishRequest, FinishResponse, ReportProgressRequest,
    ReportProgressResponse,
    agent_service_server::{AgentService, AgentServiceServer},
    check_in_response::Plan,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::server::Connected};

/// The token of the boot script, and the one that a check-in gives.
pub(crate) const BOOT_TOKEN: &str = "boot-token";
const SESSION_TOKEN: &str = "session-token";

/// A run that is over when its end is told.
pub(crate) const OVER: &str = "over";

/// What the server was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) check_ins: Vec<CheckInRequest>,
    pub(crate) reports: Vec<ReportProgressRequest>,
    pub(crate) ends: Vec<FinishRequest>,
}

/// The running server. Ends when dropped.
pub(crate) struct Plans {
    pub(crate) told: Arc<Mutex<Told>>,
    address: String,
    pin: String,
    _runtime: Runtime,
}

impl Plans {
    /// Answers check-ins with these, in order; an error is one that the agent has to survive.
    pub(crate) fn new(answers: Vec<Result<Plan, Status>>) -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["bty".into()]).unwrap();
        let certificate: CertificateDer<'static> = key.cert.der().clone();
        let private =
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
        let pin = Sha256::digest(&certificate).iter().map(|byte| format!("{byte:02x}")).collect();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], private)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let told = Arc::new(Mutex::new(Told::default()));
        let service =
            Service { told: Arc::clone(&told), answers: Arc::new(Mutex::new(answers.into())) };
        runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), service));
        Self { told, address, pin, _runtime: runtime }
    }

    /// The kernel's command line that leads an agent here.
    pub(crate) fn command_line(&self, server: &str) -> String {
        self.command_line_with_pin(server, &self.pin)
    }

    /// One with another fingerprint.
    pub(crate) fn command_line_with_pin(&self, server: &str, pin: &str) -> String {
        format!(
            "quiet bty.server={server} bty.api={} bty.pin={pin} bty.token={BOOT_TOKEN} bty.mac=52:54:00:77:00:01 bty.boot=b1\n",
            self.address
        )
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, service: Service) {
    let (to_server, connections) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that ends the handshake is its own affair.
            if let Ok(stream) = tls.accept(stream).await {
                let _ = to_server.send(Ok::<_, io::Error>(Connection(stream))).await;
            }
        }
    });
    tonic::transport::Server::builder()
        .add_service(AgentServiceServer::new(service))
        .serve_with_incoming(ReceiverStream::new(connections))
        .await
        .unwrap();
}

struct Service {
    told: Arc<Mutex<Told>>,
    answers: Arc<Mutex<VecDeque<Result<Plan, Status>>>>,
}

fn check_token<T>(request: &Request<T>, wanted: &str) -> Result<(), Status> {
    let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    if token == Some(&format!("Bearer {wanted}")) {
        return Ok(());
    }
    Err(Status::unauthenticated(format!("wanted {wanted}, got {token:?}")))
}

#[tonic::async_trait]
impl AgentService for Service {
    async fn check_in(
        &self,
        request: Request<CheckInRequest>,
    ) -> Result<Response<CheckInResponse>, Status> {
        let mut told = self.told.lock().unwrap();
        // The session's token replaces the boot script's with the first answer that carries one.
        check_token(&request, BOOT_TOKEN).or_else(|_| check_token(&request, SESSION_TOKEN))?;
        told.check_ins.push(request.into_inner());
        let answer = self.answers.lock().unwrap().pop_front();
        let plan = answer.unwrap_or_else(|| Err(Status::internal("asked too often")))?;
        Ok(Response::new(CheckInResponse { session_token: SESSION_TOKEN.into(), plan: Some(plan) }))
    }

    async fn report_progress(
        &self,
        request: Request<Streaming<ReportProgressRequest>>,
    ) -> Result<Response<ReportProgressResponse>, Status> {
        check_token(&request, SESSION_TOKEN)?;
        let mut reports = request.into_inner();
        while let Some(report) = reports.next().await {
            self.told.lock().unwrap().reports.push(report?);
        }
        Ok(Response::new(ReportProgressResponse {}))
    }

    async fn finish(
        &self,
        request: Request<FinishRequest>,
    ) -> Result<Response<FinishResponse>, Status> {
        use bty_api::agent::v1::finish_request::Outcome;
        check_token(&request, SESSION_TOKEN)?;
        let request = request.into_inner();
        let restart = !matches!(request.outcome, Some(Outcome::Failed(_)));
        let is_over = request.run_id == OVER;
        self.told.lock().unwrap().ends.push(request);
        if is_over {
            return Err(Status::failed_precondition("the run is not under way"));
        }
        Ok(Response::new(FinishResponse { restart }))
    }
}

/// A TLS connection, as tonic's server takes it.
struct Connection(TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
