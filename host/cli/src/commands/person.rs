//! `ambit person`: the people who may approve, by their own keys.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ambit_core::hold::{Delegation, LONGEST_DELEGATION_MS};
use ambit_core::ledger::{SignerKey, VerifierKey, parse_utc, utc};
use ambit_runtime::approvals::{self, People};
use ambit_runtime::clock::clock;
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::store::Reader;
use serde_json::{Value, json};

use super::approvals::unusable;
use crate::args::Person;
use crate::ids;
use crate::output::{Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(command: &Person, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        Person::Key { name, output } => key(name, output, out),
        Person::Enrol { key } => enrol(home, key, out),
        Person::Revoke { name } => revoke(home, name, out),
        Person::Delegate { to, group, until, key } => delegate(home, (to, group), Some(until), key, out),
        Person::Undelegate { to, group, key } => delegate(home, (to, group), None, key, out),
        Person::List => list(home, out),
    }
}

/// Makes a key pair: the secret half into a file of the person's own, the public half to be enrolled.
fn key(name: &str, output: &Path, out: Output) -> Result<Exit, Failure> {
    let key = approvals::new_person_key(name)?;
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(output)
        .and_then(|mut file| {
            file.write_all(key.to_text().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        });
    file.map_err(|error| {
        let failure = Failure::usage(format!("the key {} cannot be written: {error}", output.display()));
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => failure.advise(
                "A key is written over no other file, as that may be one that somebody signs with: name a file that is not there yet.",
            ),
            _ => failure.advise("Name a file in a folder that you may write to."),
        }
    })?;
    let public = key.verifier().to_string();
    out.result(&json!({ "name": name, "key": public }), |w| writeln!(w, "{public}"))?;
    note(format!(
        "The secret key is in {}: {name}'s alone, and nowhere that an agent can read. The line above is the public key; an \
         operator enrols it: ambit person enrol KEY",
        output.display()
    ));
    Ok(Exit::Done)
}

/// A public key as it is, or in a file.
fn public_key(given: &str) -> Result<String, Failure> {
    let path = Path::new(given.strip_prefix('@').unwrap_or(given));
    if given.starts_with('@') || (!given.contains('+') && path.exists()) {
        return fs::read_to_string(path)
            .map_err(|e| Failure::usage(format!("the key {} cannot be read: {e}", path.display())));
    }
    Ok(given.to_owned())
}

fn enrol(home: &Path, given: &str, out: Output) -> Result<Exit, Failure> {
    let text = public_key(given)?;
    if SignerKey::parse(&text).is_ok() {
        return Err(Failure::usage("that is a secret key: it belongs to its person alone")
            .advise("Enrol the public key, which `ambit person key` prints."));
    }
    VerifierKey::parse(&text).map_err(|e| {
        Failure::usage(format!("that is no public key: {e}"))
            .advise("`ambit person key NAME --output FILE` makes a pair.")
    })?;
    let name = person(operators::act(home, &Request::Enrol { key: text })?)?;
    out.result(&json!({ "enrolled": name }), |w| {
        writeln!(
            w,
            "{}enrolled{} {}",
            style::GOOD.render(),
            style::GOOD.render_reset(),
            untrusted(&name)
        )
    })?;
    note("Groups of ambit.toml say what a person may approve: [group.NAME] members = […].");
    Ok(Exit::Done)
}

fn person(answer: Answer) -> Result<String, Failure> {
    match answer {
        Answer::Person(name) => Ok(name),
        other => Err(Failure::internal(format!(
            "the host answered something else: {other:?}"
        ))),
    }
}

fn revoke(home: &Path, name: &str, out: Output) -> Result<Exit, Failure> {
    let request = Request::Revoke { name: name.to_owned() };
    let answer = operators::act(home, &request).map_err(|error| {
        let people = Reader::open(home)
            .and_then(|reader| reader.persons())
            .unwrap_or_default();
        ids::or_no_such(
            error.into(),
            "person",
            name,
            people.iter().map(|person| person.name.as_str()),
        )
    })?;
    person(answer)?;
    out.result(&json!({ "revoked": name }), |w| {
        writeln!(w, "revoked {}: no yes of theirs counts any more", untrusted(name))
    })?;
    Ok(Exit::Done)
}

