//! `[server.tls]` and `[server.spiffe.*]`: what agents' listener shows of itself, and which workloads' certificates it knows agents by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

use ambit_core::digest::Digest;
use ambit_core::error::{Problem, printable};
use ambit_core::guard;
use ambit_core::identity::AgentSpec;
use ambit_core::identity::spiffe::{SpiffeId, TrustDomain};
use ambit_core::identity::svid;
use ambit_core::ledger::utc;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ConfigBuilder, InconsistentKeys, ServerConfig, WantsVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::super::check_name;
use super::super::reader::{Located, Table};
use super::mapped_agents;
use crate::gate::roots_of_pem;
use crate::secret::Ambient;

/// What agents' listener speaks: HTTP/1.1 (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// How long before its end people are told of the server's certificate.
const SOON_MS: i64 = 14 * 86_400_000;
/// What part of its time that is at most: one that is good for an hour is renewed within it.
const SOON_PART: i64 = 3;

/// The server's certificate and its key, ready for handshakes.
///
/// It is made when a configuration is read and never without its key: files that do not belong together are a problem of the
/// configuration, and no handshake finds out.
#[derive(Clone)]
pub struct TlsConfig {
    key: Arc<CertifiedKey>,
    /// When the certificate is good, in milliseconds since 1970.
    validity: Option<RangeInclusive<i64>>,
    way: ConfigBuilder<ServerConfig, WantsVerifier>,
}

impl fmt::Debug for TlsConfig {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[tls]")
    }
}

impl TlsConfig {
    /// When the server's own certificate is good: its first and its last second, in milliseconds since 1970; nothing where that cannot be
    /// read.
    #[must_use]
    pub const fn validity(&self) -> Option<&RangeInclusive<i64>> {
        self.validity.as_ref()
    }

    /// That clients refuse the certificate at this time, in milliseconds since 1970, or soon will. It is no problem of the configuration:
    /// clients decide about it, and a clock may be wrong.
    pub(crate) fn warning(&self, now_ms: i64) -> Option<Problem> {
        let Some((since, until)) = self.validity.as_ref().map(|good| (*good.start(), *good.end())) else {
            let message = "when the certificate of [server.tls] is good cannot be read".to_owned();
            return Some(Problem::without_source(message, None));
        };
        let soon = (until.saturating_sub(since) / SOON_PART).min(SOON_MS);
        let message = match until.saturating_sub(now_ms) {
            ..0 => format!(
                "the certificate of [server.tls] was good until {}: clients refuse it",
                utc(until)
            ),
            left if left < soon => format!(
                "the certificate of [server.tls] is good until {}: clients refuse it from then on",
                utc(until)
            ),
            _ => return None,
        };
        let help = "put the next one in its place, with its key, and have it taken: ambit reload";
        Some(Problem::without_source(message, Some(help.to_owned())))
    }

    /// How handshakes are done with clients whose certificates these say are good: TLS 1.3 (RFC 8446) and 1.2 (RFC 5246), HTTP/1.1 alone,
    /// and no session that is taken up again or data before a handshake's end. Each connection is verified for itself, by what holds when
    /// it begins, and what is sent before that end can be sent again by whoever recorded it.
    #[must_use]
    pub fn handshakes(&self, clients: Arc<dyn ClientCertVerifier>) -> ServerConfig {
        let own = SingleCertAndKey::from(Arc::clone(&self.key));
        let way = self.way.clone().with_client_cert_verifier(clients);
        let mut config = way.with_cert_resolver(Arc::new(own));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config
    }
}

/// A trust domain whose workloads are known here by their certificates (X509-SVIDs).
#[derive(Clone, Debug)]
pub struct SpiffeConfig {
    /// Its name in the configuration.
    pub name: String,
    /// What it is called in ids.
    pub trust_domain: TrustDomain,
    /// Which agent each of its workloads is: by the whole id, of this trust domain, and of nobody but an agent for itself.
    pub agents: BTreeMap<SpiffeId, String>,
    /// Verifies chains by the authorities of this trust domain.
    authorities: Arc<dyn ClientCertVerifier>,
}

impl SpiffeConfig {
    /// Whoever verifies the chains of its workloads' certificates: by its own authorities and no others.
    #[must_use]
    pub fn authorities(&self) -> &Arc<dyn ClientCertVerifier> {
        &self.authorities
    }
}

/// What both are read with.
pub(super) struct Reads<'r> {
    pub(super) agents: &'r BTreeMap<String, AgentSpec>,
    pub(super) home: &'r Path,
    pub(super) ambient: &'r dyn Ambient,
}

