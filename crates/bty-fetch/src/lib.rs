//! Fetching by http and https, as all of bty does it: which certificates and redirects are taken, and what of a URL may be shown.

mod redirects;
mod secrets;

use std::{
    error::Error,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Client, StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};

pub use secrets::without_secrets;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A text that is no URL of something to fetch.
#[derive(Debug, thiserror::Error)]
#[error("it is no http or https URL{}", .0.map(|problem| format!(": {problem}")).unwrap_or_default())]
pub struct UrlError(Option<<Url as std::str::FromStr>::Err>);

/// An http or https URL.
pub fn url(text: &str) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|problem| UrlError(Some(problem)))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(UrlError(None))
    }
}

/// A client whose servers may say nothing for so long. It takes the certificates that this machine takes, and five redirects, none of
/// which gives up the encryption. Where the machine has no certificates, http works all the same.
pub fn client(patience: Duration) -> Result<Client, reqwest::Error> {
    Client::builder()
        .tls_backend_preconfigured(tls())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(patience)
        .redirect(redirects::policy())
        // It would tell another server what the query has.
        .referer(false)
        .user_agent(concat!("bty/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Certificates are read once: they are some hundred files, and take memory.
fn tls() -> ClientConfig {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    let made = CONFIG.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the protocols that are its own defaults")
            .with_root_certificates(roots)
            .with_no_client_auth()
    });
    made.clone()
}

/// Whether the same request would fail the same way again: one that can't be made, a redirect that isn't followed, or a certificate that
/// isn't taken.
pub fn is_lasting(problem: &reqwest::Error) -> bool {
    problem.is_builder() || problem.is_redirect() || is_about_certificates(problem)
}

/// Whether a server that answers so may answer otherwise later.
pub fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// Whether a certificate is what is at the bottom of it.
fn is_about_certificates(problem: &(dyn Error + 'static)) -> bool {
    // What an io::Error holds is not among its sources, but those of what it holds are.
    let held = problem.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let held = held.map(|held| held as &(dyn Error + 'static));
    matches!(problem.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
        || held.is_some_and(is_about_certificates)
        || problem.source().is_some_and(is_about_certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_is_fetched() {
        for text in ["", "file:///etc/passwd", "ftp://example.org/a", "http:", "/a", "data:,x"] {
            assert!(url(text).is_err(), "{text:?} was accepted");
        }
        for text in ["http://10.0.0.1/x", "https://example.org:8443/x?y=1"] {
            assert_eq!(url(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_certificate_that_is_not_taken_lasts_and_a_server_that_ends_does_not() {
        let of = |problem| io::Error::new(io::ErrorKind::InvalidData, problem);
        let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert!(is_about_certificates(&of(refused.clone())));
        assert!(is_about_certificates(&io::Error::other(of(refused))));
        let ended = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
        assert!(!is_about_certificates(&of(ended)));
        assert!(!is_about_certificates(&io::Error::from(io::ErrorKind::ConnectionReset)));
    }
}
