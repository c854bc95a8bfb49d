//! Which workload is on the other side of a connection: by the certificate that it shows in the handshake (X509-SVID).
//!
//! A certificate is looked at in this order: its chain's length, the one SPIFFE id that it has
//! ([`id_of`](ambit_core::identity::svid::id_of)), the trust domain of that id, and then the chain, by the authorities of this trust
//! domain and no others. So an authority of one trust domain says nothing of the workloads of another. It is done at the handshake, where
//! the client proves that it has the certificate's key, and once more at each request, by what the host has taken last: certificates of
//! workloads are good for an hour or so, and connections stay open for longer.

use std::sync::Arc;

use ambit_core::digest::Digest;
use ambit_core::guard;
use ambit_core::identity::spiffe::SpiffeId;
use ambit_core::identity::svid::{self, NotSvid};
use ambit_core::identity::why::{Denied, Why};
use ambit_core::ledger::body::CertificateShown;
use ambit_runtime::config::SpiffeConfig;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// The most certificates that a client shows, its own included: between a workload and its authority there are one or two others. They are
/// tried in every order, before anything of them is believed and on a thread that serves others: of three that is sixteen ways, of seven
/// thousands.
const MOST_CERTIFICATES: usize = 4;

/// What a client showed in its connection's handshake, and has the key of.
#[derive(Debug)]
pub struct Peer {
    /// Its own certificate first.
    chain: Vec<CertificateDer<'static>>,
    /// The digest of its own.
    digest: Digest,
}

impl Peer {
    /// Of the certificates that a handshake took; nothing where the client showed none.
    pub(crate) fn new(chain: &[CertificateDer<'static>]) -> Option<Peer> {
        let own = chain.first()?;
        Some(Peer {
            digest: Digest::of(own),
            chain: chain.to_vec(),
        })
    }
}

/// The workloads that are known here, by their trust domains. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Workloads(Arc<Known>);

#[derive(Debug)]
struct Known {
    domains: Vec<SpiffeConfig>,
    /// What clients are told of whose certificates are taken: who has several chooses by it.
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Workloads {
    pub(crate) fn new(domains: &[SpiffeConfig]) -> Workloads {
        let hints = domains
            .iter()
            .flat_map(|domain| domain.authorities().root_hint_subjects());
        Workloads(Arc::new(Known {
            hints: hints.cloned().collect(),
            domains: domains.to_vec(),
            algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms,
        }))
    }

    /// Whoever looks at clients' certificates in handshakes. Where no workload is known nobody is asked for one.
    pub(crate) fn in_handshakes(&self) -> Arc<dyn ClientCertVerifier> {
        match self.0.domains.is_empty() {
            true => WebPkiClientVerifier::no_client_auth(),
            false => Arc::clone(&self.0) as Arc<dyn ClientCertVerifier>,
        }
    }

    /// Which agent a client is, and what it showed for it, where that is good now.
    ///
    /// # Errors
    /// [`Why::Certificate`] where it is not, or not any more; [`Why::Agent`] where the workload is nobody's agent.
    pub(crate) fn identify(&self, peer: &Peer) -> Result<(&str, CertificateShown), Denied> {
        let gone = || {
            Denied::new(
                Why::Certificate,
                "the connection's certificate is not good any more: connect again with a newer one",
            )
        };
        let (own, between) = peer.chain.split_first().ok_or_else(gone)?;
        let (id, domain) = self.0.named(own, between).map_err(|_| gone())?;
        let verified = domain.authorities().verify_client_cert(own, between, UnixTime::now());
        if !guard!("identity.spiffe-again", verified.is_ok()) {
            return Err(gone());
        }
        let agent = domain.agents.get(&id);
        let agent = agent.ok_or_else(|| Denied::new(Why::Agent, "the certificate is of nobody who is known here"))?;
        let shown = CertificateShown {
            certificate: peer.digest,
            id,
        };
        Ok((agent, shown))
    }
}

impl Known {
    /// The workload that a certificate is of, and its trust domain, before anything is verified.
    fn named(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
    ) -> Result<(SpiffeId, &SpiffeConfig), Error> {
        if !guard!("identity.spiffe-chain", between.len() < MOST_CERTIFICATES) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let id = svid::id_of(own).map_err(no_workload)?;
        let mut domains = self.domains.iter();
        let domain = domains.find(|domain| {
            let own = domain.trust_domain.as_str() == id.trust_domain();
            guard!("identity.spiffe-domain", own)
        });
        let domain = domain.ok_or(CertificateError::UnknownIssuer)?;
        Ok((id, domain))
    }
}

fn no_workload(why: NotSvid) -> Error {
    match why {
        NotSvid::Malformed => CertificateError::BadEncoding.into(),
        why => CertificateError::Other(OtherError(Arc::new(why))).into(),
    }
}

impl ClientCertVerifier for Known {
    /// Keys and tokens go on being good without.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (_, domain) = self.named(own, between)?;
        domain.authorities().verify_client_cert(own, between, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, own, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, own, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
