//! `btyctl receipt`.

mod file;
mod show;
mod verify;

use std::path::Path;

use bty_api::registry::v1::{
    GetReceiptKeyRequest, GetReceiptRequest, receipt_service_client::ReceiptServiceClient,
};
use bty_types::{ErrorKind, receipt};

use crate::{
    arguments::Receipt,
    connection::Connection,
    failure::Failure,
    output::{Output, exact},
};
pub(crate) use show::steps;
pub(crate) use verify::verify;

pub(crate) async fn run(
    verb: Receipt,
    connection: &Connection,
    output: Output,
) -> Result<(), Failure> {
    let mut client = ReceiptServiceClient::new(connection.registry());
    match verb {
        Receipt::Show { run } => {
            let request = GetReceiptRequest { run_id: run };
            let response = client.get_receipt(request).await?.into_inner();
            let receipt = read(response.document.as_bytes())?;
            output.show(&response, |_| show::receipt(&receipt))
        }
        Receipt::Save { run, folder } => {
            let request = GetReceiptRequest { run_id: run };
            let response = client.get_receipt(request).await?.into_inner();
            let document = folder.join(format!("{}.receipt.json", response.run_id));
            let signature = verify::beside(&document);
            file::write(&document, &response.document)?;
            file::write(&signature, &response.signature)?;
            output.show(&response, |_| shown(&document, &signature))
        }
        Receipt::Key => {
            let response = client.get_receipt_key(GetReceiptKeyRequest {}).await?.into_inner();
            if output.is_json() {
                return output.show(&response, |_| String::new());
            }
            exact(&response.public_key)
        }
        Receipt::Verify(what) => verify(&what, output),
    }
}

fn shown(document: &Path, signature: &Path) -> String {
    format!("{}\n{}", document.display(), signature.display())
}

/// Reads a document.
fn read(document: &[u8]) -> Result<receipt::Receipt, Failure> {
    receipt::Receipt::parse(document)
        .map_err(|problem| Failure::new(ErrorKind::InvalidInput, problem.to_string()))
}
