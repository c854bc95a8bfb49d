//! The door over HTTPS: the same client and the same calls as over plain HTTP, on two homes that are the same, and what a connection costs
//! that is new.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use data_encoding::BASE64;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::doors::{ambit, printed, serve, tool};
use super::report::{Amount, Figure};
use super::rounds::{Medians, Work, whole};
use super::setting::Setting;
use super::{Measured, Pace};
use crate::load::{Http, Tls};

/// The workload that calls by its certificate.
const ID: &str = "spiffe://prod.example/agent/support";
/// What the configuration says of it, and of the server's own.
const CONFIGURATION: &str = r#"
[server.tls]
certificate = "tls/server.pem"
key = "tls/server.key"
[server.spiffe.prod]
trust_domain = "prod.example"
bundle = "tls/prod.pem"
agents = { "spiffe://prod.example/agent/support" = "assistant" }
"#;
/// ring makes no keys of RSA: this one is of tests, and nobody's.
const RSA: &str = include_str!("../../../host/server/src/identity/test_rsa_key.txt");

/// Subjects, in the order of each round.
const PLAIN: usize = 0;
const WITH_KEY: usize = 1;
const WITH_CERTIFICATE: usize = 2;

pub(super) fn https_one(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (rounds, times, connections) = pace.pick((7, 300, 60), (1, 10, 3));
    let (own, prod) = (Authority::new()?, Authority::new()?);
    let home = setting.again("home-https", CONFIGURATION)?;
    fs::create_dir_all(home.join("tls"))?;
    fs::write(home.join("tls/prod.pem"), prod.0.pem())?;
    let workload = prod.signs(KeyPair::generate()?, workload()?)?;
    own.signs(KeyPair::generate()?, server()?)?.put(&home)?;
    let (plain, plain_key) = serve(&setting.home())?;
    let (https, key) = serve(&home)?;
    let doors = Doors {
        plain: (plain.address(), &plain_key),
        https: (https.address(), &key),
        silent: own.client(None)?,
        shows: own.client(Some(&workload))?,
    };
    let (mut kept, mut fresh, mut rsa) = (Medians::new(), Medians::new(), Medians::new());
    let mut clients = (doors.plain()?, doors.with_key()?, doors.with_certificate()?);
    for _ in pace.rounds(rounds) {
        let (plain, with_key, with_certificate) = &mut clients;
        kept.round(times, vec![over(plain), over(with_key), over(with_certificate)])?;
        let all = vec![
            new(|| doors.plain()),
            new(|| doors.with_key()),
            new(|| doors.with_certificate()),
        ];
        fresh.round(connections, all)?;
    }
    // Another key for the same server, which is asked for by no other row: its rounds come last.
    own.signs(rsa_key()?, server()?)?.put(&home)?;
    printed(ambit(&home, &["reload"]))?;
    for _ in 0..rounds {
        rsa.round(connections, vec![new(|| doors.with_key())])?;
    }
    let adds = |made: f64, subject: usize| Amount::Micros(made - kept.of(subject));
    let figure = Figure::of(Amount::Micros(kept.of(WITH_KEY)))
        .against(
            "the same over plain HTTP",
            Amount::Micros(kept.of(PLAIN)),
            kept.ratio(WITH_KEY, PLAIN),
        )
        .note(format!(
            "by a workload's certificate, which is verified with each request: {}",
            Amount::Micros(kept.of(WITH_CERTIFICATE))
        ))
        .note(format!(
            "a new connection adds {} over plain HTTP; with a full handshake, the client's share included, {} where the server's key is of \
             P-256, {} where it is of RSA (2048), {} with a workload's certificate",
            adds(fresh.of(PLAIN), PLAIN),
            adds(fresh.of(WITH_KEY), WITH_KEY),
            adds(rsa.of(0), WITH_KEY),
            adds(fresh.of(WITH_CERTIFICATE), WITH_CERTIFICATE)
        ));
    Ok(figure)
}

/// Two servers, and how they are reached.
struct Doors<'d> {
    /// Address and key.
    plain: (&'d str, &'d str),
    https: (&'d str, &'d str),
    /// A client that shows no certificate, and one that shows a workload's.
    silent: Arc<ClientConfig>,
    shows: Arc<ClientConfig>,
}

impl Doors<'_> {
    fn plain(&self) -> Measured<Http> {
        Ok(Http::connect(self.plain.0, self.plain.1)?)
    }

    fn with_key(&self) -> Measured<Http<Tls>> {
        Ok(Http::connect_tls(self.https.0, self.https.1, &self.silent)?)
    }

    /// Without a key: whoever shows one is whom that is of.
    fn with_certificate(&self) -> Measured<Http<Tls>> {
        Ok(Http::connect_tls(self.https.0, "", &self.shows)?)
    }
}

/// One more call over a connection.
fn over<S: std::io::Read + std::io::Write>(client: &mut Http<S>) -> Work<'_> {
    Box::new(|| {
        let (tool, arguments) = tool();
        Ok(client.call(tool, &arguments)?)
    })
}

/// The first call over a connection, with the connection.
fn new<'w, S: std::io::Read + std::io::Write>(connect: impl Fn() -> Measured<Http<S>> + 'w) -> Work<'w> {
    whole(move || {
        let (tool, arguments) = tool();
        let mut client = connect()?;
        client.call(tool, &arguments)?;
        Ok(client)
    })
}

/// An authority for certificates, with a key of P-256.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate in both forms, and its key.
struct Signed {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Authority {
    fn new() -> Measured<Authority> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Authority(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    fn signs(&self, key: KeyPair, params: CertificateParams) -> Measured<Signed> {
        let made = params.signed_by(&key, &self.0)?;
        Ok(Signed {
            der: made.der().clone(),
            pem: made.pem(),
            key,
        })
    }

    /// A client that trusts servers of this authority, and shows this.
    fn client(&self, shown: Option<&Signed>) -> Measured<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        Ok(Arc::new(match shown {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(shown.key.serialize_der()));
                config.with_client_auth_cert(vec![shown.der.clone()], key)?
            }
        }))
    }
}

impl Signed {
    /// Makes it a home's own.
    fn put(&self, home: &Path) -> Measured<()> {
        let key = home.join("tls/server.key");
        fs::write(home.join("tls/server.pem"), &self.pem)?;
        fs::write(&key, self.key.serialize_pem())?;
        Ok(fs::set_permissions(key, fs::Permissions::from_mode(0o600))?)
    }
}

fn of(name: SanType, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![name];
    params.extended_key_usages = vec![usage];
    params
}

fn server() -> Measured<CertificateParams> {
    let name = SanType::DnsName("localhost".try_into()?);
    Ok(of(name, ExtendedKeyUsagePurpose::ServerAuth))
}

fn workload() -> Measured<CertificateParams> {
    let id = SanType::URI(ID.try_into()?);
    Ok(of(id, ExtendedKeyUsagePurpose::ClientAuth))
}

fn rsa_key() -> Measured<KeyPair> {
    let der = BASE64.decode(RSA.replace('\n', "").as_bytes())?;
    Ok(KeyPair::try_from(der)?)
}
