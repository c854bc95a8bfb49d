//! `ambit token`: tokens of runs, for whoever holds one. No home is needed but to verify one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write};
use std::path::Path;

use ambit_core::identity::run_token::{Attenuation, LONGEST, Opened};
use ambit_core::identity::why::Denied;
use ambit_core::ledger::utc;
use ambit_core::money::{Currency, Unit};
use ambit_runtime::clock::clock;
use ambit_runtime::run_tokens::{Biscuits, RunTokens, TokenError, verified};
use serde_json::{Value, json};

use super::keys;
use super::run::money;
use crate::args::{Token, TokenNarrow};
use crate::output::{Exit, Failure, Output, untrusted};

/// What is wrapped around the bytes of a private value, which is wiped with it.
type Word = zeroize::Zeroizing<String>;

pub(crate) fn run(command: &Token, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        Token::Narrow(asked) => narrow(asked, out),
        Token::Seal => given(&Biscuits::seal(&read()?).map_err(refused)?, out),
        Token::Show { verify } => show(*verify, home, out),
    }
}

/// The token on standard input.
fn read() -> Result<Word, Failure> {
    let mut text = Word::default();
    // One more than a token has, so that a longer text is not taken for one.
    let most = u64::try_from(LONGEST).unwrap_or(u64::MAX).saturating_add(2);
    let read = io::stdin().take(most).read_to_string(&mut text);
    read.map_err(|error| {
        Failure::usage(format!("no token can be read from standard input: {error}"))
            .advise("Give it one: ambit token show <token.txt.")
    })?;
    let word = Word::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if word.is_empty() {
        return Err(
            Failure::usage("there is no token on standard input").advise("Give it one: ambit token show <token.txt.")
        );
    }
    Ok(word)
}

fn narrow(asked: &TokenNarrow, out: Output) -> Result<Exit, Failure> {
    let by = attenuation(asked)?;
    if by == Attenuation::default() {
        return Err(Failure::usage("the token would be the same")
            .advise("Say what it is to lose: --tool, --function, --connection, --tier, --money or --expires."));
    }
    // A token that is to be given away should be one that is good.
    let word = read()?;
    Biscuits::read(&word).map_err(|denied| refused(denied.into()))?;
    given(&Biscuits::narrow(&word, &by).map_err(refused)?, out)
}

/// A token on standard output, and nothing else.
fn given(token: &ambit_runtime::run_tokens::Token, out: Output) -> Result<Exit, Failure> {
    let opened = Biscuits::read(token.word()).map_err(|denied| refused(denied.into()))?;
    let mut document = document(&opened);
    if let Value::Object(members) = &mut document {
        members.insert("token".to_owned(), json!(token.word()));
    }
    out.result(&document, |w| writeln!(w, "{}", token.word()))?;
    Ok(Exit::Done)
}

fn attenuation(asked: &TokenNarrow) -> Result<Attenuation, Failure> {
    let mut functions: BTreeSet<String> = asked.functions.iter().cloned().collect();
    for tool in &asked.tools {
        functions.insert(format!("{tool}/*"));
    }
    let mut most: BTreeMap<Currency, u64> = BTreeMap::new();
    for text in &asked.money {
        let cap = money(text)?;
        let Unit::Money(currency) = cap.unit else { continue };
        if most.insert(currency, cap.cap).is_some() {
            return Err(Failure::usage(format!("--money names {currency} twice"))
                .advise("A token has one amount for each currency: leave one of them out."));
        }
    }
    let expires_ms = asked
        .expires
        .as_deref()
        .map(|text| keys::time("--expires", text))
        .transpose()?;
    let expires_s = expires_ms.map(|ms| (clock().saturating_add(ms) / 1_000).saturating_sub(1));
    let connections = !asked.connections.is_empty();
    Ok(Attenuation {
        functions: (!functions.is_empty()).then_some(functions),
        connections: connections.then(|| asked.connections.iter().cloned().collect()),
        max_tier: asked.tier.map(Into::into),
        money: (!most.is_empty()).then_some(most),
        expires_s,
    })
}

fn show(verify: bool, home: &Path, out: Output) -> Result<Exit, Failure> {
    let word = read()?;
    let opened = if verify {
        verified(home, &word)
    } else {
        Biscuits::read(&word)
    };
    let opened = opened.map_err(|denied: Denied| refused(denied.into()))?;
    let mut document = document(&opened);
    if let Value::Object(members) = &mut document {
        members.insert("verified".to_owned(), json!(verify));
    }
    out.result(&document, |w| print(w, &opened, verify))?;
    Ok(Exit::Done)
}

fn print(w: &mut dyn Write, opened: &Opened, verify: bool) -> io::Result<()> {
    let said = &opened.authority;
    let user = said.user.as_deref().map(|user| format!(" for {user}"));
    writeln!(w, "run       {}", untrusted(&said.run))?;
    writeln!(
        w,
        "agent     {}",
        untrusted(&format!("{}{}", said.agent, user.unwrap_or_default()))
    )?;
    writeln!(w, "home      {}", untrusted(&said.home))?;
    writeln!(w, "good      until {}", until(opened.expires_s()))?;
    let left = opened.narrowing();
    let list = |names: &BTreeSet<String>| match names.len() {
        0 => "nothing".to_owned(),
        _ => untrusted(&names.iter().map(String::as_str).collect::<Vec<_>>().join(" ")),
    };
    if let Some(functions) = &left.functions {
        writeln!(w, "calls     {}", list(functions))?;
    }
    if let Some(connections) = &left.connections {
        writeln!(w, "over      {}", list(connections))?;
    }
    if let Some(tier) = left.max_tier {
        writeln!(w, "up to     {tier}")?;
    }
    for cap in &left.money {
        let amounts: Vec<String> = cap
            .most
            .iter()
            .map(|(currency, most)| format!("{most} {currency}"))
            .collect();
        writeln!(w, "spends    {} at most", amounts.join(", "))?;
    }
    writeln!(w, "narrowed  {} times", opened.blocks.len())?;
    let word = if verify {
        "it is of this home"
    } else {
        "nothing of it was verified: --verify does"
    };
    writeln!(w, "verified  {word}")
}

fn document(opened: &Opened) -> Value {
    let said = &opened.authority;
    let left = opened.narrowing();
    let money: Vec<Value> = left.money.iter().map(|cap| json!(cap.most)).collect();
    json!({
        "run": said.run,
        "agent": said.agent,
        "user": said.user,
        "home": said.home,
        "expires": until(opened.expires_s()),
        "functions": left.functions,
        "connections": left.connections,
        "tier": left.max_tier,
        "money": money,
        "narrowed": opened.blocks.len(),
    })
}

/// The first moment that a token is not good any more whose last second is this.
pub(super) fn until(expires_s: u64) -> String {
    utc(i64::try_from(expires_s.saturating_add(1).saturating_mul(1_000)).unwrap_or(i64::MAX))
}

fn refused(error: TokenError) -> Failure {
    match error {
        TokenError::Denied(_) | TokenError::Full(_) | TokenError::Sealed => Failure::refused(error.to_string()),
        TokenError::Unwritable(_) => Failure::usage(error.to_string()),
        TokenError::Failed(_) => Failure::internal(error.to_string()),
    }
}
