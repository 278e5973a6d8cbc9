//! Reaching the daemons: by their unix sockets, or the registry by TCP with a token.

use std::{path::PathBuf, time::Duration};

use bty_api::connect;
use bty_types::ErrorKind;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{arguments::Connect, failure::Failure};

/// A channel that sends the token, where there is one.
pub(crate) type Registry = InterceptedService<Channel, Bearer>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How the daemons are reached.
#[derive(Debug)]
pub(crate) struct Connection {
    run_dir: PathBuf,
    remote: Option<(Channel, Bearer)>,
}

/// Adds the token to each call.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Connection {
    /// From what was typed.
    pub(crate) fn new(connect: &Connect) -> Result<Self, Failure> {
        let remote = match &connect.server {
            None => None,
            Some(url) => {
                let wrong = |problem: String| {
                    Failure::new(ErrorKind::InvalidInput, format!("--server {url}: {problem}"))
                };
                let endpoint = Endpoint::from_shared(url.clone())
                    .map_err(|problem| wrong(problem.to_string()))?
                    .connect_timeout(CONNECT_TIMEOUT);
                let token = connect.token.as_deref().ok_or_else(|| {
                    wrong(
                        "needs a token in BTY_TOKEN; make one with: btyctl token create NAME"
                            .into(),
                    )
                })?;
                let bearer = format!("Bearer {token}")
                    .parse()
                    .map_err(|_| wrong("the token has characters that no token has".into()))?;
                Some((endpoint.connect_lazy(), Bearer(Some(bearer))))
            }
        };
        Ok(Self { run_dir: connect.run_dir.clone(), remote })
    }

    /// The registry.
    pub(crate) fn registry(&self) -> Registry {
        match &self.remote {
            Some((channel, bearer)) => InterceptedService::new(channel.clone(), bearer.clone()),
            None => InterceptedService::new(self.daemon("registry"), Bearer(None)),
        }
    }

    /// Another daemon on this machine, by its unix socket.
    pub(crate) fn local(&self, daemon: &str) -> Result<Channel, Failure> {
        if self.remote.is_some() {
            let message =
                format!("bty-{daemon} is reached on the appliance itself, not by --server");
            return Err(Failure::new(ErrorKind::InvalidInput, message).hint("run btyctl there"));
        }
        Ok(self.daemon(daemon))
    }

    fn daemon(&self, daemon: &str) -> Channel {
        connect::unix(connect::socket_path(&self.run_dir, daemon))
    }
}
