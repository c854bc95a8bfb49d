//! Tokens of runs: the text of their blocks, and whole tokens as they are shown.

use std::collections::{BTreeMap, BTreeSet};

use ambit_core::identity::run_token::{Attenuation, Authority, LONGEST, MOST_BLOCKS, PREFIX};
use ambit_core::scope::Tier;
use ambit_runtime::run_tokens::{Biscuits, RunTokens};

use crate::fuzz::Became;

pub(super) const WORDS: &[&str] = &[
    PREFIX,
    "check if ",
    "check all ",
    "reject if ",
    " or ",
    ";\n",
    "time($time), $time <= 2026-11-22T03:10:00Z",
    "tool($tool), ",
    "function($function), ",
    "connection($connection), ",
    "tier($tier), ",
    "money(\"usd\", $minor), $minor <= ",
    "{\"a\", \"b/c\"}",
    "{\"read\", \"draft\"}",
    ".contains($tool)",
    ".contains($function)",
    ".contains($connection)",
    ".contains($tier)",
    "ambit_run(\"r_aaaaaaaaaaaaaaaaaaaaaaaaaa\")",
    "home(\"h\")",
    "agent(\"a\")",
    "user(\"u\")",
    " trusting authority",
    "9223372036854775808",
    "\"",
    "\\",
];

fn authority() -> Authority {
    Authority {
        run: format!("r_{}", "a".repeat(26)),
        home: "ambit-ledger/00".to_owned(),
        agent: "support".to_owned(),
        user: None,
        expires_s: 1_795_317_000,
    }
}

fn tokens() -> Biscuits {
    Biscuits::new(&[7; 32]).expect("a key")
}

fn block() -> Attenuation {
    Attenuation {
        functions: Some(BTreeSet::from(["mail/*".to_owned(), "refunds/create".to_owned()])),
        connections: Some(BTreeSet::from(["stripe".to_owned()])),
        max_tier: Some(Tier::Draft),
        money: Some(BTreeMap::from([("usd".parse().expect("a currency"), 1_000)])),
        expires_s: Some(1_795_316_000),
    }
}

/// The texts of blocks, and tokens that the home's key signed: whole, narrowed, sealed.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let token = tokens().mint(&authority()).expect("a token");
    let narrowed = Biscuits::narrow(token.word(), &block()).expect("a narrower one");
    let twice = Biscuits::narrow(narrowed.word(), &block()).expect("a narrower one");
    let sealed = Biscuits::seal(narrowed.word()).expect("a sealed one");
    let texts = [authority().to_text(), block().to_text()].map(|text| text.expect("a text"));
    let words = [token, narrowed, twice, sealed].map(|token| token.word().to_owned());
    texts.into_iter().chain(words).map(String::into_bytes).collect()
}

/// The text of a block is read as what is written so, up to the order of names; a token that is taken says what its texts say, and has its
/// bounds. Nobody but the key's holder makes one: what was mutated is one of the seeds, or is refused.
pub(super) fn drive(bytes: &[u8]) -> Became {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    if let Some(found) = Authority::parse(text) {
        assert_eq!(found.to_text().as_deref(), Ok(text), "one text for each");
        return Ok(());
    }
    if let Some(found) = Attenuation::parse(text) {
        let again = found.to_text().expect("what is read can be written");
        assert_eq!(Attenuation::parse(&again), Some(found), "and is read as the same");
        return Ok(());
    }
    // Also what nobody verified must not harm whoever looks at it.
    drop(Biscuits::read(text));
    drop(Biscuits::narrow(text, &block()));
    let opened = tokens().open(text).map_err(|denied| denied.message)?;
    assert!(text.len() <= LONGEST && opened.blocks.len() <= MOST_BLOCKS);
    assert_eq!(opened.authority, authority(), "nobody else signs one");
    assert_eq!(
        Biscuits::read(text).as_ref(),
        Ok(&opened),
        "verified or not, it says the same"
    );
    assert!(opened.blocks.iter().all(|(_, found)| found.to_text().is_ok()));
    Ok(())
}
