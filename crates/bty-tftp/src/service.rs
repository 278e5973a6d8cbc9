//! `bty.tftp.v1.TftpService`: what was served.

use bty_api::tftp::v1::{
    ListTransfersRequest, ListTransfersResponse, tftp_service_server::TftpService,
};
use tonic::{Request, Response, Status};

use crate::history::{History, REMEMBERED};

/// How many transfers are listed where the caller doesn't say.
const DEFAULT_PAGE: usize = 100;

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) history: History,
}

#[tonic::async_trait]
impl TftpService for Service {
    async fn list_transfers(
        &self,
        request: Request<ListTransfersRequest>,
    ) -> Result<Response<ListTransfersResponse>, Status> {
        let most = match request.into_inner().page_size {
            0 => DEFAULT_PAGE,
            asked => usize::try_from(asked).unwrap_or(usize::MAX).min(REMEMBERED),
        };
        let transfers = self.history.latest(most);
        Ok(Response::new(ListTransfersResponse { transfers }))
    }
}
