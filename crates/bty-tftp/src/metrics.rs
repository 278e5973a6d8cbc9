//! The numbers of this daemon.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// The numbers of this daemon.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    /// Transfers that ended, by how.
    pub(crate) transfers: Family<OutcomeLabels, Counter>,
    /// Requests that began no transfer, by why.
    pub(crate) refused: Family<ReasonLabels, Counter>,
    /// Transfers under way.
    pub(crate) active: Gauge,
    /// Bytes of files that were sent, again or for the first time.
    pub(crate) sent: Counter,
    /// Blocks that were sent more than once.
    pub(crate) resent: Counter,
}

/// How a transfer ended.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    /// `complete`, `probe`, `not_found`, `refused`, `broken`.
    pub(crate) outcome: &'static str,
}

/// Why a request began no transfer.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    /// `not_a_request`, `malformed`, `write`, `broadcast`, `rate` (`max_requests_per_second`), `client`
    /// (`max_transfers_per_client`), `total` (`max_transfers`).
    pub(crate) reason: &'static str,
}

impl Counters {
    /// Makes and registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let counters = Self::default();
        registry.register("transfers", "Transfers that ended", counters.transfers.clone());
        registry.register(
            "refused_requests",
            "Requests that began no transfer",
            counters.refused.clone(),
        );
        registry.register("active_transfers", "Transfers under way", counters.active.clone());
        registry.register_with_unit(
            "sent",
            "Bytes of files sent",
            Unit::Bytes,
            counters.sent.clone(),
        );
        registry.register("resent_blocks", "Blocks sent more than once", counters.resent.clone());
        counters
    }

    /// Counts a request that began no transfer.
    pub(crate) fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }
}
