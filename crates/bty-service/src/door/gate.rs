//! Who calls, and whether they may.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, header::AUTHORIZATION};
use tonic::{
    Status,
    body::Body,
    transport::server::{TcpConnectInfo, UdsConnectInfo},
};
use tower::{Layer, Service};

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process on this machine, as the kernel says (`SO_PEERCRED`, unix(7)).
    Local {
        /// Its effective user.
        uid: u32,
        /// Its effective group.
        gid: u32,
    },
    /// The bearer of a token, admitted by [`Gatekeeper::bearer`].
    Bearer {
        /// The token's name.
        name: String,
        /// What it is good for, in the gatekeeper's own words.
        role: String,
    },
}

/// Decides who may call what. Asked for every call but health and reflection; must not block.
pub trait Gatekeeper: Send + Sync + 'static {
    /// Whether the caller may call this method (`/bty.registry.v1.MachineService/ListMachines`).
    fn admit(&self, caller: &Caller, method: &str) -> Result<(), Status>;

    /// Who bears this token.
    fn bearer(&self, token: &str) -> Result<Caller, Status>;
}

/// For daemons whose unix door the file system guards, and that have no other.
#[derive(Debug, Clone, Copy)]
pub struct LocalOnly;

impl Gatekeeper for LocalOnly {
    fn admit(&self, caller: &Caller, _: &str) -> Result<(), Status> {
        match caller {
            Caller::Local { .. } => Ok(()),
            Caller::Bearer { .. } => Err(Status::permission_denied("this daemon takes no tokens")),
        }
    }

    fn bearer(&self, _: &str) -> Result<Caller, Status> {
        Err(Status::unauthenticated("this daemon takes no tokens"))
    }
}

/// Puts a gatekeeper before a service.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) gatekeeper: Arc<dyn Gatekeeper>,
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gatekeeper: Arc::clone(&self.gatekeeper), inner }
    }
}

/// A service with a gatekeeper before it. Admitted requests carry their [`Caller`] as an extension.
#[derive(Clone)]
pub(super) struct Gated<S> {
    gatekeeper: Arc<dyn Gatekeeper>,
    inner: S,
}

/// What anybody who reaches a door may call.
const FREE: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = request.uri().path();
        if !FREE.iter().any(|free| method.starts_with(free)) {
            let admitted = caller(&request, self.gatekeeper.as_ref()).and_then(|caller| {
                self.gatekeeper.admit(&caller, method)?;
                Ok(caller)
            });
            match admitted {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                }
                Err(refusal) => return Box::pin(async move { Ok(refusal.into_http()) }),
            }
        }
        Box::pin(self.inner.call(request))
    }
}

fn caller(request: &Request<Body>, gatekeeper: &dyn Gatekeeper) -> Result<Caller, Status> {
    if let Some(info) = request.extensions().get::<UdsConnectInfo>() {
        let credentials = info
            .peer_cred
            .ok_or_else(|| Status::unauthenticated("the kernel does not say who calls"))?;
        return Ok(Caller::Local { uid: credentials.uid(), gid: credentials.gid() });
    }
    debug_assert!(request.extensions().get::<TcpConnectInfo>().is_some(), "a third kind of door");
    let token = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")))
        .ok_or_else(|| {
            Status::unauthenticated(
                "no token; send 'authorization: Bearer TOKEN' (make one with: btyctl token create)",
            )
        })?;
    gatekeeper.bearer(token.trim())
}
