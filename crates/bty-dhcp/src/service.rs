//! What `btyctl` and other local callers can ask.

use std::sync::{Arc, atomic::Ordering};

use bty_api::{
    convert::timestamp,
    dhcp::v1::{
        Lease, ListExchangesRequest, ListExchangesResponse, ListLeasesRequest, ListLeasesResponse,
        ListServersRequest, ListServersResponse, Server, WatchExchangesRequest,
        WatchExchangesResponse, dhcp_service_server::DhcpService,
    },
    status,
};
use bty_service::Context;
use bty_types::MacAddr;
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{history::REMEMBERED, server::Shared, settings::Settings};

/// What a caller gets who doesn't say how much.
const USUAL_PAGE: usize = 100;

/// The DHCP service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) context: Context<Settings>,
}

#[tonic::async_trait]
impl DhcpService for Service {
    type WatchExchangesStream = ReceiverStream<Result<WatchExchangesResponse, Status>>;

    async fn list_exchanges(
        &self,
        request: Request<ListExchangesRequest>,
    ) -> Result<Response<ListExchangesResponse>, Status> {
        let request = request.into_inner();
        let mac = canonical(&request.mac)?;
        let most = match usize::try_from(request.page_size) {
            Ok(0) => USUAL_PAGE,
            Ok(size) => size.min(REMEMBERED),
            Err(_) => REMEMBERED,
        };
        let exchanges = self.shared.history.latest(&mac, most);
        Ok(Response::new(ListExchangesResponse { exchanges }))
    }

    async fn watch_exchanges(
        &self,
        request: Request<WatchExchangesRequest>,
    ) -> Result<Response<Self::WatchExchangesStream>, Status> {
        let mac = canonical(&request.get_ref().mac)?;
        let mut fresh = self.shared.history.watch();
        let (sender, receiver) = mpsc::channel(1);
        let shutdown = self.context.shutdown().clone();
        // Ends with the daemon, whose end a stream that never ends would hold up, and with its reader.
        self.context.spawn_session("exchange watch", async move {
            loop {
                let exchange = tokio::select! {
                    exchange = fresh.recv() => exchange,
                    () = shutdown.cancelled() => return,
                    () = sender.closed() => return,
                };
                match exchange {
                    Ok(exchange) if mac.is_empty() || exchange.mac == mac => {
                        let response = WatchExchangesResponse { exchange: Some(exchange) };
                        if sender.send(Ok(response)).await.is_err() {
                            return;
                        }
                    }
                    // One that is too slow misses some; the list has them.
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_leases(
        &self,
        _: Request<ListLeasesRequest>,
    ) -> Result<Response<ListLeasesResponse>, Status> {
        let leases = self.shared.leases();
        let leases = leases.into_iter().map(|(lease, reserved)| Lease {
            address: lease.address.to_string(),
            mac: lease.mac.to_string(),
            hostname: lease.hostname,
            expires_at: Some(timestamp(lease.expires_at)),
            reserved,
        });
        Ok(Response::new(ListLeasesResponse { leases: leases.collect() }))
    }

    async fn list_servers(
        &self,
        _: Request<ListServersRequest>,
    ) -> Result<Response<ListServersResponse>, Status> {
        let servers = self.shared.servers().into_iter().map(|server| Server {
            address: server.address.to_string(),
            mac: server.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            interface: server.interface.to_string(),
            leases: server.leases,
            boots: server.boots,
            boot_file: server.boot_file,
            first_seen: Some(timestamp(server.first_seen)),
            last_seen: Some(timestamp(server.last_seen)),
            messages: server.messages,
        });
        let listening = self.shared.listening.load(Ordering::Relaxed);
        Ok(Response::new(ListServersResponse { servers: servers.collect(), listening }))
    }
}

/// A MAC address as the log has it, from any way of writing it; empty stays empty.
fn canonical(mac: &str) -> Result<String, Status> {
    if mac.is_empty() {
        return Ok(String::new());
    }
    let mac: MacAddr = mac.parse().map_err(|problem| status::invalid(&problem))?;
    Ok(mac.to_string())
}
