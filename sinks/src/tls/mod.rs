//! TLS of sinks: which authorities are trusted, and who we say we are. Without authorities of one's own, those that
//! browsers trust. The other end's name and certificate are always verified.

mod of_postgres;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub(crate) use self::of_postgres::PostgresTls;

/// What files of PEM hold.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Only these are trusted.
    pub authorities: Option<String>,
    /// Our certificate with those that lead to it, and its key.
    pub identity: Option<(String, String)>,
}

type Certificates = Vec<CertificateDer<'static>>;

fn certificates(pem: &str) -> Result<Certificates, String> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Certificates, _>>();
    let all = all.map_err(|error| format!("no certificates in PEM: {error}"))?;
    if all.is_empty() {
        return Err("no certificates in PEM".to_string());
    }
    Ok(all)
}

impl Tls {
    /// # Errors
    /// What it holds is no certificate or no key, or they do not belong together.
    pub fn client_config(&self, protocols: &[&[u8]]) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                for certificate in certificates(pem).map_err(|why| format!("tls.ca: {why}"))? {
                    roots.add(certificate).map_err(|error| format!("tls.ca: {error}"))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate).map_err(|why| format!("tls.cert: {why}"))?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|error| format!("tls.key: no key in PEM: {error}"))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|error| format!("tls.cert and tls.key: {error}"))?
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// The same for clients that speak HTTP/1.
    pub(crate) fn of_http(&self) -> ureq::tls::TlsConfig {
        use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
        let certificates = |pem: &str| -> Vec<Certificate<'static>> {
            let all = certificates(pem).unwrap_or_default();
            all.iter().map(|one| Certificate::from_der(one).to_owned()).collect()
        };
        let mut config = TlsConfig::builder();
        if let Some(pem) = &self.authorities {
            config = config.root_certs(RootCerts::Specific(Arc::new(certificates(pem))));
        }
        if let Some((certificate, key)) = &self.identity
            && let Ok(key) = PrivateKey::from_pem(key.as_bytes())
        {
            let chain = certificates(certificate);
            config = config.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        config.build()
    }
}
