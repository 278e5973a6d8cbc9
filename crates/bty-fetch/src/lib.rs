//! Fetching by http and https, as all of bty does it: which certificates and redirects are taken, and what of a URL may be shown.

mod redirects;
mod secrets;

use std::{error::Error, io, time::Duration};

use reqwest::{Client, Url};

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
/// which gives up the encryption.
pub fn client(patience: Duration) -> Result<Client, reqwest::Error> {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(patience)
        .redirect(redirects::policy())
        .user_agent(concat!("bty/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Whether the same request would fail the same way again: one that can't be made, a redirect that isn't followed, or a certificate that
/// isn't taken.
pub fn is_lasting(problem: &reqwest::Error) -> bool {
    problem.is_builder() || problem.is_redirect() || is_about_certificates(problem)
}

/// Whether TLS is what is at the bottom of it.
fn is_about_certificates(problem: &(dyn Error + 'static)) -> bool {
    // What an io::Error holds is not among its sources, but those of what it holds are.
    let held = problem.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let held = held.map(|held| held as &(dyn Error + 'static));
    problem.is::<rustls::Error>()
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
}
