use super::*;

/// The example of Go's `sumdb/note`, which other implementations test with too.
const VERIFIER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const SIGNER: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const SIGNED: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn peter() -> VerifierKey {
    VerifierKey::parse(VERIFIER).unwrap()
}

#[test]
fn known_note() {
    assert_eq!(peter().open(SIGNED), Ok(TEXT));
    let signer = SignerKey::parse(SIGNER).unwrap();
    assert_eq!(signer.sign(TEXT), SIGNED);
    assert_eq!(signer.to_text().as_str(), SIGNER);
    assert_eq!(signer.verifier(), &peter());
    assert_eq!(peter().to_string(), VERIFIER);
    assert_eq!(VerifierKey::parse(&format!("{VERIFIER}\n")), Ok(peter()));
}

#[test]
fn a_signing_key_does_not_show() {
    let shown = format!("{:?}", SignerKey::parse(SIGNER).unwrap());
    assert_eq!(shown, format!("SignerKey({VERIFIER})"));
    let wrong = SIGNER.replace("c74f20a3", "c74f20a4");
    assert!(!SignerKey::parse(&wrong).unwrap_err().to_string().contains("AYEK"));
}

#[test]
fn keys_that_are_none() {
    for (text, why) in [
        ("", "form"),
        ("PeterNeumann", "form"),
        ("PeterNeumann+c74f20a3", "form"),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "name"),
        (
            "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "name",
        ),
        (
            "PeterNeumann+c74f20a+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "hexadecimal",
        ),
        (
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "its id",
        ),
        (
            "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "its id",
        ),
        (
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T",
            "base64",
        ),
        (
            "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "algorithm",
        ),
        (
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy",
            "32 bytes",
        ),
        (
            "PeterNeumann+c74f20a3+AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "weak",
        ),
        (SIGNER, "hexadecimal"),
    ] {
        let error = VerifierKey::parse(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    for name in ["", "a b", "a+b", "a\nb", "a\u{a0}b", &"x".repeat(256)] {
        assert!(SignerKey::from_seed(name, &[1; 32]).is_err(), "{name:?}");
    }
}

#[test]
fn any_changed_byte_is_refused() {
    for at in 0..SIGNED.len() {
        for bit in 0..8 {
            let mut bytes = SIGNED.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            if let Ok(note) = String::from_utf8(bytes) {
                assert!(peter().open(&note).is_err(), "byte {at}: {note}");
            }
        }
        if SIGNED.is_char_boundary(at) {
            assert!(peter().open(&SIGNED[..at]).is_err(), "cut at {at}");
        }
    }
}

#[test]
fn other_signatures_are_passed_over_and_bad_ones_of_the_key_are_not() {
    let other = SignerKey::from_seed("witness.example/w1", &[9; 32]).unwrap();
    let line = |note: &str| note.rsplit_once("\n\n").unwrap().1.to_owned();
    let (ours, theirs) = (line(SIGNED), line(&other.sign(TEXT)));
    let signed = |lines: &[&str]| format!("{TEXT}\n{}", lines.concat());
    for good in [
        signed(&[&ours, &theirs]),
        signed(&[&theirs, &ours]),
        signed(&[&theirs.repeat(20), &ours]),
    ] {
        assert_eq!(peter().open(&good), Ok(TEXT));
    }
    let other_text = line(&SignerKey::parse(SIGNER).unwrap().sign("another text\n"));
    for bad in [
        signed(&[&theirs]),
        signed(&[&ours, &other_text]),
        signed(&[&other_text, &ours]),
        signed(&[]),
        format!("{TEXT}\n{}", ours.trim_end()),
        format!("{TEXT}{ours}"),
        format!("{TEXT}\r\n{ours}"),
        signed(&[&ours, "\n"]),
        signed(&[&ours, "\u{2014} PeterNeumann AAAA\n"]),
        signed(&[&ours, "- PeterNeumann x08go/ZJ\n"]),
        signed(&[&theirs.repeat(2000), &ours]),
    ] {
        assert!(peter().open(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_checkpoint_reads_back() {
    let root = merkle::leaf_hash(b"root");
    let note = Checkpoint::sign(20_852_163, root, &key());
    assert!(
        note.starts_with(&format!("{NAME}\n20852163\n{root}\n\n\u{2014} {NAME} ")),
        "{note}"
    );
    let checkpoint = Checkpoint::parse_verified(&note, key().verifier()).unwrap();
    assert_eq!(
        (checkpoint.origin(), checkpoint.size(), checkpoint.root()),
        (NAME, 20_852_163, root)
    );
}

#[test]
fn signed_texts_that_are_no_checkpoints() {
    let root = merkle::leaf_hash(b"root");
    for (text, why) in [
        (format!("{NAME}\n1\n"), "three lines"),
        (format!("{NAME}\n1\n{root}\nextension\n"), "three lines"),
        (format!("{NAME}\n01\n{root}\n"), "size"),
        (format!("{NAME}\n+1\n{root}\n"), "size"),
        (format!("{NAME}\n-1\n{root}\n"), "size"),
        (format!("{NAME}\n18446744073709551616\n{root}\n"), "size"),
        (format!("{NAME}\n1\n{}\n", root.to_string().replace('=', "")), "root"),
        (format!("{NAME}\n1\nAAAA\n"), "root"),
        (format!("{NAME}\n0\n{root}\n"), "empty tree"),
        (format!("\n1\n{root}\n"), "origin"),
        (format!("another.example/home\n1\n{root}\n"), "of the ledger"),
    ] {
        let error = Checkpoint::parse_verified(&key().sign(&text), key().verifier())
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let other = SignerKey::from_seed(NAME, &[8; 32]).unwrap();
    let error = Checkpoint::parse_verified(&Checkpoint::sign(1, root, &other), key().verifier()).unwrap_err();
    assert!(matches!(error, LedgerError::Signature { .. }), "{error}");
}
