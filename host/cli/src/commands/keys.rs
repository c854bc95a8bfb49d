//! `ambit keys`: what agents over HTTP are known by, given out and taken back by the operator.

use std::collections::BTreeSet;
use std::path::Path;

use ambit_core::grant::Narrowing;
use ambit_core::identity::key::{ApiKey, NewKey, Standing};
use ambit_core::ledger::body::OperatorKey;
use ambit_core::ledger::utc;
use ambit_core::route::duration;
use ambit_runtime::api_keys::{self, Act, Asked, Rotation};
use ambit_runtime::clock::clock;
use ambit_runtime::config::Config;
use ambit_runtime::home;
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::store::Reader;
use serde_json::{Value, json};

use super::{audit, call};
use crate::args::{KeyCreate, Keys};
use crate::output::{Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(command: &Keys, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        Keys::Create(asked) => create(home, asked, out),
        Keys::List { all } => list(home, *all, out),
        Keys::Rotate {
            key,
            overlap,
            expires_in,
        } => rotate(home, key, overlap.as_deref(), expires_in.as_deref(), out),
        Keys::Revoke { key } => revoke(home, key, out),
    }
}

fn create(home: &Path, asked: &KeyCreate, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let operator = asked.operator.as_ref().map(|name| OperatorKey {
        name: name.clone(),
        scopes: asked.scopes.iter().map(|scope| (*scope).into()).collect(),
    });
    let agent = match &operator {
        Some(_) => String::new(),
        None => call::agent(asked.agent.as_deref(), &config)?,
    };
    let asked = Asked {
        agent,
        user: asked.user.clone(),
        name: asked.name.clone(),
        narrowing: narrowing(home, asked)?,
        operator,
        good_for_ms: time("--expires-in", &asked.expires_in)?,
    };
    api_keys::check(&config, &asked)?;
    let taken = audit::open(home)?.api_keys()?;
    let taken = taken
        .iter()
        .any(|key| key.created.name.is_some() && key.created.name == asked.name && is_active(key));
    if taken {
        let name = asked.name.as_deref().unwrap_or_default();
        return Err(Failure::usage(format!("a key `{}` is there already", untrusted(name)))
            .advise("Give it another name, or `ambit keys rotate` that one."));
    }
    let new = api_keys::random_key()?;
    let key = act(home, Act::Create(new.shown.clone(), asked))?;
    shown_once(&new, &key, out)
}

/// What is given up of what the agent could do.
fn narrowing(home: &Path, asked: &KeyCreate) -> Result<Narrowing, Failure> {
    let mut functions = BTreeSet::new();
    for tool in &asked.tools {
        functions.insert(format!("{tool}/*"));
    }
    for function in &asked.functions {
        let named = function.split_once(['/', '.']);
        let (tool, named) = named.ok_or_else(|| {
            Failure::usage(format!("--function {} names no tool and function", untrusted(function)))
                .advise("It takes a tool and a function: --function refunds.create.")
        })?;
        let id = home::pinned(home, tool)?.function(named)?.id.clone();
        functions.insert(format!("{tool}/{id}"));
    }
    let all = |names: &[String]| (!names.is_empty()).then(|| names.iter().cloned().collect());
    Ok(Narrowing {
        connections: all(&asked.connections),
        functions: (!functions.is_empty()).then_some(functions),
        max_tier: asked.tier.map(Into::into),
        ..Narrowing::default()
    })
}

pub(super) fn time(option: &str, text: &str) -> Result<u64, Failure> {
    let seconds = duration(text).map_err(|_| {
        Failure::usage(format!("{option} {} is no time", untrusted(text)))
            .advise("It takes a number and s, m, h or d: 12h, 90d.")
    })?;
    Ok(seconds.saturating_mul(1_000))
}

/// A new key, on standard output alone, and what there is to know about it beside.
fn shown_once(new: &NewKey, key: &ApiKey, out: Output) -> Result<Exit, Failure> {
    let mut document = document(key);
    if let Value::Object(members) = &mut document {
        members.insert("key".to_owned(), json!(*new.word));
    }
    out.result(&document, |w| writeln!(w, "{}", *new.word))?;
    note(format!(
        "The line above is key {}, and is shown this once: the home keeps its digest alone. It is good until {}, for {}{}; \
         `ambit keys revoke` ends it earlier.",
        key.id(),
        until(key),
        untrusted(&who(key)),
        what(key).map(|what| format!(", {what}")).unwrap_or_default(),
    ));
    Ok(Exit::Done)
}

fn rotate(
    home: &Path,
    given: &str,
    overlap: Option<&str>,
    expires_in: Option<&str>,
    out: Output,
) -> Result<Exit, Failure> {
    let key = find(home, given)?;
    let rotation = Rotation {
        key: key.id().to_owned(),
        overlap_ms: overlap.map_or(Ok(0), |text| time("--overlap", text))?,
        good_for_ms: expires_in.map(|text| time("--expires-in", text)).transpose()?,
    };
    let new = api_keys::random_key()?;
    let kept = act(home, Act::Rotate(new.shown.clone(), rotation))?;
    shown_once(&new, &kept, out)?;
    note(match overlap {
        Some(overlap) => format!("{} is good for {overlap} more, no longer than it was.", key.id()),
        None => format!("{} is good for nothing from now on.", key.id()),
    });
    Ok(Exit::Done)
}

