//! What bty-httpd tells the rest of the appliance.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use bty_api::{
    convert::timestamp,
    httpd::v1::{
        GetCertificateRequest, GetCertificateResponse, PreviewBootScriptRequest,
        PreviewBootScriptResponse, httpd_service_server::HttpdService,
    },
    status,
    types::v1::BootPath,
};
use tonic::{Request, Response, Status};

use crate::{
    boot::{attempt::Question, query::Platform},
    certificate::Certificate,
    plain::Shared,
};

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) certificate: Certificate,
}

/// An address that stands for "the address that the machine reaches this server by" (RFC 5737).
const EXAMPLE_SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 80);

#[tonic::async_trait]
impl HttpdService for Service {
    async fn get_certificate(
        &self,
        _: Request<GetCertificateRequest>,
    ) -> Result<Response<GetCertificateResponse>, Status> {
        Ok(Response::new(GetCertificateResponse {
            sha256: self.certificate.sha256.clone(),
            pem: self.certificate.pem.clone(),
            not_after: Some(timestamp(Certificate::not_after())),
        }))
    }

    async fn preview_boot_script(
        &self,
        request: Request<PreviewBootScriptRequest>,
    ) -> Result<Response<PreviewBootScriptResponse>, Status> {
        let request = request.into_inner();
        let mac = request.mac.parse().map_err(|problem| status::invalid(&problem))?;
        let platform = Platform::from_ipxe(&request.platform);
        let question = Question { path: BootPath::Pxe, is_first: false };
        let asked = self.shared.decide(mac, question, SystemTime::now());
        let script = self.shared.script(
            mac,
            BootPath::Pxe,
            platform,
            EXAMPLE_SERVER,
            &asked,
            "PREVIEW",
            "PREVIEW",
        );
        Ok(Response::new(PreviewBootScriptResponse { script }))
    }
}
