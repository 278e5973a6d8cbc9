//! The numbers of this daemon.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::engine::{Exchange, Verdict};

/// The numbers of this daemon.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    answers: Family<AnswerLabels, Counter>,
    silences: Family<SilenceLabels, Counter>,
    /// Answers that could not be sent.
    pub(crate) unsent: Counter,
    /// Packets at interfaces that are not served.
    pub(crate) elsewhere: Counter,
    /// Leases that run.
    pub(crate) leases: Gauge,
}

/// What was answered, and to whom.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    message: &'static str,
    client: &'static str,
}

/// Why a packet got no answer.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SilenceLabels {
    reason: &'static str,
}

impl Counters {
    /// Makes and registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let counters = Self::default();
        registry.register("answers", "Packets that were answered", counters.answers.clone());
        registry.register("silences", "Packets that were not answered", counters.silences.clone());
        registry.register("unsent", "Answers that could not be sent", counters.unsent.clone());
        registry.register(
            "elsewhere",
            "Packets at interfaces that are not served",
            counters.elsewhere.clone(),
        );
        registry.register("leases", "Leases that run", counters.leases.clone());
        counters
    }

    /// Counts a packet.
    pub(crate) fn count(&self, exchange: &Exchange) {
        let client = exchange.sender.as_ref().map_or("", |sender| sender.client.name());
        match &exchange.verdict {
            Verdict::Answered(answer) => {
                let message = answer.message.name();
                self.answers.get_or_create(&AnswerLabels { message, client }).inc();
            }
            Verdict::Silent(silence) => {
                self.silences.get_or_create(&SilenceLabels { reason: silence.word() }).inc();
            }
        }
    }
}