fn revoke(home: &Path, given: &str, out: Output) -> Result<Exit, Failure> {
    let key = find(home, given)?;
    let key = act(home, Act::Revoke(key.id().to_owned()))?;
    out.result(&document(&key), |w| {
        writeln!(
            w,
            "revoked {}: no request is taken with it, and no call goes on with it",
            key.id()
        )
    })?;
    Ok(Exit::Done)
}

fn act(home: &Path, what: Act) -> Result<ApiKey, Failure> {
    match operators::act(home, &Request::Key { what: Box::new(what) })? {
        Answer::Key(key) => Ok(*key),
        other => Err(Failure::internal(format!(
            "the host answered something else: {other:?}"
        ))),
    }
}

/// The key that `given` names: its id, a beginning of it, or the name of one that is active.
fn find(home: &Path, given: &str) -> Result<ApiKey, Failure> {
    let keys = audit::open(home)?.api_keys()?;
    let begins = |key: &&ApiKey| given.len() > 2 && key.id().starts_with(given);
    let named = |key: &&ApiKey| key.created.name.as_deref() == Some(given) && is_active(key);
    let found: Vec<&ApiKey> = keys.iter().filter(|key| begins(key) || named(key)).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(Failure::refused(format!("there is no key {}", untrusted(given)))
            .advise("`ambit keys list --all` prints them, also those that are over.")),
        several => Err(Failure::usage(format!("`{}` is more than one key", untrusted(given)))
            .advise(format!("Say which by its id: {}.", candidates(several)))),
    }
}

/// Keys that are meant by one word, the newest first: after a rotation there are two of a name for a while.
fn candidates(keys: &[&ApiKey]) -> String {
    const MOST: usize = 8;
    let mut keys = keys.to_vec();
    keys.sort_by_key(|key| std::cmp::Reverse(key.index));
    let told = keys.iter().take(MOST).map(|key| {
        let replaced = key.created.replaces.as_ref();
        let replaced = replaced.map(|replaced| format!(", in the place of {}", replaced.key));
        format!(
            "{} (made {}{}, {} until {})",
            key.id(),
            utc(key.time_ms),
            replaced.unwrap_or_default(),
            key.standing(clock()).as_str(),
            until(key)
        )
    });
    let more = keys.len().checked_sub(MOST + 1).map_or("", |_| "; and more");
    format!("{}{more}", told.collect::<Vec<_>>().join("; "))
}

fn is_active(key: &ApiKey) -> bool {
    key.standing(clock()) == Standing::Active
}

fn until(key: &ApiKey) -> String {
    utc(i64::try_from(key.until_ms).unwrap_or(i64::MAX))
}

fn who(key: &ApiKey) -> String {
    if let Some(operator) = &key.created.operator {
        return format!("operator {}", operator.name);
    }
    let user = key.created.user.as_deref().map(|user| format!(" for {user}"));
    format!("{}{}", key.created.agent, user.unwrap_or_default())
}

/// What the key is narrowed to, where it is.
fn what(key: &ApiKey) -> Option<String> {
    let Narrowing {
        connections,
        functions,
        max_tier,
        // Of tokens alone.
        money: _,
        scopes: _,
    } = key.narrowing();
    let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    if let Some(operator) = &key.created.operator {
        let scopes: Vec<&str> = operator.scopes.iter().map(|scope| scope.as_str()).collect();
        return Some(scopes.join(" "));
    }
    let functions = functions.as_ref().map(|names| format!("calls {}", list(names)));
    let connections = connections.as_ref().map(|names| format!("over {}", list(names)));
    let tier = max_tier.map(|tier| format!("up to {tier}"));
    let said: Vec<String> = [functions, connections, tier].into_iter().flatten().collect();
    (!said.is_empty()).then(|| untrusted(&said.join(", ")))
}

fn document(key: &ApiKey) -> Value {
    json!({
        "id": key.id(),
        "name": key.created.name,
        "agent": (!key.created.agent.is_empty()).then_some(&key.created.agent),
        "user": key.created.user,
        "operator": key.created.operator,
        "narrowing": key.narrowing(),
        "standing": key.standing(clock()),
        "expires": until(key),
        "replaces": key.created.replaces.as_ref().map(|replaced| &replaced.key),
        "entry": key.index,
        "revoked": key.revoked,
    })
}

fn list(home: &Path, all: bool, out: Output) -> Result<Exit, Failure> {
    let reader: Reader = audit::open(home)?;
    let mut keys = reader.api_keys()?;
    keys.retain(|key| all || is_active(key));
    let rows: Vec<Value> = keys.iter().map(document).collect();
    out.result(&rows, |w| {
        if keys.is_empty() {
            return writeln!(w, "no key is active");
        }
        keys.iter().try_for_each(|key| {
            let standing = key.standing(clock());
            let style = match standing {
                Standing::Active => style::GOOD,
                Standing::Expired | Standing::Revoked => style::DIM,
            };
            writeln!(
                w,
                "{}  {}{:<8}{} until {}  {}{}{}",
                key.id(),
                style.render(),
                standing.as_str(),
                style.render_reset(),
                until(key),
                untrusted(&who(key)),
                key.created
                    .name
                    .as_deref()
                    .map(|name| format!(" ({})", untrusted(name)))
                    .unwrap_or_default(),
                what(key).map(|what| format!(": {what}")).unwrap_or_default(),
            )
        })
    })?;
    Ok(Exit::Done)
}
