#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::super::super::Config;
use super::super::tests::AGENTS;
use super::*;
use crate::secret::Process;

const TLS: &str = "[server.tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n";

/// A home with a server's certificate and the authorities of two trust domains.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        home.put("server.pem", &own.cert.pem());
        home.put("server.key", &own.signing_key.serialize_pem());
        home.mode("server.key", 0o600);
        home.put("prod.pem", &authority());
        home.put("stage.pem", &authority());
        home
    }

    fn put(&self, file: &str, text: &str) {
        std::fs::write(self.0.path().join(file), text).unwrap();
    }

    fn mode(&self, file: &str, mode: u32) {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.0.path().join(file), permissions).unwrap();
    }

    fn parse(&self, text: &str) -> Result<Config, Vec<String>> {
        let text = format!("{AGENTS}{text}");
        Config::parse(self.0.path(), &text, &Process)
            .map_err(|problems| problems.iter().map(|one| format!("{one} ({})", one.label())).collect())
    }

    fn refused(&self, text: &str, expected: &str) {
        let problems = self.parse(text).expect_err(expected);
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{problems:?} {expected}"
        );
    }
}

fn authority() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let made = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap());
    made.unwrap().pem()
}

/// A trust domain of this name, by these authorities, with one workload.
fn domain(name: &str, trust_domain: &str, bundle: &str, id: &str) -> String {
    format!(
        "[server.spiffe.{name}]\ntrust_domain = \"{trust_domain}\"\nbundle = \"{bundle}\"\nagents = {{ \"{id}\" = \"assistant\" }}\n"
    )
}

fn prod(id: &str) -> String {
    format!("{TLS}{}", domain("prod", "prod.example", "prod.pem", id))
}

const ID: &str = "spiffe://prod.example/agent/support";

#[test]
fn a_server_has_a_certificate_and_knows_workloads() {
    let home = Home::new();
    let plain = home.parse("[server]").unwrap();
    assert!(plain.server().unwrap().tls.is_none() && plain.server().unwrap().spiffe.is_empty());
    let alone = home.parse(TLS).unwrap();
    assert!(alone.server().unwrap().tls.is_some() && alone.server().unwrap().spiffe.is_empty());
    let both = format!(
        "{}{}",
        prod(ID),
        domain("stage", "stage.example", "stage.pem", "spiffe://stage.example/a")
    );
    let config = home.parse(&both).unwrap();
    let server = config.server().unwrap();
    let [first, second] = server.spiffe.as_slice() else {
        panic!("{:?}", server.spiffe)
    };
    assert_eq!(
        (first.name.as_str(), first.trust_domain.as_str()),
        ("prod", "prod.example")
    );
    assert_eq!(first.agents[&ID.parse().unwrap()], "assistant");
    assert_eq!(second.trust_domain.as_str(), "stage.example");
    // Nothing shows the key.
    assert_eq!(format!("{:?}", server.tls), "Some([tls])");
    let handshakes = server
        .tls
        .as_ref()
        .unwrap()
        .handshakes(WebPkiClientVerifier::no_client_auth());
    assert_eq!(handshakes.alpn_protocols, [b"http/1.1".to_vec()]);
    assert_eq!((handshakes.send_tls13_tickets, handshakes.max_early_data_size), (0, 0));
    assert!(!handshakes.session_storage.can_cache() && !handshakes.ticketer.enabled());
    // What the files hold is part of what the configuration says; secrets are not.
    let digest = |home: &Home| home.parse(&both).unwrap().digest();
    let before = digest(&home);
    home.put("stage.pem", &authority());
    assert_ne!(digest(&home), before);
}