/// `[server.tls]`, and the digest of its certificate's file.
pub(super) fn tls(server: &Table<'_>, reads: &Reads<'_>, files: &mut Vec<Digest>) -> Option<TlsConfig> {
    let table = server.table("tls", "the server's TLS")?;
    let (certificate, key) = (table.string("certificate"), table.string("key"));
    table.missing(
        "certificate",
        "the certificate and those between it and its authority, in PEM form: certificate = \"tls/server.pem\"",
    );
    table.missing("key", "its private key, in PEM form: key = \"tls/server.key\"");
    let chain = certificate.and_then(|path| chain(&table, &path, reads, files));
    let secret = key.and_then(|path| Some((secret(&table, &path, reads)?, path.span)));
    let found = chain.zip(secret).and_then(|(chain, (secret, place))| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let validity = chain.first().and_then(|own| svid::validity(own));
        let key = CertifiedKey::from_der(chain, secret, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                "is not the key of the certificate".to_owned()
            }
            error => format!("cannot be used with the certificate: {error}"),
        });
        let ready = key.and_then(|key| {
            Ok(TlsConfig {
                key: Arc::new(key),
                validity,
                way: way(provider)?,
            })
        });
        ready
            .map_err(|why| {
                let help = "`certificate` begins with the server's own certificate, and `key` is that one's".to_owned();
                let message = "the key of the server's TLS cannot be used";
                table.source().problem(place, message, &why, Some(help));
            })
            .ok()
    });
    table.done();
    found
}

fn way(provider: Arc<CryptoProvider>) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, String> {
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

/// The certificates of a file, the server's own first.
fn chain(
    table: &Table<'_>,
    path: &Located<String>,
    reads: &Reads<'_>,
    files: &mut Vec<Digest>,
) -> Option<Vec<CertificateDer<'static>>> {
    let read = reads
        .ambient
        .read(&reads.home.join(&path.value))
        .map_err(|error| format!("cannot be read: {error}"))
        .and_then(|pem| {
            let chain = CertificateDer::pem_slice_iter(&pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| format!("is not PEM: {error}"))?;
            if chain.is_empty() {
                return Err("holds no certificate".to_owned());
            }
            files.push(Digest::of(&pem));
            Ok(chain)
        });
    read.map_err(|why| {
        let help = "a file with certificates in PEM form, its path from the home, the server's own first".to_owned();
        let message = "the certificate of the server's TLS cannot be used";
        table.source().problem(path.span.clone(), message, &why, Some(help));
    })
    .ok()
}

fn secret(table: &Table<'_>, path: &Located<String>, reads: &Reads<'_>) -> Option<PrivateKeyDer<'static>> {
    let read = reads
        .ambient
        .read_private(&reads.home.join(&path.value))
        .map(Zeroizing::new)
        .map_err(|error| format!("cannot be read: {error}"))
        .and_then(|pem| PrivateKeyDer::from_pem_slice(&pem).map_err(|_| "holds no private key in PEM form".to_owned()));
    read.map_err(|why| {
        let help = "a file with one private key in PEM form, its path from the home; nobody but its owner may have it (mode 0600)";
        let message = "the key of the server's TLS cannot be used";
        table
            .source()
            .problem(path.span.clone(), message, &why, Some(help.to_owned()));
    })
    .ok()
}

/// `[server.spiffe.*]`, and the digests of the files with authorities that they name.
pub(super) fn spiffe(server: &Table<'_>, reads: &Reads<'_>, files: &mut Vec<Digest>) -> Vec<SpiffeConfig> {
    let mut found: Vec<SpiffeConfig> = Vec::new();
    let mut known: BTreeSet<Vec<u8>> = BTreeSet::new();
    let all = server.named("spiffe", "trust domain");
    // Without TLS nobody shows a certificate.
    if !all.is_empty() && !guard!("identity.spiffe-tls", server.has("tls")) {
        let help = "certificates are shown in handshakes: [server.tls] with `certificate` and `key`".to_owned();
        let message = "the server knows workloads by their certificates, and has no TLS";
        let place = server.key_span("spiffe");
        server.source().problem(place, message, "no [server.tls]", Some(help));
    }
    for (name, table) in all {
        check_name(table.source(), &name, "trust domain");
        let (source, place) = (table.source(), table.key_span("trust_domain"));
        let one = trust_domain(&name.value, &table, reads, &mut known, files);
        table.done();
        let Some(one) = one else { continue };
        let twin = found.iter().find(|other| other.trust_domain == one.trust_domain);
        if let Some(twin) = twin
            && !guard!("identity.spiffe-once", false)
        {
            let message = format!(
                "`{}` and `{}` are the same trust domain: `{}`",
                twin.name, one.name, one.trust_domain
            );
            let help = "its authorities are one set: name each trust domain once, with all of its agents".to_owned();
            source.problem(place, message, "again", Some(help));
        }
        found.push(one);
    }
    found
}

