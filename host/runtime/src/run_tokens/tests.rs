#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use ambit_core::scope::Tier;
use biscuit_auth::builder::{BlockBuilder, Scope};
use biscuit_auth::{Algorithm, Biscuit, KeyPair, UnverifiedBiscuit};
use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;

use ambit_core::identity::run_token::{MOST_BLOCKS, PREFIX};

use super::*;

fn tokens() -> Biscuits {
    Biscuits::new(&[7; 32]).unwrap()
}

fn root() -> KeyPair {
    KeyPair::from_bytes(&[7; 32], biscuit_auth::format::schema::public_key::Algorithm::Ed25519).unwrap()
}

fn authority() -> Authority {
    Authority {
        run: format!("r_{}", "a".repeat(26)),
        home: "ambit-ledger/0011223344556677".into(),
        agent: "support".into(),
        user: Some("ada".into()),
        expires_s: 1_795_317_000,
    }
}

fn minted() -> String {
    tokens().mint(&authority()).unwrap().word().to_owned()
}

fn functions(names: &[&str]) -> Attenuation {
    Attenuation {
        functions: Some(names.iter().map(|&name| name.to_owned()).collect()),
        ..Attenuation::default()
    }
}

fn whole() -> Attenuation {
    Attenuation {
        functions: Some(BTreeSet::from([
            "mail/*".to_owned(),
            "refunds/x.f".to_owned(),
            "read/*".to_owned(),
        ])),
        connections: Some(BTreeSet::from(["stripe".to_owned(), "admin".to_owned()])),
        max_tier: Some(Tier::Commit),
        money: Some(BTreeMap::from([
            ("usd".parse().unwrap(), 1_000),
            ("eur".parse().unwrap(), 0),
        ])),
        expires_s: Some(1_795_316_000),
    }
}

fn narrowed(word: &str, by: &Attenuation) -> String {
    Biscuits::narrow(word, by).unwrap().word().to_owned()
}

fn raw(word: &str) -> Vec<u8> {
    BASE64URL_NOPAD
        .decode(word.strip_prefix(PREFIX).unwrap().as_bytes())
        .unwrap()
}

fn word(bytes: &[u8]) -> String {
    format!("{PREFIX}{}", BASE64URL_NOPAD.encode(bytes))
}

/// A token with a block that anybody can append with the library.
fn with(to: &str, block: BlockBuilder) -> String {
    let token = UnverifiedBiscuit::from(raw(to)).unwrap();
    word(&token.append(block).unwrap().to_vec().unwrap())
}

fn with_code(to: &str, code: &str) -> String {
    with(to, BlockBuilder::new().code(code).unwrap())
}

fn why(word: &str) -> Why {
    tokens().open(word).unwrap_err().why
}

#[test]
fn a_token_is_what_was_said() {
    let mut token = minted();
    let opened = tokens().open(&token).unwrap();
    assert_eq!((&opened.authority, opened.blocks.len()), (&authority(), 0));
    // Names that were said before have places in a table, and the library prints them in that order.
    let said = [
        whole(),
        functions(&["refunds/x.f", "mail/*"]),
        whole(),
        functions(&["read/*", "agent/*", "a/b"]),
    ];
    let mut ids = BTreeSet::from([opened.id]);
    for (count, by) in said.iter().enumerate() {
        token = narrowed(&token, by);
        let opened = tokens().open(&token).unwrap();
        let blocks: Vec<&Attenuation> = opened.blocks.iter().map(|(_, block)| block).collect();
        assert_eq!(blocks, said[..=count].iter().collect::<Vec<_>>());
        assert!(ids.insert(opened.id), "another token has another name");
        assert_eq!(Biscuits::read(&token).unwrap(), opened);
    }
    let kept = tokens().open(&token).unwrap().narrowing();
    assert_eq!(kept.functions, Some(BTreeSet::new()), "nothing is in both of the last");
    assert_eq!(kept.money.len(), 2);
    // Two that were narrowed the same are two.
    let twins = [0, 1].map(|_| tokens().open(&narrowed(&minted(), &whole())).unwrap());
    assert_ne!(twins[0].blocks[0].0, twins[1].blocks[0].0);
    assert!(!format!("{:?}", Biscuits::narrow(&minted(), &whole()).unwrap()).contains(PREFIX));
}

#[test]
fn a_sealed_token_is_good_and_stays_as_it_is() {
    let token = narrowed(&minted(), &whole());
    let sealed = Biscuits::seal(&token).unwrap();
    assert_eq!(tokens().open(sealed.word()), tokens().open(&token));
    let more = Biscuits::narrow(sealed.word(), &functions(&["mail/*"])).unwrap_err();
    assert!(matches!(more, TokenError::Sealed), "{more}");
    assert!(matches!(Biscuits::seal(sealed.word()), Err(TokenError::Sealed)));
}

