//! The services of the contract: each takes a request apart, lets `work` or `store` do it, and shows the result.

mod agents;
mod boot;
mod capture;
mod events;
mod images;
mod machines;
mod receipts;
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
pub(crate) use receipts::Receipts;
pub(crate) use runs::Runs;
pub(crate) use tokens::TokenKeeper;
pub(crate) use watch::Responses;

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

/// Bytes of one page. gRPC clients take messages of at most 4 MiB unless told otherwise.
const PAGE_BYTES: usize = 2 << 20;

/// The entries that fit into one answer, at least one; and whether more may follow: because `limit` many were found, or because
/// some do not fit.
fn paged<T: prost::Message>(mut found: Vec<T>, limit: u32) -> (Vec<T>, bool) {
    let mut bytes = 0;
    let fitting = found.iter().take_while(|entry| {
        let is_first = bytes == 0;
        bytes += entry.encoded_len().max(1);
        is_first || bytes <= PAGE_BYTES
    });
    let fitting = fitting.count();
    let more_follow =
        fitting < found.len() || u32::try_from(found.len()).is_ok_and(|count| count >= limit);
    found.truncate(fitting);
    (found, more_follow)
}

/// How many entries a list may have: what was asked for, bounded, or the default.
fn page(asked: u32, default: u32, most: u32) -> u32 {
    if asked == 0 { default } else { asked.min(most) }
}

#[cfg(test)]
mod tests {
    use bty_api::registry::v1::Token;

    use super::*;

    #[test]
    fn a_page_has_what_fits_and_at_least_one_entry() {
        let entry = |bytes| Token { name: "x".repeat(bytes), ..Token::default() };
        let lengths = |sizes: &[usize], limit| {
            let (page, more) = paged(sizes.iter().map(|&size| entry(size)).collect(), limit);
            (page.len(), more)
        };
        let half = PAGE_BYTES / 2;
        assert_eq!(lengths(&[], 3), (0, false));
        assert_eq!(lengths(&[1, 1], 3), (2, false));
        assert_eq!(lengths(&[1, 1, 1], 3), (3, true));
        assert_eq!(lengths(&[half, 100, half], 9), (2, true));
        assert_eq!(lengths(&[3 * half, 1], 9), (1, true));
    }
}