fn trust_domain(
    name: &str,
    table: &Table<'_>,
    reads: &Reads<'_>,
    known: &mut BTreeSet<Vec<u8>>,
    files: &mut Vec<Digest>,
) -> Option<SpiffeConfig> {
    let (domain, bundle) = (table.string("trust_domain"), table.string("bundle"));
    table.missing(
        "trust_domain",
        "what its ids begin with after `spiffe://`: trust_domain = \"prod.example\"",
    );
    table.missing(
        "bundle",
        "the authorities of this trust domain and of no other, in PEM form: bundle = \"tls/prod-bundle.pem\"",
    );
    let domain = domain.and_then(|text| read_trust_domain(table, &text));
    let authorities = bundle.and_then(|path| authorities(table, &path, reads, known, files));
    let agents = ids(table, domain.as_ref(), reads.agents);
    Some(SpiffeConfig {
        name: name.to_owned(),
        trust_domain: domain?,
        agents,
        authorities: authorities?,
    })
}

fn read_trust_domain(table: &Table<'_>, text: &Located<String>) -> Option<TrustDomain> {
    text.value
        .parse()
        .map_err(|_| {
            let message = format!("`trust_domain` of {} is no trust domain's name", table.what());
            let label = "1 to 255 of a to z, 0 to 9, `.`, `-` and `_`";
            let help = "the name alone, as in \"prod.example\": no scheme, port or path".to_owned();
            table.source().problem(text.span.clone(), message, label, Some(help));
        })
        .ok()
}

/// The ids of a trust domain, and which agents they are.
fn ids(
    table: &Table<'_>,
    domain: Option<&TrustDomain>,
    agents: &BTreeMap<String, AgentSpec>,
) -> BTreeMap<SpiffeId, String> {
    let help =
        "say which agents its workloads are: agents = { \"spiffe://prod.example/agent/support\" = \"assistant\" }";
    let named = mapped_agents(table, agents, help);
    let mut ids = BTreeMap::new();
    for (text, (place, agent)) in named {
        if let Some(id) = id(table, &text, place, domain) {
            ids.insert(id, agent);
        }
    }
    ids
}

fn id(table: &Table<'_>, text: &str, place: Range<usize>, domain: Option<&TrustDomain>) -> Option<SpiffeId> {
    let problem = |message: String, label: &str, help: &str| {
        table
            .source()
            .problem(place.clone(), message, label, Some(help.to_owned()));
    };
    let id: SpiffeId = text
        .parse()
        .map_err(|why| {
            problem(
                format!("`{}` of {} is no SPIFFE id", printable(text), table.what()),
                &format!("{why}"),
                "the whole id, as in \"spiffe://prod.example/agent/support\": ids are compared to the letter",
            );
        })
        .ok()?;
    let own = domain.is_none_or(|domain| id.trust_domain() == domain.as_str());
    if !guard!("identity.spiffe-own", own) {
        problem(
            format!("`{id}` is of another trust domain than {}", table.what()),
            "of another one",
            "its authorities are those of another [server.spiffe.*]: name it there",
        );
        return None;
    }
    Some(id)
}

fn authorities(
    table: &Table<'_>,
    path: &Located<String>,
    reads: &Reads<'_>,
    known: &mut BTreeSet<Vec<u8>>,
    files: &mut Vec<Digest>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let read = reads
        .ambient
        .read(&reads.home.join(&path.value))
        .map_err(|error| format!("cannot be read: {error}"))
        .and_then(|pem| {
            let (certificates, roots) = roots_of_pem(&pem)?;
            // Who has the key of what is taken for an authority can be every workload. Some tools write a workload's own beside it.
            let are_authorities = certificates.iter().all(|one| svid::is_authority(one));
            if !guard!("identity.spiffe-authority", are_authorities) {
                return Err("holds a certificate that is no authority's".to_owned());
            }
            // An authority of two trust domains could say of a workload of the one that it is of the other. It is one by its key, whatever
            // certificates there are of that.
            let keys = || roots.roots.iter().map(|root| root.subject_public_key_info.as_ref());
            if !guard!("identity.spiffe-authority-once", !keys().any(|key| known.contains(key))) {
                return Err("has an authority that is another trust domain's too".to_owned());
            }
            known.extend(keys().map(<[u8]>::to_vec));
            files.push(Digest::of(&pem));
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| error.to_string())
        });
    read.map_err(|why| {
        let message = format!("the authorities of {} cannot be used", table.what());
        let help = "a file with certificates in PEM form, its path from the home".to_owned();
        table.source().problem(path.span.clone(), message, &why, Some(help));
    })
    .ok()
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
