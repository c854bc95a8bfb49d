//! `ambit person`: the people who may approve, by their own keys.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ambit_core::ledger::{SignerKey, VerifierKey};
use ambit_runtime::approvals;
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::store::Reader;
use serde_json::{Value, json};

use crate::args::Person;
use crate::output::{Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(command: &Person, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        Person::Key { name, output } => key(name, output, out),
        Person::Enrol { key } => enrol(home, key, out),
        Person::Revoke { name } => revoke(home, name, out),
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
    file.map_err(|e| Failure::usage(format!("the key {} cannot be written: {e}", output.display())))?;
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
    person(operators::act(home, &request)?)?;
    out.result(&json!({ "revoked": name }), |w| {
        writeln!(w, "revoked {}: no yes of theirs counts any more", untrusted(name))
    })?;
    Ok(Exit::Done)
}

fn list(home: &Path, out: Output) -> Result<Exit, Failure> {
    let config = ambit_runtime::config::Config::load(home)?;
    let people = Reader::open(home)?.persons()?;
    let groups = |name: &str| -> Vec<&str> {
        let of = config.groups().iter();
        of.filter(|(_, members)| members.iter().any(|member| member == name))
            .map(|(group, _)| group.as_str())
            .collect()
    };
    let rows: Vec<Value> = people
        .iter()
        .map(|person| json!({ "name": person.name, "key": person.key, "groups": groups(&person.name) }))
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
            writeln!(w, "{:<16} {groups:<24} {}", untrusted(&person.name), person.key)
        })
    })?;
    Ok(Exit::Done)
}