#[test]
fn a_certificate_has_its_key_and_nobody_else_has_that() {
    let home = Home::new();
    home.refused("[server.tls]\nkey = \"server.key\"\n", "has no `certificate`");
    home.refused("[server.tls]\ncertificate = \"server.pem\"\n", "has no `key`");
    home.refused(&format!("{TLS}ca = \"x\"\n"), "unknown key `ca` in the server's TLS");
    for mode in [0o640, 0o604, 0o660, 0o644] {
        home.mode("server.key", mode);
        home.refused(TLS, "others than its owner can read it");
    }
    home.mode("server.key", 0o400);
    assert!(home.parse(TLS).is_ok());
    home.mode("server.key", 0o600);
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    home.put("server.pem", &other.cert.pem());
    home.refused(TLS, "is not the key of the certificate");
    home.put("server.pem", "");
    home.refused(TLS, "holds no certificate");
    home.put(
        "server.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    home.refused(TLS, "cannot be used with the certificate");
    home.put("server.key", "AAAA");
    home.refused(TLS, "holds no private key in PEM form");
    home.put("server.key", &other.cert.pem());
    home.refused(TLS, "holds no private key in PEM form");
    home.refused(&TLS.replace("server.pem", "missing.pem"), "cannot be read");
    home.refused(&TLS.replace("server.key", "missing.key"), "cannot be read");
}

#[test]
fn a_certificate_that_is_over_or_soon_is_warned_of() {
    const DAY: u64 = 86_400;
    let home = Home::new();
    let now = std::time::SystemTime::now();
    let of = |since: std::time::SystemTime, until: std::time::SystemTime| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = since.into();
        params.not_after = until.into();
        home.put("server.pem", &params.self_signed(&key).unwrap().pem());
        home.put("server.key", &key.serialize_pem());
        let config = home.parse(TLS).unwrap();
        let tls = config.server().unwrap().tls.clone().unwrap();
        let ms = |time: std::time::SystemTime| {
            let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
            i64::try_from(since.as_secs() * 1_000).unwrap()
        };
        assert_eq!(tls.validity(), Some(&(ms(since)..=ms(until))));
        tls.warning(ms(now)).map(|problem| problem.message().to_owned())
    };
    let (before, day) = (now - Duration::from_secs(90 * DAY), Duration::from_secs(DAY));
    for days in [1, 13] {
        let message = of(before, now + days * day).unwrap();
        assert!(message.contains("is good until"), "{days}: {message}");
    }
    let message = of(before, now - day).unwrap();
    assert!(message.contains("was good until"), "{message}");
    for days in [15, 90, 365 * 30, 365 * 100] {
        assert_eq!(of(before, now + days * day), None, "{days}");
    }
    // One that is good for a day or three is told of in the last third of that, and not always.
    assert_eq!(of(now - day / 2, now + day / 2), None);
    assert_eq!(of(now - day, now + 2 * day), None);
    let message = of(now - 2 * day, now + day / 2).unwrap();
    assert!(message.contains("is good until"), "{message}");
}

#[test]
fn certificates_are_shown_over_tls_alone() {
    let home = Home::new();
    let without = prod(ID).replace(TLS, "[server]\n");
    home.refused(&without, "knows workloads by their certificates, and has no TLS");
}

#[test]
fn a_trust_domain_is_named_once() {
    let home = Home::new();
    let twice = format!("{}{}", prod(ID), domain("again", "prod.example", "stage.pem", ID));
    home.refused(&twice, "`again` and `prod` are the same trust domain");
    for name in ["Prod.example", "spiffe://prod.example", "prod.example:443", ""] {
        home.refused(
            &prod(ID).replace("\"prod.example\"", &format!("\"{name}\"")),
            "is no trust domain's name",
        );
    }
    home.refused(&prod(ID).replace("bundle", "bundel"), "has no `bundle`");
    home.refused(&prod(ID).replace("trust_domain", "domain"), "has no `trust_domain`");
    home.refused(&prod(ID).replace("prod.pem", "missing.pem"), "cannot be read");
    home.refused(&prod(ID).replace("prod.pem", "server.key"), "holds no certificate");
}

#[test]
fn an_authority_speaks_for_one_trust_domain() {
    let home = Home::new();
    let bundle = |home: &Home, file: &str| std::fs::read_to_string(home.0.path().join(file)).unwrap();
    let both = format!("{}{}", bundle(&home, "stage.pem"), bundle(&home, "prod.pem"));
    let text = format!(
        "{}{}",
        prod(ID),
        domain("stage", "stage.example", "stage.pem", "spiffe://stage.example/a")
    );
    assert!(home.parse(&text).is_ok());
    home.put("stage.pem", &both);
    home.refused(&text, "has an authority that is another trust domain's too");
    // Renewed, it is the same one.
    let key = rcgen::KeyPair::generate().unwrap();
    for file in ["prod.pem", "stage.pem"] {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        home.put(file, &params.self_signed(&key).unwrap().pem());
    }
    assert_ne!(bundle(&home, "prod.pem"), bundle(&home, "stage.pem"));
    home.refused(&text, "has an authority that is another trust domain's too");
    // A workload's own certificate beside it would make the workload one.
    let workload = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    home.put("prod.pem", &format!("{}{workload}", authority()));
    home.refused(&text, "holds a certificate that is no authority's");
}

#[test]
fn an_id_is_whole_and_of_its_own_trust_domain() {
    let home = Home::new();
    home.refused(
        &prod("spiffe://stage.example/agent/support"),
        "is of another trust domain",
    );
    home.refused(&prod("spiffe://prod.example.org/a"), "is of another trust domain");
    for id in [
        "prod.example/agent",
        "spiffe://prod.example",
        "spiffe://prod.example/agent/*",
        "spiffe://prod.example/agent?x",
        "spiffe://Prod.example/agent",
    ] {
        home.refused(&prod(id), "is no SPIFFE id");
    }
    home.refused(
        &prod(ID).replace("assistant", "asistant"),
        "is agent `asistant`, and there is none",
    );
    home.refused(
        &format!("{}users = {{ u = \"ada\" }}\n", prod(ID)),
        "unknown key `users`",
    );
    let without = prod(ID).replace("agents =", "# agents =");
    home.refused(&without, "has no `agents`");
}