#[test]
fn a_token_of_another_key_is_refused() {
    let forged = Biscuits::new(&[8; 32]).unwrap().mint(&authority()).unwrap();
    assert_eq!(why(forged.word()), Why::Signature);
    assert_eq!(why(&narrowed(forged.word(), &whole())), Why::Signature);
}

#[test]
fn blocks_are_all_there_and_in_their_order() {
    let first = narrowed(&minted(), &functions(&["mail/*"]));
    let second = narrowed(&first, &functions(&["mail/send"]));
    let token = Biscuit::from(raw(&second), root().public()).unwrap();
    let changed = |change: &dyn Fn(&mut biscuit_auth::format::SerializedBiscuit)| {
        let mut container = token.container().clone();
        change(&mut container);
        let why = why(&word(&container.to_vec().unwrap()));
        // Where a name is said twice or missing then, the library does not come to the signatures.
        assert!([Why::Signature, Why::Malformed].contains(&why), "{why:?}");
    };
    changed(&|token| drop(token.blocks.pop()));
    changed(&|token| drop(token.blocks.remove(0)));
    changed(&|token| token.blocks.clear());
    changed(&|token| token.blocks.swap(0, 1));
    changed(&|token| token.blocks.push(token.blocks[1].clone()));
    // A block of another token of the same run.
    let other = narrowed(&minted(), &functions(&["mail/*", "refunds/*"]));
    let other = Biscuit::from(raw(&other), root().public()).unwrap();
    changed(&|token| token.blocks[0] = other.container().blocks[0].clone());
    changed(&|token| token.authority = other.container().authority.clone());
    // Whoever holds the second token has the key for a third block alone.
    changed(&|token| token.proof = other.container().proof.clone());
    changed(&|token| token.root_key_id = Some(1));
}

#[test]
fn no_byte_of_a_token_is_another() {
    let token = raw(&narrowed(&minted(), &functions(&["mail/*"])));
    for at in 0..token.len() {
        for flip in [1, 0x80] {
            let mut bytes = token.clone();
            bytes[at] ^= flip;
            assert!(tokens().open(&word(&bytes)).is_err(), "byte {at}");
        }
    }
    for length in 0..token.len() {
        assert!(tokens().open(&word(&token[..length])).is_err(), "{length} bytes");
    }
    // What the format lets be there besides, and nobody looks at.
    for more in [&b"\x38\x01"[..], &[0x18, 0]] {
        let bytes = [&token, more].concat();
        assert_eq!(why(&word(&bytes)), Why::Malformed);
    }
    let text = word(&token);
    for bad in [
        text.replace(PREFIX, "ambit_"),
        text.replace(PREFIX, ""),
        format!("{text}="),
        format!("{text}A"),
        format!(" {text}"),
        String::new(),
        PREFIX.to_owned(),
    ] {
        assert_eq!(why(&bad), Why::Malformed, "{bad}");
    }
}

#[test]
fn a_block_says_what_is_known_or_the_token_is_refused() {
    let token = minted();
    let known = "check if tool($tool), {\"mail\"}.contains($tool);";
    assert!(tokens().open(&with_code(&token, known)).is_ok(), "whoever writes it");
    for code in [
        "",
        "right(\"everything\");",
        "ambit_run(\"r_bbbbbbbbbbbbbbbbbbbbbbbbbb\");",
        "agent(\"admin\");",
        "tool(\"mail\");",
        "allowed($x) <- tool($x);",
        "check if true;",
        "check if false;",
        "check if agent(\"support\");",
        "check if tool($tool), {\"mail\"}.contains($tool) or true;",
        "check if tool($tool), !{\"mail\"}.contains($tool);",
        "check all tool($tool), {\"mail\"}.contains($tool);",
        "reject if tool($tool), {\"mail\"}.contains($tool);",
        "check if tool($tool), {\"mail\"}.contains($tool) trusting previous;",
        "check if tool($t), {\"mail\"}.contains($t);",
        "check if tool($tool), $tool.starts_with(\"mail\");",
        "check if tool($tool), {\"mail\", \"*\"}.contains($tool), $tool.matches(\".*\");",
        "check if tool($tool), [\"mail\"].contains($tool);",
        "check if tool($tool), {1, 2}.contains($tool);",
        "check if tool($tool), {\"mail/send\"}.contains($tool);",
        "check if function($function), {\"mail\"}.contains($function);",
        "check if money(\"usd\", $minor), $minor <= -5;",
        "check if money(\"usd\", $minor), $minor < 5;",
        "check if time($time), $time >= 2026-11-22T03:10:00Z;",
        "check if connection($connection), {\"a\\\"}.contains($connection) or {\\\"b\"}.contains($connection);",
        "check if connection($connection), {\"a\"}.contains($connection); check if tool($tool), {\"mail\"}.contains($tool);",
        "check if tool($tool), {\"mail\"}.contains($tool); check if tool($tool), {\"mail\"}.contains($tool);",
    ] {
        let found = BlockBuilder::new().code(code);
        let Ok(block) = found else { panic!("{code}") };
        assert_eq!(why(&with(&token, block)), Why::Claims, "{code}");
    }
}

