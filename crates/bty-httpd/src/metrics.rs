//! What is counted here, and `/metrics`: the numbers of every daemon in one place.

use std::path::PathBuf;

use bty_api::{
    admin::v1::{GetMetricsRequest, admin_service_client::AdminServiceClient},
    connect,
};
use bty_service::Context;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::settings::Settings;

/// The numbers of this daemon.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    /// Boot scripts served, by what they tell.
    pub(crate) scripts: Family<ScriptLabels, Counter>,
    /// Requests for files, by folder.
    pub(crate) files: Family<FileLabels, Counter>,
    /// Connections that were closed at once, because their client has as many as it may.
    pub(crate) refused: Counter,
}

/// What a boot script tells.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ScriptLabels {
    /// `local`, `flash`, `inventory`, `hold`, `unknown`.
    pub(crate) action: &'static str,
}

/// Where a file is.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct FileLabels {
    /// `boot`, `live`, `images`.
    pub(crate) folder: &'static str,
}

impl Counters {
    /// Makes and registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let counters = Self::default();
        registry.register("boot_scripts", "Boot scripts served", counters.scripts.clone());
        registry.register("file_requests", "Requests for files", counters.files.clone());
        registry.register(
            "connections_refused",
            "Connections closed at once, because their client has as many as it may",
            counters.refused.clone(),
        );
        counters
    }
}

/// The admin sockets of all daemons on this machine.
#[derive(Debug)]
pub(crate) struct Sockets(Vec<PathBuf>);

impl Sockets {
    /// The sockets below this daemon's run folder.
    pub(crate) fn new(context: &Context<Settings>) -> Self {
        Self(
            ["registry", "dhcp", "tftp", "httpd", "flasher"]
                .map(|daemon| context.socket_of(daemon))
                .into(),
        )
    }

    /// The metrics of every daemon that answers, as one text of the `OpenMetrics` format.
    pub(crate) async fn gather(&self) -> String {
        let mut text = String::new();
        for socket in &self.0 {
            let mut daemon = AdminServiceClient::new(connect::unix(socket));
            // A daemon that is away has no numbers; the others still do.
            if let Ok(response) = daemon.get_metrics(GetMetricsRequest {}).await {
                text.push_str(&response.into_inner().openmetrics);
            }
        }
        text.push_str("# EOF\n");
        text
    }
}
