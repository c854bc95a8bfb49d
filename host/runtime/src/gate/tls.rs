//! TLS towards services: rustls, the origin's name, and either the public authorities or the connection's own.

use std::sync::Arc;

use ambit_core::error::{Code, Refusal};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whose signature on a service's certificate counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorities {
    /// The public ones, as Mozilla lists them, compiled in: what is installed on the machine does not count.
    #[default]
    Public,
    /// These alone.
    Only(Vec<CertificateDer<'static>>),
}

impl Authorities {
    /// Reads certificates from PEM text.
    ///
    /// # Errors
    /// One clause: not PEM, no certificate in it, or one that cannot be an authority.
    pub fn from_pem(pem: &[u8]) -> Result<Authorities, String> {
        Ok(Authorities::Only(roots_of_pem(pem)?.0))
    }
}

/// The authorities of a PEM text, and the same ready for verifying.
///
/// # Errors
/// One clause: not PEM, no certificate in it, or one that cannot be an authority.
pub(crate) fn roots_of_pem(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("is not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("holds no certificate".into());
    }
    let roots = roots(&certificates)?;
    Ok((certificates, roots))
}

fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store
            .add(certificate.clone())
            .map_err(|error| format!("holds a certificate that cannot be used: {error}"))?;
    }
    Ok(store)
}

/// TLS as one connection uses it. Session tickets are kept in here, so no two connections share any.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// For a service whose origin has `host`, which is what its certificate must be for, wherever the socket goes.
    ///
    /// # Errors
    /// One clause: the host cannot be in a certificate, or an authority cannot be used.
    pub(super) fn new(host: &str, authorities: &Authorities) -> Result<Tls, String> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name =
            ServerName::try_from(bare.to_owned()).map_err(|_| format!("{host} cannot be a certificate's name"))?;
        let roots = match authorities {
            Authorities::Public => RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            },
            Authorities::Only(certificates) => roots(certificates)?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Data sent before the handshake ends can be sent again by whoever recorded it.
        config.enable_early_data = false;
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    /// Shakes hands over an open socket.
    ///
    /// # Errors
    /// [`Code::Tls`]: what rustls found wrong with the peer. Nothing of a request was sent.
    pub(super) async fn shake<S>(&self, socket: S) -> Result<TlsStream<S>, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connector
            .connect(self.name.clone(), socket)
            .await
            .map_err(|error| {
                Refusal::new(
                    Code::Tls,
                    format!("no TLS connection as {}: {error}", self.name.to_str()),
                )
                .advise("the certificate must be for the connection's origin and signed by a public authority, or by one in the connection's `ca`")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read_or_refused_at_load() {
        let own = rcgen::generate_simple_self_signed(["api.example".to_owned()]).unwrap();
        let why = |pem: &[u8]| Authorities::from_pem(pem).err();
        assert_eq!(why(own.cert.pem().as_bytes()), None);
        assert_eq!(why(b""), Some("holds no certificate".into()));
        assert_eq!(
            why(own.signing_key.serialize_pem().as_bytes()),
            Some("holds no certificate".into())
        );
        assert!(
            why(b"-----BEGIN CERTIFICATE-----\nAAAA\n")
                .unwrap()
                .starts_with("is not PEM")
        );
        assert!(
            why(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
                .unwrap()
                .starts_with("holds a certificate that cannot be used")
        );
    }
}
