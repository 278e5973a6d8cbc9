//! What bty-httpd tells the rest of the appliance.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use bty_api::{
    convert::timestamp,
    httpd::v1::{
        GetCertificateRequest, GetCertificateResponse, PreviewBootScriptRequest,
        PreviewBootScriptResponse, httpd_service_server::HttpdService,
    },
    status,
    types::v1::{BootChain, BootPath},
};
use tonic::{Request, Response, Status};

use crate::{
    boot::{
        attempt::Question,
        query::{self, Cpu, Platform},
        script::Target,
    },
    certificate::Certificate,
    plain::{Program, Shared, script},
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
        let way = self.shared.link.way(mac);
        let target = Target {
            mac,
            via: query::via(BootPath::Pxe),
            platform,
            cpu: Cpu::from_ipxe(&request.arch),
            server: EXAMPLE_SERVER,
            other_exit: way.other_exit,
        };
        let program = match (platform, target.cpu, way.chain()) {
            (Platform::Efi, Cpu::X64, BootChain::Shim) => Program::Grub,
            _ => Program::Ipxe,
        };
        let live = self.shared.live("PREVIEW".to_owned(), "PREVIEW".to_owned(), &asked);
        let script = script(program, &target, &asked.answer, &live);
        Ok(Response::new(PreviewBootScriptResponse { script }))
    }
}
