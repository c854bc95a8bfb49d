//! Certificates of workloads, as clients show them.

use ambit_core::identity::spiffe::SpiffeId;
use ambit_core::identity::svid;
use ambit_core::ledger::{parse_utc, utc};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::fuzz::Became;

const WORKLOAD: &str = "spiffe://prod.example/agent/support";

pub(super) const WORDS: &[&str] = &[
    WORKLOAD,
    "spiffe://",
    "/../",
    "//",
    "%2f",
    "\u{6}\u{3}U\u{1d}\u{f}",
    "\u{6}\u{3}U\u{1d}\u{11}",
    "\u{6}\u{3}U\u{1d}\u{13}",
];

/// A key of Ed25519 (RFC 8410) that is nobody's: each run has the same seeds.
fn key() -> KeyPair {
    const HEAD: [u8; 16] = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    ];
    let text = [HEAD.as_slice(), &[7; 32]].concat();
    KeyPair::try_from(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(text))).expect("a key")
}

/// A workload's certificate, and some that are none's.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let certificate = |uris: &[&str], change: fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("text")));
        params.subject_alt_names = uris.collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        params.self_signed(&key()).expect("a certificate").der().to_vec()
    };
    vec![
        certificate(&[WORKLOAD], |_| {}),
        certificate(&[WORKLOAD, "https://prod.example/"], |_| {}),
        certificate(&[], |_| {}),
        certificate(&[WORKLOAD], |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
        }),
        certificate(&[WORKLOAD], |params| params.key_usages.push(KeyUsagePurpose::CrlSign)),
    ]
}

/// An id that is found stands in the certificate, and is one by itself. A time that is read is one.
pub(super) fn drive(bytes: &[u8]) -> Became {
    if let Some(good) = svid::validity(bytes) {
        for time in [*good.start(), *good.end()] {
            assert_eq!(parse_utc(&utc(time)), Some(time), "one spelling");
        }
    }
    let id = svid::id_of(bytes).map_err(|why| why.to_string())?;
    let text = id.as_str();
    assert!(
        bytes.windows(text.len()).any(|part| part == text.as_bytes()),
        "it is of the certificate"
    );
    assert_eq!(text.parse::<SpiffeId>().as_ref(), Ok(&id), "one spelling");
    assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
    Ok(())
}
