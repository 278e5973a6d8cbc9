//! The services of the contract: each takes a request apart, lets `work` or `store` do it, and shows the result.

mod agents;
mod boot;
mod events;
mod images;
mod machines;
mod runs;
mod tokens;
mod watch;

use std::sync::Arc;

use bty_service::door::Caller;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use crate::{
    access::{Access, Tokens},
    metrics::Metrics,
    store::Store,
};

pub(crate) use agents::Agents;
pub(crate) use boot::Boots;
pub(crate) use events::Events;
pub(crate) use images::Images;
pub(crate) use machines::Machines;
pub(crate) use runs::Runs;
pub(crate) use tokens::TokenKeeper;

/// What every service uses. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) access: Arc<Access>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
}

impl Shared {
    /// How events call whoever makes this request.
    pub(crate) fn actor<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let caller = request
            .extensions()
            .get::<Caller>()
            .ok_or_else(|| Status::internal("a call that passed no gatekeeper"))?;
        Ok(self.access.actor(caller))
    }
}

/// How many entries a list may have: what was asked for, bounded, or the default.
fn page(asked: u32, default: u32, most: u32) -> u32 {
    if asked == 0 { default } else { asked.min(most) }
}
