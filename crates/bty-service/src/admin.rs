//! What every daemon can be asked about itself.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use bty_api::{
    admin::v1::{
        ConfigKey, GetConfigRequest, GetConfigResponse, GetMetricsRequest, GetMetricsResponse,
        GetStatusRequest, GetStatusResponse, SetLogFilterRequest, SetLogFilterResponse,
        admin_service_server::AdminService,
    },
    convert::timestamp,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tonic::{Request, Response, Status};

use crate::{config::Origins, context::Identity, log, readiness::Readiness};

/// The admin service of one daemon.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) identity: Identity,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Arc<Mutex<Registry>>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) filter: log::Filter,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let (ready, status) = self.readiness.now();
        Ok(Response::new(GetStatusResponse {
            daemon: self.identity.program.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Some(timestamp(self.identity.started_at)),
            ready,
            status,
            pid: std::process::id(),
            resident_bytes: resident_bytes(),
        }))
    }

    async fn get_config(
        &self,
        _: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        let keys = self.origins.iter().map(|(key, value, origin)| ConfigKey {
            key: key.to_owned(),
            value: value.to_owned(),
            origin: origin.to_owned(),
        });
        Ok(Response::new(GetConfigResponse { keys: keys.collect() }))
    }

    async fn get_metrics(
        &self,
        _: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let mut openmetrics = String::new();
        {
            let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
            encode(&mut openmetrics, &metrics)
                .map_err(|problem| Status::internal(format!("writing the metrics: {problem}")))?;
        }
        let whole = openmetrics.trim_end_matches("# EOF\n").len();
        openmetrics.truncate(whole);
        Ok(Response::new(GetMetricsResponse { openmetrics }))
    }

    async fn set_log_filter(
        &self,
        request: Request<SetLogFilterRequest>,
    ) -> Result<Response<SetLogFilterResponse>, Status> {
        self.filter.set(&request.get_ref().filter).map_err(Status::invalid_argument)?;
        tracing::info!(
            filter = request.get_ref().filter,
            daemon = self.identity.name,
            "the log filter changed"
        );
        Ok(Response::new(SetLogFilterResponse {}))
    }
}

/// Resident memory of this process, from /proc (`proc_pid_status(5)`); 0 where it can't be read.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(0, |kib: u64| kib * 1024)
}
