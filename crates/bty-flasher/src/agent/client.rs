//! The agents' API as the agent calls it: over pinned TLS, with the token of the boot and then of the session.

use std::{io, sync::Arc, time::Duration};

use bty_api::agent::v1::{
    CheckInRequest, CheckInResponse, FinishRequest, FinishResponse, ReportProgressRequest,
    agent_service_client::AgentServiceClient,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::Stream;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};
use tower::{ServiceExt as _, service_fn};

use super::{parameters::Parameters, pin};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a silent connection is asked whether the server still lives.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// A connection to the server.
#[derive(Debug, Clone)]
pub(super) struct Client {
    channel: Channel,
    service: AgentServiceClient<Channel>,
    token: String,
}

impl Client {
    /// To the server of the boot script; connects at the first call and again whenever it must.
    pub(super) fn new(parameters: &Parameters) -> Result<Self, String> {
        let tls =
            pin::config(parameters.pin).map_err(|problem| format!("starting TLS: {problem}"))?;
        let (tls, address) = (TlsConnector::from(Arc::new(tls)), parameters.api);
        let name = ServerName::from(address.ip());
        let connect = service_fn(move |_: Uri| {
            let (tls, name) = (tls.clone(), name.clone());
            async move {
                let stream = timeout(CONNECT_TIMEOUT, async {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    tls.connect(name, stream).await
                });
                let stream =
                    stream.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        // TLS is the connector's; to tonic this is a plain connection.
        let channel = Endpoint::from_static("http://bty")
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connect);
        let service = AgentServiceClient::new(channel.clone());
        Ok(Self { channel, service, token: parameters.token.clone() })
    }

    /// Connects now; the first call is what says whether it went well.
    pub(super) async fn connect(&self) {
        let _ = self.channel.clone().ready().await;
    }

    /// Checks in, and keeps the session's token.
    pub(super) async fn check_in(
        &mut self,
        request: CheckInRequest,
    ) -> Result<CheckInResponse, Status> {
        let mut request = self.with_token(request)?;
        request.set_timeout(CALL_TIMEOUT);
        let answer = self.service.check_in(request).await?.into_inner();
        if !answer.session_token.is_empty() {
            self.token.clone_from(&answer.session_token);
        }
        Ok(answer)
    }

    /// Tells how the run goes, until the stream ends.
    pub(super) async fn report(
        &mut self,
        reports: impl Stream<Item = ReportProgressRequest> + Send + 'static,
    ) -> Result<(), Status> {
        let request = self.with_token(reports)?;
        self.service.report_progress(request).await.map(drop)
    }

    /// Ends the run.
    pub(super) async fn finish(
        &mut self,
        request: FinishRequest,
    ) -> Result<FinishResponse, Status> {
        let mut request = self.with_token(request)?;
        request.set_timeout(CALL_TIMEOUT);
        self.service.finish(request).await.map(tonic::Response::into_inner)
    }

    fn with_token<T>(&self, message: T) -> Result<Request<T>, Status> {
        let bearer: MetadataValue<Ascii> = format!("Bearer {}", self.token)
            .parse()
            .map_err(|_| Status::invalid_argument("the token has characters that no token has"))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", bearer);
        Ok(request)
    }
}
