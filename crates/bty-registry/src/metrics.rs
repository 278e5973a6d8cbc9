//! What the registry counts.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::work::Taken;

/// The counters. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    machines: Family<ActionLabel, Gauge>,
    runs: Family<StateLabel, Gauge>,
    imports: Family<OutcomeLabel, Counter>,
    contacts: Counter,
    contacts_dropped: Counter,
    contacts_untold: Counter,
    commits: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            machines: Family::default(),
            runs: Family::default(),
            imports: Family::default(),
            contacts: Counter::default(),
            contacts_dropped: Counter::default(),
            contacts_untold: Counter::default(),
            // From a tenth of a millisecond to some three seconds.
            commits: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
        };
        registry.register("machines", "Machines by what they do next", metrics.machines.clone());
        registry.register("runs", "Runs on record by how they stand", metrics.runs.clone());
        registry.register(
            "imports",
            "Imports of images by how they ended",
            metrics.imports.clone(),
        );
        registry.register("contacts", "Contacts on the boot path", metrics.contacts.clone());
        registry.register(
            "contacts_dropped",
            "Contacts of machines beyond the limits on unknown ones",
            metrics.contacts_dropped.clone(),
        );
        registry.register(
            "contacts_untold",
            "Contacts that made no event, since their machine has made too many",
            metrics.contacts_untold.clone(),
        );
        registry.register(
            "commit_seconds",
            "Time that a commit to the database took",
            metrics.commits.clone(),
        );
        metrics
    }

    /// So many machines do this next.
    pub(crate) fn machines(&self, action: &'static str, count: i64) {
        self.machines.get_or_create(&ActionLabel { action }).set(count);
    }

    /// So many runs stand so.
    pub(crate) fn runs(&self, state: String, count: i64) {
        self.runs.get_or_create(&StateLabel { state }).set(count);
    }

    /// An import ended.
    pub(crate) fn import(&self, is_good: bool) {
        let outcome = if is_good { "done" } else { "failed" };
        self.imports.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Contacts were reported.
    pub(crate) fn contacts(&self, taken: Taken) {
        self.contacts.inc_by(taken.new);
        self.contacts_dropped.inc_by(taken.dropped);
        self.contacts_untold.inc_by(taken.untold);
    }

    /// A commit took so long.
    pub(crate) fn commit(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }
}
