//! The HTTP face of bty.
//!
//! Port 80, plain, because firmware and iPXE need it: boot scripts, boot programs, the live system, image bytes (which prove
//! themselves), a page with the machines. Port 443, TLS with a certificate that boot scripts pin: the agents' API. Boot scripts
//! are made from what [`bty_service::BootLink`] keeps in memory, so machines boot while the registry is away.

mod agents;
pub mod boot;
mod certificate;
mod direct;
pub mod files;
mod live;
mod machines;
mod metrics;
mod page;
mod places;
mod plain;
mod secret;
mod serve;
mod service;
mod settings;

use std::sync::Arc;

use bty_api::{connect, httpd::v1::httpd_service_server::HttpdServiceServer};
use bty_service::{BootLink, Context, Daemon, RunError, SteadyClock, door::LocalOnly};
use tonic::service::Routes;

pub use settings::Settings;

/// The daemon.
#[derive(Debug)]
pub struct Httpd;

impl Daemon for Httpd {
    const NAME: &'static str = "httpd";
    const PROGRAM: &'static str = "bty-httpd";
    const ABOUT: &'static str = "Serves boot scripts, boot artefacts, images and the agents' API";
    type Settings = Settings;

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    async fn start(context: Context<Settings>) -> Result<(), RunError> {
        let settings = Arc::clone(&context.settings);
        let key = secret::load_or_make(&context.paths.state.join("token.key"))?;
        let certificate = certificate::load_or_make(&context.paths.state.join("tls"))?;
        let clock = SteadyClock::start();
        let registry = connect::unix(context.socket_of("registry"));
        let counters = metrics::Counters::register(&mut context.metrics());

        let plain = serve::bind(&context, "http", settings.listen).await?;
        let tls = serve::bind(&context, "https", settings.listen_tls).await?;
        let shared = Arc::new(plain::Shared {
            link: BootLink::start(&context, Self::PROGRAM),
            machines: machines::Machines::start(&context, registry.clone()),
            folders: plain::Folders::open(&settings),
            key,
            clock,
            pin: certificate.sha256.clone(),
            api_port: tls.local_addr()?.port(),
            metrics_from: settings.metrics_from.clone(),
            sockets: metrics::Sockets::new(&context),
            counters,
        });

        let agents = agents::Agents::new(registry, key, clock);
        let acceptor = certificate.acceptor()?;
        let refused = &shared.counters.refused;
        serve::serve(&context, "http", plain, None, plain::router(Arc::clone(&shared)), refused);
        serve::serve(&context, "https", tls, Some(acceptor), agents.router(), refused);

        let service = service::Service { shared, certificate };
        let services = Routes::new(HttpdServiceServer::new(service));
        context.open_unix_door(services, Arc::new(LocalOnly)).await?;
        let (http, https) = (settings.listen, settings.listen_tls);
        let live = live::describe(&settings.live_dir);
        tracing::info!(live, "serving");
        context
            .ready(format!("serving HTTP on {http} and the agents' API on {https}; {live}"))
            .await;
        Ok(())
    }
}