/// What the library keeps of a block and does not print.
#[test]
fn a_block_says_nothing_beside_what_it_says() {
    let token = minted();
    let known = || {
        BlockBuilder::new()
            .code("check if tool($tool), {\"mail\"}.contains($tool);")
            .unwrap()
    };
    assert!(tokens().open(&with(&token, known())).is_ok());
    assert_eq!(why(&with(&token, known().context("more".into()))), Why::Claims);
    assert_eq!(why(&with(&token, known().scope(Scope::Authority))), Why::Claims);
    assert_eq!(why(&with(&token, known().scope(Scope::Previous))), Why::Claims);
    assert_eq!(
        why(&with(&token, known().scope(Scope::PublicKey(root().public())))),
        Why::Claims
    );
    // Prints as two lines of ours, and is one check of a fact that nobody knows.
    let mut lies = BlockBuilder::new()
        .code("check if money(\"usd\", $minor), $minor <= 5;")
        .unwrap();
    assert!(tokens().open(&with(&token, lies.clone())).is_ok());
    let name = "connection($connection), {\"a\"}.contains($connection);\ncheck if money";
    lies.checks[0].queries[0].body[0].name = name.to_owned();
    let lies = with(&token, lies);
    assert_eq!(
        Biscuits::read(&lies).unwrap().blocks.len(),
        1,
        "it is taken for ours where nothing is verified"
    );
    assert_eq!(why(&lies), Why::Claims);
    // The same of the home's own block: nobody else can write one, so this is for a home of another version.
    let root = root();
    let first = |more: &str| {
        let text = authority().to_text().unwrap();
        let built = Biscuit::builder().code(text + more).unwrap().build(&root).unwrap();
        word(&built.to_vec().unwrap())
    };
    assert!(tokens().open(&first("")).is_ok());
    assert_eq!(why(&first("right(\"all\");")), Why::Malformed);
    let context = Biscuit::builder().code(authority().to_text().unwrap()).unwrap();
    let context = context.context("more".into()).build(&root).unwrap();
    assert_eq!(why(&word(&context.to_vec().unwrap())), Why::Claims);
}

#[test]
fn no_third_party_signs_a_block() {
    let token = UnverifiedBiscuit::from(raw(&minted())).unwrap();
    let request = token.third_party_request().unwrap();
    let other = KeyPair::new();
    let known = "check if tool($tool), {\"mail\"}.contains($tool);";
    let block = request
        .create_block(&other.private(), BlockBuilder::new().code(known).unwrap())
        .unwrap();
    let token = token.append_third_party(&block.serialize().unwrap()).unwrap();
    let denied = tokens().open(&word(&token.to_vec().unwrap())).unwrap_err();
    assert_eq!(denied.message, "the run token has a block that somebody else signed");
}

#[test]
fn every_key_is_an_ed25519_key() {
    let token = UnverifiedBiscuit::from(raw(&minted())).unwrap();
    let p256 = KeyPair::new_with_algorithm(Algorithm::Secp256r1);
    let known = "check if tool($tool), {\"mail\"}.contains($tool);";
    let token = token
        .append_with_keypair(&p256, BlockBuilder::new().code(known).unwrap())
        .unwrap();
    assert_eq!(why(&word(&token.to_vec().unwrap())), Why::Algorithm);
}

