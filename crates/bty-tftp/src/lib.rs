//! The TFTP server of bty: read-only, first-stage boot programs, nothing else.
//!
//! [`engine`] is the protocol, pure. Around it: `listener` takes requests and decides which are admitted, `session` drives one
//! transfer on its own port, `folder` finds files beneath the one folder that is served, `history` remembers for `btyctl`.

mod admission;
pub mod engine;
pub mod file_name;
mod folder;
mod history;
mod listener;
mod metrics;
mod service;
mod session;
mod settings;
mod socket;

use std::sync::Arc;

use bty_api::tftp::v1::tftp_service_server::TftpServiceServer;
use bty_service::{BootLink, Context, Daemon, RunError, door::LocalOnly};
use tonic::service::Routes;

pub use settings::Settings;

/// The daemon.
#[derive(Debug)]
pub struct Tftp;

impl Daemon for Tftp {
    const NAME: &'static str = "tftp";
    const PROGRAM: &'static str = "bty-tftp";
    const ABOUT: &'static str = "Serves first-stage boot programs by TFTP, read-only";
    type Settings = Settings;
    // A transfer waits for its client after each block or window. A second worker would be woken for each, and find nothing to do.
    const WORKERS: usize = 1;

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    async fn start(context: Context<Settings>) -> Result<(), RunError> {
        let history = history::History::default();
        let shared = Arc::new(session::Shared {
            settings: Arc::clone(&context.settings),
            folder: folder::Folder::new(&context.settings),
            history: history.clone(),
            counters: metrics::Counters::register(&mut context.metrics()),
            link: BootLink::start(&context, Self::PROGRAM),
            shutdown: context.shutdown().clone(),
        });
        let addresses = listener::start(&context, &shared)?;
        let services = Routes::new(TftpServiceServer::new(service::Service { history }));
        context.open_unix_door(services, Arc::new(LocalOnly)).await?;
        let root = context.settings.root.display();
        context.ready(format!("serving {root} by TFTP on {}", addresses.join(", "))).await;
        Ok(())
    }
}
