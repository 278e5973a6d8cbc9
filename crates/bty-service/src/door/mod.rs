//! The two gRPC doors of a daemon, and what stands at them.
//!
//! The unix door is for the other daemons and a local `btyctl`: the kernel says who calls. The TCP door, on loopback, is for
//! foreign clients: a token says who calls. Health and reflection are free at both; everything else a [`Gatekeeper`] admits.

mod gate;
mod listen;

use bty_api::admin::v1::admin_service_server::AdminServiceServer;
use tonic::service::Routes;
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{admin::Admin, tasks::RunError};

pub use gate::{Caller, Gatekeeper, LocalOnly};
pub(crate) use listen::{open_tcp, open_unix};

/// Adds what every daemon serves: health, reflection of the whole contract, and the admin service.
pub(crate) fn add_shared(
    services: Routes,
    health: HealthReporter,
    admin: Admin,
) -> Result<Routes, RunError> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(bty_api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(services
        .add_service(HealthServer::new(HealthService::from_health_reporter(health)))
        .add_service(reflection().build_v1()?)
        // Python's grpcio-reflection and grpcurl before 1.8.8 know no other.
        .add_service(reflection().build_v1alpha()?)
        .add_service(AdminServiceServer::new(admin)))
}