#[test]
fn a_token_is_narrowed_so_often_and_is_no_longer_than_that() {
    let mut token = minted();
    let by = functions(&["mail/*"]);
    for _ in 0..MOST_BLOCKS {
        token = narrowed(&token, &by);
    }
    assert_eq!(tokens().open(&token).unwrap().blocks.len(), MOST_BLOCKS);
    let full = Biscuits::narrow(&token, &by).unwrap_err();
    assert!(matches!(full, TokenError::Full(_)), "{full}");
    // The library has no such bound.
    let more = with_code(&token, "check if tool($tool), {\"mail\"}.contains($tool);");
    assert_eq!(why(&more), Why::Malformed);
    let many: Vec<String> = (0..200)
        .map(|at| format!("mail/a-function-with-a-long-name-{at}"))
        .collect();
    let many = functions(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(matches!(Biscuits::narrow(&minted(), &many), Err(TokenError::Full(_))));
    let long = with_code(&minted(), &many.to_text().unwrap());
    assert_eq!(why(&long), Why::Malformed);
}

#[test]
fn a_home_has_one_key_of_its_own_for_tokens() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    crate::home::init(folder.path()).unwrap();
    assert!(store::run_token_key(folder.path()).unwrap().is_none());
    assert_eq!(verified(folder.path(), &minted()).unwrap_err().why, Why::UnknownKey);
    let key = store::made_run_token_key(folder.path()).unwrap();
    assert_eq!(store::made_run_token_key(folder.path()).unwrap(), key);
    let keys = folder.path().join("keys");
    let path = keys.join("run-token.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for other in ["ledger.key", "payload.kek", "cache.key"] {
        assert_ne!(std::fs::read(keys.join(other)).unwrap(), std::fs::read(&path).unwrap());
    }
    assert_eq!(
        std::fs::read_dir(&keys).unwrap().count(),
        5,
        "nothing is left beside it"
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        store::run_token_key(folder.path()),
        Err(StoreError::TooOpen { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is narrowed with whatever, the token says all of it.
    #[test]
    fn what_was_taken_away_is_read(names in proptest::collection::vec(proptest::sample::subsequence(
        vec!["a", "b", "read", "time", "tool", "money", "usd", "r_1", "ä b", "$tool", "x);", "//"], 1..6), 1..5)) {
        let mut token = minted();
        let mut said = Vec::new();
        for names in names {
            let block = Attenuation { connections: Some(names.into_iter().map(str::to_owned).collect()), ..Attenuation::default() };
            token = narrowed(&token, &block);
            said.push(block);
        }
        let opened = tokens().open(&token).unwrap();
        prop_assert_eq!(opened.blocks.into_iter().map(|(_, block)| block).collect::<Vec<_>>(), said);
    }

    /// Blocks of pieces of Datalog: what is taken for ours is written as ours are.
    #[test]
    fn pieces_of_datalog_are_ours_or_refused(code in "(check if |check all |reject if )(tool\\(\\$tool\\)|connection\\(\\$connection\\)|true|agent\\(\"a\"\\)|money\\(\"usd\", \\$minor\\))(, \\{\"a\"(, \"b\")?\\}\\.contains\\(\\$(tool|connection)\\)|, \\$minor <= (0|[1-9][0-9]{0,3}))?( or true| or tool\\(\\$tool\\))?;") {
        let Ok(block) = BlockBuilder::new().code(&code) else { return Ok(()) };
        match tokens().open(&with(&minted(), block)) {
            Ok(opened) => prop_assert_eq!(opened.blocks[0].1.to_text().unwrap(), format!("{code}\n")),
            Err(denied) => prop_assert_eq!(denied.why, Why::Claims),
        }
    }
}

/// What a holder appends is theirs, and a few bytes of it can print as megabytes, over and over.
#[test]
fn what_would_take_long_to_print_is_refused_before_that() {
    let long = format!("\"{}\"", "x".repeat(2_000));
    let sum = vec![long.as_str(); 200].join(" + ");
    let token = with_code(&minted(), &format!("check if {sum} == \"\""));
    assert_eq!(why(&token), Why::Claims);
    let best = |act: &dyn Fn()| {
        let took = (0..8).map(|_| {
            let began = std::time::Instant::now();
            act();
            began.elapsed()
        });
        took.min().unwrap()
    };
    let unverified = UnverifiedBiscuit::from(raw(&token)).unwrap();
    let printed = best(&|| drop(unverified.print_block_source(1).unwrap()));
    let refused = best(&|| assert_eq!(why(&token), Why::Claims));
    assert!(refused < printed / 2, "{refused:?} {printed:?}");
    // Nor what is nested, or says the same again in a few bytes.
    for code in [
        "check if [1, 2].contains($x), tool($x)",
        "check if {\"a\": 1}.contains($x), tool($x)",
        "check if tool($x), $x == \"a\" || $x == \"b\"",
        "tool(\"a\")",
        "tool($x) <- function($x)",
    ] {
        assert_eq!(why(&with_code(&minted(), code)), Why::Claims, "{code}");
    }
}