/// Gives the key's person's vote to another until a time, or takes it back.
fn delegate(
    home: &Path,
    (to, group): (&str, &str),
    until: Option<&str>,
    key: &Path,
    out: Output,
) -> Result<Exit, Failure> {
    let key = approvals::read_person_key(key).map_err(unusable)?;
    let person = key.verifier().name();
    let now = clock();
    let until = until.map(|text| time(text, now)).transpose()?;
    let reader = Reader::open(home)?;
    let about = [person, to, group];
    let before = reader.delegations()?.into_iter().find(|said| said.about == about);
    if until.is_none() && before.as_ref().is_none_or(|said| said.until_ms <= now) {
        return Err(Failure::refused(format!(
            "{} has no vote of {} for {}",
            untrusted(to),
            untrusted(person),
            untrusted(group)
        ))
        .advise("`ambit person list` prints who votes in whose stead."));
    }
    // Of two statements about the same, the later one holds, also where a clock went back between them.
    let made_ms = before.map_or(now, |said| now.max(said.made_ms.saturating_add(1)));
    let said = Delegation {
        ledger: reader.origin()?,
        person: person.to_owned(),
        delegate: to.to_owned(),
        group: group.to_owned(),
        made_ms,
        until_ms: until.unwrap_or(made_ms),
    };
    let people = reader.persons()?;
    drop(reader);
    let note = said.sign(&key).map_err(|e| Failure::usage(e.to_string()))?;
    operators::act(home, &Request::Delegate { note }).map_err(|error| {
        let people = people.iter().map(|person| person.name.as_str());
        ids::or_no_such(error.into(), "person", to, people)
    })?;
    let ends = until.map(utc_of);
    let document = json!({ "person": said.person, "delegate": said.delegate, "group": said.group, "until": ends });
    out.result(&document, |w| {
        let (person, delegate, group) = (
            untrusted(&said.person),
            untrusted(&said.delegate),
            untrusted(&said.group),
        );
        match &ends {
            Some(ends) => writeln!(w, "{delegate} votes in the stead of {person} for {group} until {ends}"),
            None => writeln!(w, "{delegate} no longer votes in the stead of {person} for {group}"),
        }
    })?;
    Ok(Exit::Done)
}

fn utc_of(ms: u64) -> String {
    utc(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// When a delegation is over: a time, or so long from now.
fn time(text: &str, now: u64) -> Result<u64, Failure> {
    let span = |unit: char, ms: u64| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(ms);
    let spans = [span('m', 60_000), span('h', 3_600_000), span('d', 86_400_000)];
    let from_now = spans.into_iter().flatten().next().map(|span| now.saturating_add(span));
    let at = from_now.or_else(|| u64::try_from(parse_utc(text)?).ok());
    let at = at.ok_or_else(|| {
        Failure::usage(format!("`{}` is no time", untrusted(text)))
            .advise("A time in UTC such as 2026-11-30T18:00Z, or from now on: 30m, 8h, 14d.")
    })?;
    if at <= now || at - now > LONGEST_DELEGATION_MS {
        return Err(
            Failure::usage(format!("`{}` is not within the next 90 days", untrusted(text)))
                .advise("A vote is given for a time. Give it again when that is over."),
        );
    }
    Ok(at)
}

fn list(home: &Path, out: Output) -> Result<Exit, Failure> {
    let config = ambit_runtime::config::Config::load(home)?;
    let reader = Reader::open(home)?;
    let people = reader.persons()?;
    let now = clock();
    let standing = People::of(&reader, &config)?;
    let given: Vec<&Delegation> = standing
        .electorate()
        .delegations
        .iter()
        .filter(|given| given.until_ms > now)
        .collect();
    let groups = |name: &str| -> Vec<&str> {
        let of = config.groups().iter();
        of.filter(|(_, members)| members.iter().any(|member| member == name))
            .map(|(group, _)| group.as_str())
            .collect()
    };
    let rows: Vec<Value> = people
        .iter()
        .map(|person| {
            let given = given.iter().filter(|given| given.person == person.name);
            let given: Vec<Value> = given
                .map(|given| {
                    json!({
                        "to": given.delegate,
                        "group": given.group,
                        "until": utc_of(given.until_ms),
                        "counts": standing.electorate().is_member(&given.person, &given.group),
                    })
                })
                .collect();
            json!({ "name": person.name, "key": person.key, "groups": groups(&person.name), "delegates": given })
        })
        .collect();
    out.result(&rows, |w| {
        if people.is_empty() {
            return writeln!(w, "nobody is enrolled");
        }
        people.iter().try_for_each(|person| {
            let groups = match groups(&person.name) {
                groups if groups.is_empty() => "in no group".to_owned(),
                groups => groups.join(", "),
            };
            writeln!(w, "{:<16} {groups:<24} {}", untrusted(&person.name), person.key)?;
            let given = given.iter().filter(|given| given.person == person.name);
            given.into_iter().try_for_each(|given| {
                let void = match standing.electorate().is_member(&given.person, &given.group) {
                    true => "",
                    false => ", and does not count: they are not in the group",
                };
                writeln!(
                    w,
                    "{:<16} gives the vote for {} to {} until {}{void}",
                    "",
                    untrusted(&given.group),
                    untrusted(&given.delegate),
                    utc_of(given.until_ms)
                )
            })
        })
    })?;
    Ok(Exit::Done)
}
