//! The agents' API: checks the token of the boot, and passes the call to the registry in the machine's name.

use axum::Router;
use bty_api::agent::v1::{
    CheckInRequest, CheckInResponse, FinishRequest, FinishResponse, ReportProgressRequest,
    ReportProgressResponse,
    agent_service_client::AgentServiceClient,
    agent_service_server::{AgentService, AgentServiceServer},
};
use bty_service::{SteadyClock, neighbours};
use tokio_stream::StreamExt;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::Routes,
    transport::Channel,
};

use crate::{
    boot::token::{Claims, Key, Purpose},
    serve::Connection,
};

/// Agents' calls, on their way to the registry.
#[derive(Debug, Clone)]
pub(crate) struct Agents {
    registry: AgentServiceClient<Channel>,
    key: Key,
    clock: SteadyClock,
}

impl Agents {
    /// Passes calls on by this channel, with tokens made with this key that last by this clock.
    pub(crate) fn new(registry: Channel, key: Key, clock: SteadyClock) -> Self {
        Self { registry: AgentServiceClient::new(registry), key, clock }
    }

    /// The service as a router.
    pub(crate) fn router(self) -> Router {
        Routes::new(AgentServiceServer::new(self)).prepare().into_axum_router()
    }

    /// Who calls. A boot token is enough only for what takes `Purpose::Boot`.
    fn claims<T>(&self, request: &Request<T>, least: Purpose) -> Result<Claims, Status> {
        let token = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| {
                Status::unauthenticated("no token: the agents' API is for machines that bty booted")
            })?;
        let claims = Claims::open(&self.key, token, self.clock.now())
            .map_err(|problem| Status::unauthenticated(problem.to_string()))?;
        if least == Purpose::Session && claims.purpose != Purpose::Session {
            return Err(Status::permission_denied(
                "the token of a boot script is for a check-in only",
            ));
        }
        let peer = request
            .extensions()
            .get::<Connection>()
            .map(|connection| connection.peer.ip().to_canonical())
            .ok_or_else(|| Status::internal("a call without a connection"))?;
        // The live system asks for a lease of its own, and some DHCP servers give it another address than iPXE had.
        if peer != claims.address && neighbours::machine_at(peer) != Some(claims.mac) {
            tracing::warn!(mac = %claims.mac, %peer, address = %claims.address, "a token came from another machine");
            return Err(Status::permission_denied(format!(
                "the token is for {} at {}, not for {peer}; give the machine one address for iPXE and Linux",
                claims.mac, claims.address
            )));
        }
        Ok(claims)
    }
}

/// The same call in the machine's name.
fn named<T>(message: T, claims: &Claims) -> Result<Request<T>, Status> {
    let text = |value: String| -> Result<MetadataValue<Ascii>, Status> {
        value.parse().map_err(|_| Status::internal("a MAC address or boot id that is no header"))
    };
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-bty-mac", text(claims.mac.to_string())?);
    request.metadata_mut().insert("x-bty-boot", text(claims.boot_id.to_string())?);
    Ok(request)
}

#[tonic::async_trait]
impl AgentService for Agents {
    async fn check_in(
        &self,
        request: Request<CheckInRequest>,
    ) -> Result<Response<CheckInResponse>, Status> {
        let claims = self.claims(&request, Purpose::Boot)?;
        let forwarded = named(request.into_inner(), &claims)?;
        let mut response = self.registry.clone().check_in(forwarded).await?.into_inner();
        let Claims { mac, boot_id, address, .. } = claims;
        response.session_token =
            Claims::new(Purpose::Session, mac, boot_id, address, self.clock.now()).seal(&self.key);
        Ok(Response::new(response))
    }

    async fn report_progress(
        &self,
        request: Request<Streaming<ReportProgressRequest>>,
    ) -> Result<Response<ReportProgressResponse>, Status> {
        let claims = self.claims(&request, Purpose::Session)?;
        // An agent that breaks off ends the stream; what it said until then counts.
        let reports = request.into_inner().map_while(Result::ok);
        let response = self.registry.clone().report_progress(named(reports, &claims)?).await?;
        Ok(Response::new(response.into_inner()))
    }

    async fn finish(
        &self,
        request: Request<FinishRequest>,
    ) -> Result<Response<FinishResponse>, Status> {
        let claims = self.claims(&request, Purpose::Session)?;
        let forwarded = named(request.into_inner(), &claims)?;
        let response = self.registry.clone().finish(forwarded).await?;
        Ok(Response::new(response.into_inner()))
    }
}
