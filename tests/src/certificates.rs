//! Certificates for homes with TLS: an authority, what it signs for a server and for a workload, and clients that trust the one and show
//! the other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The workload that is an agent by its certificate.
pub const ID: &str = "spiffe://prod.example/agent/support";

/// What a configuration says of it, and of the server's own certificate.
pub const CONFIGURATION: &str = r#"
[server.tls]
certificate = "tls/server.pem"
key = "tls/server.key"
[server.spiffe.prod]
trust_domain = "prod.example"
bundle = "tls/prod.pem"
agents = { "spiffe://prod.example/agent/support" = "assistant" }
"#;

/// An authority for certificates, with a key of P-256.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate, and its key.
pub struct Signed {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Authority {
    /// A new one, with a key of its own.
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server's at `localhost`, with this key.
    pub fn server(&self, key: KeyPair) -> Signed {
        let name = SanType::DnsName("localhost".try_into().unwrap());
        self.signs(key, name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// That of [`ID`].
    pub fn workload(&self) -> Signed {
        let id = SanType::URI(ID.try_into().unwrap());
        self.signs(KeyPair::generate().unwrap(), id, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn signs(&self, key: KeyPair, name: SanType, usage: ExtendedKeyUsagePurpose) -> Signed {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        let made = params.signed_by(&key, &self.0).unwrap();
        Signed {
            der: made.der().clone(),
            pem: made.pem(),
            key,
        }
    }

    /// A client that trusts servers of this authority, and shows this.
    pub fn client(&self, shown: Option<&Signed>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match shown {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(shown.key.serialize_der()));
                config.with_client_auth_cert(vec![shown.der.clone()], key).unwrap()
            }
        })
    }

    /// Makes it the one whose workloads a home knows.
    pub fn put(&self, home: &Path) {
        put(home, "tls/prod.pem", &self.0.pem(), 0o644);
    }
}

impl Signed {
    /// Makes it a home's own.
    pub fn put(&self, home: &Path) {
        put(home, "tls/server.pem", &self.pem, 0o644);
        put(home, "tls/server.key", &self.key.serialize_pem(), 0o600);
    }
}

fn put(home: &Path, file: &str, text: &str, mode: u32) {
    let path = home.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}
