//! DHCP for netboot: a proxy beside the LAN's own server, or a full server.
//!
//! [`engine`] decides, pure. Around it: `server` moves packets between the sockets and the engine, `interfaces` knows our own
//! addresses, `tap` hears other servers and `beside` looks for them, `keeper` has the `journal` keep leases on disk before they are told, `history` remembers what was answered and why, `log` writes it, `contacts`
//! tells the registry how far machines have come, `service` answers `btyctl`.

pub mod engine;

mod beside;
mod contacts;
mod history;
mod interfaces;
mod journal;
mod keeper;
mod log;
mod metrics;
mod server;
mod service;
mod settings;
mod tap;

use std::sync::Arc;

use bty_api::dhcp::v1::dhcp_service_server::DhcpServiceServer;
use bty_service::{Context, Daemon, RunError, door::LocalOnly};
use tonic::service::Routes;

pub use settings::{ReservationSettings, Settings, SubnetSettings};

/// The daemon.
#[derive(Debug)]
pub struct Dhcp;

impl Daemon for Dhcp {
    const NAME: &'static str = "dhcp";
    const PROGRAM: &'static str = "bty-dhcp";
    const ABOUT: &'static str = "Tells machines that netboot where to boot from";
    type Settings = Settings;
    // Packets go through the engine one by one. A second worker would be woken for each, and find nothing to do.
    const WORKERS: usize = 1;

    fn check(settings: &Settings) -> Result<(), String> {
        settings.rules().map(drop).map_err(|problem| problem.to_string())
    }

    async fn start(context: Context<Settings>) -> Result<(), RunError> {
        let (shared, status) = server::start(&context, Self::PROGRAM)?;
        let service = service::Service { shared, context: context.clone() };
        let services = Routes::new(DhcpServiceServer::new(service));
        context.open_unix_door(services, Arc::new(LocalOnly)).await?;
        context.ready(status).await;
        Ok(())
    }
}
