//! Whom an X.509 certificate is of: the SPIFFE id of a workload's; and when any is good.
//!
//! [`id_of`] holds what the [X509-SVID specification](https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md) asks of a
//! certificate that shows who a workload is, and libraries for TLS do not look at: one URI among its names and no other, which is a
//! [`SpiffeId`] (section 2), and no right to sign certificates or lists of revoked ones (sections 4.1, 4.3 and 5.2). Signatures, times
//! and purposes are not looked at here: a certificate is believed only once its chain was verified by the authorities of the id's own
//! trust domain.
//!
//! Certificates are DER (RFC 5280, ITU-T X.690). What is not to the letter is refused: a reader that is lenient here and one that is
//! not would see two certificates.

use std::ops::RangeInclusive;

use super::spiffe::{NotAnId, SpiffeId};
use crate::guard;
use crate::ledger::parse_utc;

const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]` of a `TBSCertificate`: its version.
const VERSION: u8 = 0xa0;
/// `[3]` of a `TBSCertificate`: its extensions.
const EXTENSIONS: u8 = 0xa3;
/// `[6]` of a `GeneralName`: a URI.
const URI: u8 = 0x86;

/// 2.5.29.15
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.29.19
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

/// Bits 5 and 6 of a key's usage: it signs certificates, or lists of revoked ones.
const SIGNS: u8 = 0b0000_0110;

/// Why a certificate is of no workload: one clause, which quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSvid {
    /// It is no certificate, or has an extension twice.
    #[error("is no certificate")]
    Malformed,
    /// It is one of an authority.
    #[error("is that of an authority, which is no workload")]
    Authority,
    /// It has no URI among its names, or more than one.
    #[error("has {0} URIs among its names, and a workload's has one")]
    Uris(usize),
    /// Its URI is no SPIFFE id.
    #[error("has a URI that {0}")]
    Id(#[from] NotAnId),
}

/// The id of the workload that a certificate is of, which is in DER. Whether the certificate is genuine is not looked at.
///
/// # Errors
/// Why it is of none.
pub fn id_of(certificate: &[u8]) -> Result<SpiffeId, NotSvid> {
    let extensions = Extensions::of(certificate).ok_or(NotSvid::Malformed)?;
    let signs = extensions.signs().ok_or(NotSvid::Malformed)?;
    if !guard!("identity.svid-leaf", !signs) {
        return Err(NotSvid::Authority);
    }
    let uris = extensions.uris().ok_or(NotSvid::Malformed)?;
    let Some(uri) = uris
        .first()
        .filter(|_| guard!("identity.svid-one-uri", uris.len() == 1))
    else {
        return Err(NotSvid::Uris(uris.len()));
    };
    let text = std::str::from_utf8(uri).map_err(|_| NotSvid::Malformed)?;
    Ok(text.parse()?)
}

/// Whether a certificate, in DER, is that of an authority (RFC 5280, section 4.2.1.9): with nothing else can another's be verified.
#[must_use]
pub fn is_authority(certificate: &[u8]) -> bool {
    Extensions::of(certificate).and_then(|extensions| extensions.is_authority()) == Some(true)
}

/// When a certificate, in DER, is good: its first and its last second, in milliseconds since 1970, by what it says of itself (RFC 5280,
/// section 4.1.2.5). Nothing where it does not say so to the letter.
#[must_use]
pub fn validity(certificate: &[u8]) -> Option<RangeInclusive<i64>> {
    let mut signed = signed(certificate)?;
    signed.maybe(VERSION)?;
    // Its number, how it is signed, and by whom.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        signed.one(tag)?;
    }
    let mut validity = Der(signed.one(SEQUENCE)?);
    let (first, last) = (time(validity.next()??)?, time(validity.next()??)?);
    validity.end()?;
    Some(first..=last)
}

/// A time in one of its two forms: `YYMMDDHHMMSSZ`, of the years 1950 to 2049, and `YYYYMMDDHHMMSSZ`.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let whole = match (tag, text.len()) {
        (UTC_TIME, 13) => format!("{}{text}", if text < "50" { "20" } else { "19" }),
        (GENERALIZED_TIME, 15) => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| whole.get(from..to);
    let day = format!("{}-{}-{}", part(0, 4)?, part(4, 6)?, part(6, 8)?);
    parse_utc(&format!("{day}T{}:{}:{}", part(8, 10)?, part(10, 12)?, part(12, 15)?))
}

/// What is signed of a certificate.
fn signed(certificate: &[u8]) -> Option<Der<'_>> {
    let mut outer = Der(certificate);
    let mut parts = Der(outer.one(SEQUENCE)?);
    outer.end()?;
    Some(Der(parts.one(SEQUENCE)?))
}

/// The contents of the extensions that are looked at.
#[derive(Default)]
struct Extensions<'d> {
    names: Option<&'d [u8]>,
    usage: Option<&'d [u8]>,
    constraints: Option<&'d [u8]>,
}

impl<'d> Extensions<'d> {
    /// Those of a certificate; nothing where it is none, or has one of them twice.
    fn of(certificate: &'d [u8]) -> Option<Extensions<'d>> {
        let mut signed = signed(certificate)?;
        let mut found = Extensions::default();
        while let Some((tag, content)) = signed.next()? {
            if tag != EXTENSIONS {
                continue;
            }
            let mut content = Der(content);
            let mut all = Der(content.one(SEQUENCE)?);
            content.end()?;
            while !all.is_empty() {
                found.put(all.one(SEQUENCE)?)?;
            }
            // They are the last of what is signed.
            signed.end()?;
        }
        Some(found)
    }

    /// Takes one extension: its name, whether it must be understood, and its content.
    fn put(&mut self, extension: &'d [u8]) -> Option<()> {
        let mut extension = Der(extension);
        let name = extension.one(OID)?;
        extension.maybe(BOOLEAN)?;
        let content = extension.one(OCTET_STRING)?;
        extension.end()?;
        let place = match name {
            SUBJECT_ALT_NAME => &mut self.names,
            KEY_USAGE => &mut self.usage,
            BASIC_CONSTRAINTS => &mut self.constraints,
            _ => return Some(()),
        };
        place.replace(content).is_none().then_some(())
    }

    /// Whether it says that it is an authority's.
    fn is_authority(&self) -> Option<bool> {
        let Some(content) = self.constraints else {
            return Some(false);
        };
        let mut content = Der(content);
        let mut constraints = Der(content.one(SEQUENCE)?);
        content.end()?;
        // Where it is left out it is none.
        Some(constraints.maybe(BOOLEAN)?.is_some_and(|value| value != [0]))
    }

    /// Whether the key signs certificates, or lists of them.
    fn signs(&self) -> Option<bool> {
        let is_authority = self.is_authority()?;
        let mut may_sign = false;
        if let Some(content) = self.usage {
            let mut content = Der(content);
            let bits = content.one(BIT_STRING)?;
            content.end()?;
            // The first byte says how many bits of the last are none.
            let (_, bits) = bits.split_first()?;
            may_sign = bits.first().is_some_and(|first| first & SIGNS != 0);
        }
        Some(is_authority || may_sign)
    }

    /// All URIs among the names, whatever they are.
    fn uris(&self) -> Option<Vec<&'d [u8]>> {
        let Some(content) = self.names else {
            return Some(Vec::new());
        };
        let mut content = Der(content);
        let mut names = Der(content.one(SEQUENCE)?);
        content.end()?;
        let mut uris = Vec::new();
        while let Some((tag, name)) = names.next()? {
            if tag == URI {
                uris.push(name);
            }
        }
        Some(uris)
    }
}

/// Elements of DER, one after the other. Nothing is returned for what is not to the letter.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That there is no more.
    fn end(&self) -> Option<()> {
        self.is_empty().then_some(())
    }

    /// The next element's tag and content; `Some(None)` at the end.
    fn next(&mut self) -> Option<Option<(u8, &'d [u8])>> {
        let Some((tag, rest)) = self.0.split_first() else {
            return Some(None);
        };
        // A tag of several bytes: no certificate has one.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Some((*tag, content)))
    }

    /// The content of the next element, which is of this kind.
    fn one(&mut self, tag: u8) -> Option<&'d [u8]> {
        let (found, content) = self.next()??;
        (found == tag).then_some(content)
    }

    /// The content of the next element where it is of this kind.
    fn maybe(&mut self, tag: u8) -> Option<Option<&'d [u8]>> {
        match self.0.first() {
            Some(next) if *next == tag => Some(Some(self.one(tag)?)),
            _ => Some(None),
        }
    }
}

/// The length that begins a text, in its one form (X.690, sections 8.1.3 and 10.1), and what follows it.
fn length(text: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = text.split_first()?;
    if first & 0x80 == 0 {
        return Some((usize::from(*first), rest));
    }
    let bytes = usize::from(first & 0x7f);
    // No certificate has gigabytes; and of none whose end is marked is the length said.
    if !(1..=4).contains(&bytes) {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(bytes)?;
    let length = digits.iter().try_fold(0_usize, |sum, digit| {
        sum.checked_mul(256)?.checked_add(usize::from(*digit))
    })?;
    let shortest = digits.first() != Some(&0) && length >= 0x80;
    shortest.then_some((length, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    const WORKLOAD: &str = "spiffe://prod.example/agent/support";

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut text = vec![tag];
        match content.len() {
            short @ 0..0x80 => text.push(short as u8),
            long @ 0x80..0x100 => text.extend([0x81, long as u8]),
            long => text.extend([0x82, (long >> 8) as u8, long as u8]),
        }
        text.extend_from_slice(content);
        text
    }

    fn extension(name: &[u8], content: &[u8]) -> Vec<u8> {
        let critical = der(BOOLEAN, &[0xff]);
        der(
            SEQUENCE,
            &[der(OID, name), critical, der(OCTET_STRING, content)].concat(),
        )
    }

    /// What has the form of a certificate, with these extensions.
    fn certificate(extensions: &[Vec<u8>]) -> Vec<u8> {
        let before = [der(0xa0, &der(2, &[2])), der(2, &[1]), der(SEQUENCE, &[])].concat();
        let extensions = der(EXTENSIONS, &der(SEQUENCE, &extensions.concat()));
        let signed = der(SEQUENCE, &[before, extensions].concat());
        der(
            SEQUENCE,
            &[signed, der(SEQUENCE, &[]), der(BIT_STRING, &[0, 1])].concat(),
        )
    }

    fn names(all: &[(u8, &str)]) -> Vec<u8> {
        let all: Vec<Vec<u8>> = all.iter().map(|(tag, name)| der(*tag, name.as_bytes())).collect();
        extension(SUBJECT_ALT_NAME, &der(SEQUENCE, &all.concat()))
    }

    fn usage(bits: u8) -> Vec<u8> {
        extension(KEY_USAGE, &der(BIT_STRING, &[0, bits]))
    }

    #[test]
    fn a_workload_has_one_uri() {
        let of = |all: &[(u8, &str)]| id_of(&certificate(&[usage(0x80), names(all)]));
        assert_eq!(of(&[(URI, WORKLOAD)]).unwrap().as_str(), WORKLOAD);
        // Names of other kinds are nobody's here.
        assert!(of(&[(0x82, "prod.example"), (URI, WORKLOAD), (0x81, "a@b")]).is_ok());
        assert_eq!(of(&[(0x82, "prod.example")]), Err(NotSvid::Uris(0)));
        assert_eq!(id_of(&certificate(&[])), Err(NotSvid::Uris(0)));
        for second in [WORKLOAD, "spiffe://prod.example/agent/other", "https://a.example/", ""] {
            assert_eq!(of(&[(URI, WORKLOAD), (URI, second)]), Err(NotSvid::Uris(2)), "{second}");
            assert_eq!(of(&[(URI, second), (URI, WORKLOAD)]), Err(NotSvid::Uris(2)), "{second}");
        }
        assert_eq!(of(&[(URI, "https://prod.example/")]), Err(NotSvid::Id(NotAnId::Scheme)));
        assert_eq!(of(&[(URI, "spiffe://prod.example")]), Err(NotSvid::Id(NotAnId::NoPath)));
    }

    #[test]
    fn an_authority_is_no_workload() {
        let constraints = |content: &[u8]| extension(BASIC_CONSTRAINTS, &der(SEQUENCE, content));
        let of = |more: Vec<u8>| id_of(&certificate(&[more, names(&[(URI, WORKLOAD)])]));
        for sound in [
            constraints(&[]),
            constraints(&der(BOOLEAN, &[0])),
            usage(0b1010_0000),
            usage(0),
        ] {
            assert!(!is_authority(&certificate(std::slice::from_ref(&sound))));
            assert!(of(sound).is_ok());
        }
        assert!(is_authority(&certificate(&[constraints(&der(BOOLEAN, &[0xff]))])));
        for authority in [
            constraints(&der(BOOLEAN, &[0xff])),
            constraints(&[der(BOOLEAN, &[1]), der(2, &[0])].concat()),
            usage(0b0000_0100),
            usage(0b1000_0010),
        ] {
            assert_eq!(of(authority), Err(NotSvid::Authority));
        }
    }

    /// The same, with this as its validity.
    fn good_for(dates: &[u8]) -> Vec<u8> {
        let before = [der(VERSION, &der(INTEGER, &[2])), der(INTEGER, &[1])].concat();
        let signed = [before, der(SEQUENCE, &[]), der(SEQUENCE, &[]), der(SEQUENCE, dates)].concat();
        der(SEQUENCE, &der(SEQUENCE, &signed))
    }

    #[test]
    fn a_certificate_is_good_until_its_last_second() {
        let begins = der(UTC_TIME, b"250101000000Z");
        let of = |tag: u8, text: &str| {
            let found = validity(&good_for(&[begins.clone(), der(tag, text.as_bytes())].concat()));
            found.map(|good| (crate::ledger::utc(*good.start()), crate::ledger::utc(*good.end())))
        };
        let first = "2025-01-01T00:00:00.000Z".to_owned();
        for (tag, text, time) in [
            (UTC_TIME, "261206235959Z", "2026-12-06T23:59:59.000Z"),
            (UTC_TIME, "491231235959Z", "2049-12-31T23:59:59.000Z"),
            (UTC_TIME, "500101000000Z", "1950-01-01T00:00:00.000Z"),
            (GENERALIZED_TIME, "20500101000000Z", "2050-01-01T00:00:00.000Z"),
            (GENERALIZED_TIME, "99991231235959Z", "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(of(tag, text), Some((first.clone(), time.to_owned())), "{text}");
        }
        for (tag, text) in [
            (UTC_TIME, "2612062359Z"),
            (UTC_TIME, "261306235959Z"),
            (UTC_TIME, "26120623595+Z"),
            (UTC_TIME, "261206235959+"),
            (UTC_TIME, "20261206235959Z"),
            (GENERALIZED_TIME, "261206235959Z"),
            (GENERALIZED_TIME, "2026120623595éZ"),
            (OCTET_STRING, "261206235959Z"),
            (UTC_TIME, ""),
        ] {
            assert_eq!(of(tag, text), None, "{text}");
        }
        assert_eq!(validity(&good_for(&begins)), None);
        assert_eq!(validity(&good_for(&[begins.as_slice(); 3].concat())), None);
        assert_eq!(validity(&certificate(&[])), None);
        let never = [der(UTC_TIME, b"2501010000Z"), begins].concat();
        assert_eq!(validity(&good_for(&never)), None);
    }

    #[test]
    fn what_is_not_to_the_letter_is_no_certificate() {
        let sound = certificate(&[names(&[(URI, WORKLOAD)])]);
        assert!(id_of(&sound).is_ok());
        let twice = certificate(&[names(&[(URI, WORKLOAD)]), names(&[(URI, WORKLOAD)])]);
        let more = [sound.as_slice(), &[0]].concat();
        let not_text = certificate(&[extension(SUBJECT_ALT_NAME, &der(SEQUENCE, &der(URI, &[0xff, 0xfe])))]);
        for wrong in [
            &[][..],
            &[0x30],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 1, 0],
            &twice,
            &more,
            &not_text,
        ] {
            assert!(!is_authority(wrong));
            assert_eq!(id_of(wrong), Err(NotSvid::Malformed), "{wrong:?}");
        }
        for end in 0..sound.len() {
            assert!(id_of(sound.get(..end).unwrap()).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_whatever_comes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(id_of(&bytes));
            let _ = validity(&bytes);
        }

        #[test]
        fn one_byte_more_or_other_makes_nobody_of_another_name(at in 0..200_usize, byte: u8) {
            let mut bent = certificate(&[usage(0x80), names(&[(URI, WORKLOAD)])]);
            let Some(place) = bent.get_mut(at) else { return Ok(()) };
            *place = byte;
            // What is found was there: it is of the text, and no longer than it.
            if let Ok(id) = id_of(&bent) {
                let there = bent.windows(id.as_str().len()).any(|part| part == id.as_str().as_bytes());
                prop_assert!(there);
            }
        }
    }
}
