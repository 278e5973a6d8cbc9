//! The certificate of the agents' API: made at first start, pinned by every boot script.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::secret::write_private;

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// SHA-256 of the certificate's DER, in hexadecimal: what is pinned.
    pub(crate) sha256: String,
    /// The certificate in PEM.
    pub(crate) pem: String,
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// A certificate that can't be read, made or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file can't be read or written.
    #[error("reading or writing {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("reading the PEM in {}; remove the folder to make a new certificate", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// Making it failed.
    #[error("making a certificate")]
    Make(#[source] rcgen::Error),
    /// TLS doesn't take it.
    #[error("using the certificate for TLS")]
    Tls(#[source] rustls::Error),
}

/// When the certificate ends: agents pin it and look at no date, since a machine's clock may be years off.
const LAST_YEAR: i32 = 2099;
/// 2099-12-31T00:00:00Z.
const LAST_DAY: Duration = Duration::from_hours(1_139_544);

/// Reads `cert.pem` and `key.pem` of the folder, or makes them.
pub(crate) fn load_or_make(folder: &Path) -> Result<Certificate, CertificateError> {
    let (cert_path, key_path) = (folder.join("cert.pem"), folder.join("key.pem"));
    // The key is written first: where the certificate is, its key is.
    if !cert_path.exists() {
        let (cert, key) = make().map_err(CertificateError::Make)?;
        for (path, content) in [(&key_path, key), (&cert_path, cert)] {
            write_private(path, content.as_bytes())
                .map_err(|source| CertificateError::File { path: path.clone(), source })?;
        }
    }
    let read = |path: &Path| {
        fs::read_to_string(path)
            .map_err(|source| CertificateError::File { path: path.to_owned(), source })
    };
    let pem = read(&cert_path)?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|source| CertificateError::Pem { path: cert_path, source })?;
    let key = PrivateKeyDer::from_pem_slice(read(&key_path)?.as_bytes())
        .map_err(|source| CertificateError::Pem { path: key_path, source })?;
    let sha256 = Sha256::digest(&der).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    Ok(Certificate { sha256, pem, der, key })
}

fn make() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec!["bty.local".to_owned(), "localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "bty appliance");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(LAST_YEAR, 12, 31);
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

impl Certificate {
    /// Until when it is valid.
    pub(crate) fn not_after() -> SystemTime {
        UNIX_EPOCH + LAST_DAY
    }

    /// What takes TLS connections with it: HTTP/2 for agents, HTTP/1.1 for everything else.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Tls)?
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], self.key.clone_key())
            .map_err(CertificateError::Tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_pin_stays() {
        let folder = tempfile::tempdir().unwrap();
        let made = load_or_make(&folder.path().join("tls")).unwrap();
        let read = load_or_make(&folder.path().join("tls")).unwrap();
        assert_eq!(made.sha256, read.sha256);
        assert_eq!(made.sha256.len(), 64);
        made.acceptor().unwrap();
    }
}
