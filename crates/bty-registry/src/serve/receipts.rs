//! `ReceiptService`.

use std::sync::Arc;

use bty_api::registry::v1::{
    GetReceiptKeyRequest, GetReceiptKeyResponse, GetReceiptRequest, GetReceiptResponse,
    receipt_service_server::ReceiptService,
};
use tonic::{Request, Response, Status};

use super::{Shared, runs};
use crate::{problem::Problem, receipt::Key};

/// The service.
#[derive(Debug)]
pub(crate) struct Receipts {
    pub(crate) shared: Shared,
    pub(crate) key: Arc<Key>,
}

#[tonic::async_trait]
impl ReceiptService for Receipts {
    async fn get_receipt(
        &self,
        request: Request<GetReceiptRequest>,
    ) -> Result<Response<GetReceiptResponse>, Status> {
        let called = request.into_inner().run_id;
        let (run_id, receipt) = self
            .shared
            .store
            .read(move |snapshot| {
                let run = runs::find(snapshot, &called)?;
                let receipt = snapshot.receipt(&run.id)?;
                receipt
                    .map(|receipt| (run.id.clone(), receipt))
                    .ok_or_else(|| Problem::NoReceipt(run.id))
            })
            .await?;
        let (document, signature) = (receipt.document, receipt.signature);
        Ok(Response::new(GetReceiptResponse { run_id, document, signature }))
    }

    async fn get_receipt_key(
        &self,
        _: Request<GetReceiptKeyRequest>,
    ) -> Result<Response<GetReceiptKeyResponse>, Status> {
        let public_key = self.key.public().to_owned();
        Ok(Response::new(GetReceiptKeyResponse { public_key }))
    }
}
