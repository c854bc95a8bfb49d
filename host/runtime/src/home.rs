//! Making a home and changing which components it runs: the operator's acts, each on the ledger.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal};
use ambit_core::hold::Delegation;
use ambit_core::ledger::body::{
    ActRefused, Body, BreakerClosed, CallDiverged, ClosedBy, DeadLetterDropped, Dropped, PersonDelegated,
    PersonEnrolled, PersonRevoked, Reason, ToolPinned, ToolRemoved,
};
use ambit_core::ledger::{EntryDraft, VerifierKey};
use ambit_core::manifest::Manifest;
use ambit_core::policy;
use ambit_core::run::Run;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::config::lock::{Lock, Pin};
use crate::config::{self, Config};
use crate::host::{self, OpenError};
use crate::operators::{self, Answer, Request};
use crate::runs::{self, NewRun};
use crate::store::{Batch, Erasure, Faults, Keys, Person, Since, Store};

/// What [`init`] made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The ledger's name.
    pub origin: String,
    /// The text of its public key.
    pub key: String,
}

/// Makes a home: keys, a commented configuration, a policy that denies all, and a ledger with its first entry.
///
/// # Errors
/// Where `home` is a home already: nothing in it is replaced. Where it cannot be written.
pub fn init(home: &Path) -> Result<Made, OpenError> {
    if home.join(config::FILE).exists() {
        return Err(OpenError::Home(format!(
            "{} is a home already; nothing was changed",
            home.display()
        )));
    }
    let at = |path: &Path| {
        let path = path.to_owned();
        move |e: io::Error| OpenError::Home(format!("{} cannot be written: {e}", path.display()))
    };
    make_private(home).map_err(at(home))?;
    let policies = home.join("policy");
    fs::create_dir_all(&policies).map_err(at(&policies))?;
    fs::create_dir_all(home.join("tools")).map_err(at(home))?;
    let keys = Keys::create(home)?;
    let shipped = policies.join("shipped.cedar");
    write_new(&shipped, policy::SHIPPED.as_bytes()).map_err(at(&shipped))?;
    // The configuration comes last: a home without one is unfinished, and `init` can be told so.
    let store = Store::open(home, keys, host::store_options(None)?, Faults::default())?;
    let file = home.join(config::FILE);
    write_new(&file, config::TEMPLATE.as_bytes()).map_err(at(&file))?;
    let key = store.verifier().clone();
    Ok(Made {
        origin: key.name().to_owned(),
        key: key.to_string(),
    })
}

/// Makes a folder that only its owner can enter.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a file that must not be there yet, and syncs it.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Where a home keeps a component.
#[must_use]
pub fn component_path(home: &Path, digest: &Digest) -> PathBuf {
    home.join("tools")
        .join(format!("{}.wasm", HEXLOWER.encode(digest.as_bytes())))
}

/// Reads the component that a pin names, and believes it only if its digest is the pin's.
///
/// # Errors
/// [`Code::Tool`] where it is missing or another one.
pub fn read_component(home: &Path, name: &str, pin: &Pin) -> Result<Vec<u8>, Refusal> {
    read_component_of(home, name, &pin.digest)
}

/// Reads the component of a digest, accepted now or once.
pub(crate) fn read_component_of(home: &Path, name: &str, digest: &Digest) -> Result<Vec<u8>, Refusal> {
    let path = component_path(home, digest);
    let bytes = fs::read(&path).map_err(|e| {
        Refusal::new(
            Code::Tool,
            format!("the component of `{name}` ({}) cannot be read: {e}", path.display()),
        )
        .advise("add it again: ambit tools accept NAME COMPONENT.wasm")
    })?;
    let found = Digest::of(&bytes);
    if !ambit_core::guard!("config.pin", found == *digest) {
        return Err(Refusal::new(
            Code::Tool,
            format!("the component of `{name}` is not the accepted one: {found} in place of {digest}"),
        )
        .advise("someone changed the file; `ambit tools accept` shows what a new component declares"));
    }
    Ok(bytes)
}

/// What the accepted component of a tool declares.
///
/// # Errors
/// Where the home has no tool of that name, or its component is not the accepted one.
pub fn pinned(home: &Path, name: &str) -> Result<Manifest, OpenError> {
    let lock = Lock::read(home)?;
    let pin = lock.get(name).ok_or_else(|| no_such_tool(&lock, name))?;
    Ok(Manifest::read(&read_component(home, name, pin)?)?)
}

fn no_such_tool(lock: &Lock, name: &str) -> OpenError {
    let names: Vec<&str> = lock.iter().map(|(name, _)| name).collect();
    let message = format!("the home has no tool `{}`", ambit_core::error::printable(name));
    let advice = if names.is_empty() {
        "add one: ambit tools add NAME COMPONENT.wasm".to_owned()
    } else {
        format!("its tools: {}", names.join(", "))
    };
    Refusal::new(Code::Tool, message).advise(advice).into()
}

/// Accepts a component under a new name.
///
/// # Errors
/// Where the name is taken or no name, or the home cannot be written. The home is then as it was.
pub fn add_tool(home: &Path, name: &str, component: &[u8], manifest: &Manifest) -> Result<(), OpenError> {
    free(&Lock::read(home)?, name)?;
    pin(home, name, component, manifest, false)
}

/// That the home has no tool of that name.
fn free(lock: &Lock, name: &str) -> Result<(), Refusal> {
    let Some(pin) = lock.get(name) else { return Ok(()) };
    let message = format!("the home has a tool `{name}` already ({})", pin.digest);
    Err(Refusal::new(Code::Tool, message)
        .advise("choose another name, or accept another component for it: ambit tools accept NAME COMPONENT.wasm"))
}

/// Accepts another component for a tool that is there.
///
/// # Errors
/// As [`add_tool`]; and where there is no such tool.
pub fn accept_tool(home: &Path, name: &str, component: &[u8], manifest: &Manifest) -> Result<(), OpenError> {
    let lock = Lock::read(home)?;
    if lock.get(name).is_none() {
        return Err(no_such_tool(&lock, name));
    }
    pin(home, name, component, manifest, true)
}

/// Component, then ledger, then lock: a crash in between leaves a component that nothing names, or an entry that the next
/// acceptance repeats, and never a tool that the ledger does not know.
fn pin(home: &Path, name: &str, component: &[u8], manifest: &Manifest, again: bool) -> Result<(), OpenError> {
    accepted(&mut Lock::read(home)?, name, manifest)?;
    write_component(home, &manifest.digest, component)?;
    let request = Request::PinTool {
        name: name.to_owned(),
        digest: manifest.digest,
        again,
    };
    operators::act(home, &request).map(drop)
}

/// Accepts a component that was written: by the process that holds the home. It is looked at again here, as whoever asks says which one.
pub(crate) fn pin_written(
    store: &Store,
    home: &Path,
    name: &str,
    digest: &Digest,
    again: bool,
) -> Result<(), OpenError> {
    let mut lock = Lock::read(home)?;
    if again {
        lock.get(name).ok_or_else(|| no_such_tool(&lock, name))?;
    } else {
        free(&lock, name)?;
    }
    let manifest = Manifest::read(&read_component_of(home, name, digest)?)?;
    let previous = accepted(&mut lock, name, &manifest)?;
    let body = ToolPinned {
        digest: manifest.digest,
        name: name.to_owned(),
        previous: previous.map(|p| p.digest),
        world: manifest.world,
    };
    store.commit(Batch {
        entries: vec![EntryDraft::of_ledger(body)],
        ..Batch::default()
    })?;
    write_lock(home, &lock)
}

/// Puts a component under a tool's name; returns the one before.
fn accepted(lock: &mut Lock, name: &str, manifest: &Manifest) -> Result<Option<Pin>, Refusal> {
    let pin = Pin {
        digest: manifest.digest,
        world: manifest.world.clone(),
        accepted_ms: u64::try_from(host::now_ms()).unwrap_or_default(),
    };
    lock.accept(name, pin)
        .map_err(|e| Refusal::new(Code::Tool, e.to_string()).advise("choose another name"))
}

fn write_component(home: &Path, digest: &Digest, component: &[u8]) -> Result<(), OpenError> {
    let path = component_path(home, digest);
    let folder = home.join("tools");
    let write = || -> io::Result<()> {
        fs::create_dir_all(&folder)?;
        // Of this process alone: whoever accepts the same elsewhere writes another.
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        write_new(&temporary, component)?;
        fs::rename(&temporary, &path)?;
        fs::File::open(&folder)?.sync_all()
    };
    write().map_err(|e| OpenError::Home(format!("{} cannot be written: {e}", path.display())))
}

fn write_lock(home: &Path, lock: &Lock) -> Result<(), OpenError> {
    lock.write(home)
        .map_err(|e| OpenError::Home(format!("tools.lock cannot be written: {e}")))
}

/// Removes a tool; returns the digest it was pinned to. Its component stays in the home, for replays of its calls.
///
/// # Errors
/// Where there is no such tool, or the home cannot be written.
pub fn remove_tool(home: &Path, name: &str) -> Result<Digest, OpenError> {
    let lock = Lock::read(home)?;
    lock.get(name).ok_or_else(|| no_such_tool(&lock, name))?;
    let request = Request::RemoveTool { name: name.to_owned() };
    match operators::act(home, &request)? {
        Answer::Tool { digest } => Ok(digest),
        other => Err(OpenError::Home(format!("the host answered something else: {other:?}"))),
    }
}

/// Removes a tool: by the process that holds the home.
pub(crate) fn unpin(store: &Store, home: &Path, name: &str) -> Result<Digest, OpenError> {
    let mut lock = Lock::read(home)?;
    let pin = lock.remove(name).ok_or_else(|| no_such_tool(&lock, name))?;
    let body = ToolRemoved {
        digest: pin.digest,
        name: name.to_owned(),
    };
    store.commit(Batch {
        entries: vec![EntryDraft::of_ledger(body)],
        ..Batch::default()
    })?;
    write_lock(home, &lock)?;
    Ok(pin.digest)
}

/// Enrols a person who may approve, by the text of their public key, whose name is theirs.
///
/// # Errors
/// Where it is no key, or a person of that name is enrolled; where the home cannot be written.
pub fn enrol_person(home: &Path, key: &str) -> Result<String, OpenError> {
    enrol(&open_store(home)?, key)
}

pub(crate) fn enrol(store: &Store, key: &str) -> Result<String, OpenError> {
    let key = VerifierKey::parse(key).map_err(|error| Refusal::new(Code::Config, error.to_string()))?;
    let name = key.name().to_owned();
    if store.reader()?.persons()?.iter().any(|person| person.name == name) {
        return Err(
            Refusal::new(Code::Config, format!("a person `{name}` is enrolled already"))
                .advise("revoke the old key first: ambit person revoke NAME")
                .into(),
        );
    }
    let twin = |person: &Person| VerifierKey::parse(&person.key).is_ok_and(|known| known.is_key_of(&key));
    if let Some(twin) = store.reader()?.persons()?.iter().find(|person| twin(person)) {
        let message = format!("that key is enrolled already, as {}'s", twin.name);
        return Err(Refusal::new(Code::Config, message)
            .advise("a person has a key of their own")
            .into());
    }
    store.commit(Batch {
        entries: vec![EntryDraft::of_ledger(PersonEnrolled {
            key: key.to_string(),
            name: name.clone(),
        })],
        ..Batch::default()
    })?;
    Ok(name)
}

/// Revokes a person's key: it signs no more votes that count, and those it signed count no longer. Delegations by and to them end.
///
/// # Errors
/// Where there is no such person, or the home cannot be written.
pub fn revoke_person(home: &Path, name: &str) -> Result<(), OpenError> {
    revoke(&open_store(home)?, name)
}

pub(crate) fn revoke(store: &Store, name: &str) -> Result<(), OpenError> {
    let people = store.reader()?.persons()?;
    let Some(person) = people.iter().find(|person| person.name == name) else {
        let names: Vec<&str> = people.iter().map(|person| person.name.as_str()).collect();
        let message = format!("no person `{}` is enrolled", ambit_core::error::printable(name));
        return Err(Refusal::new(Code::Config, message)
            .advise(match names.as_slice() {
                [] => "nobody is enrolled".to_owned(),
                names => format!("enrolled are: {}", names.join(", ")),
            })
            .into());
    };
    store.commit(Batch {
        entries: vec![EntryDraft::of_ledger(PersonRevoked {
            key: person.key.clone(),
            name: person.name.clone(),
        })],
        ..Batch::default()
    })?;
    Ok(())
}

/// Starts a run: what its principal may do in it, until when, and how much.
///
/// # Errors
/// Where it cannot be started as asked, or the home cannot be written.
pub fn start_run(home: &Path, asked: &NewRun) -> Result<Run, OpenError> {
    let config = Config::load(home)?;
    runs::start(&open_store(home)?, &config, asked, None, None)
}

/// Ends a run: what is under way in it finishes, and nothing more begins.
///
/// # Errors
/// Where there is no such run, it is over already, or the home cannot be written.
pub fn end_run(home: &Path, id: &str) -> Result<Run, OpenError> {
    runs::end(&open_store(home)?, id, None)
}

/// Enters what a person signed about who votes in their stead; returns what it says.
///
/// # Errors
/// Where it is not signed by a person who is enrolled, who is in the group; where it is about nobody else who is enrolled, of another
/// ledger, for longer than can be given, or older than what they said before. Where the home cannot be written.
pub fn delegate(home: &Path, note: &str) -> Result<Delegation, OpenError> {
    let config = Config::load(home)?;
    delegated(&open_store(home)?, &config, note)
}

pub(crate) fn delegated(store: &Store, config: &Config, note: &str) -> Result<Delegation, OpenError> {
    let refuse = |why: String| Refusal::new(Code::Approval, why);
    let claimed = Delegation::claimed(note).map_err(|error| refuse(error.to_string()))?;
    let people = store.reader()?.persons()?;
    let enrolled = |name: &str| {
        let person = people.iter().find(|person| person.name == name);
        person.ok_or_else(|| {
            refuse(format!(
                "no person `{}` is enrolled",
                ambit_core::error::printable(name)
            ))
            .advise("`ambit person list` prints who is")
        })
    };
    let person = enrolled(&claimed.person)?;
    let key = VerifierKey::parse(&person.key).map_err(|error| refuse(error.to_string()))?;
    let said = Delegation::open(note, &key).map_err(|error| refuse(error.to_string()))?;
    enrolled(&said.delegate)?;
    let members = config.groups().get(&said.group);
    let member = members.is_some_and(|members| members.contains(&said.person));
    // What was given can be taken back also by whoever left the group.
    if !ambit_core::guard!("hold.delegator-member", member || said.takes_back()) {
        let group = ambit_core::error::printable(&said.group);
        return Err(refuse(format!(
            "{} is not in group `{group}`, and has no vote there to give",
            said.person
        ))
        .advise("a vote that was given by somebody else cannot be given on")
        .into());
    }
    if said.ledger != store.verifier().name() {
        return Err(refuse("the delegation was signed for another home's ledger".to_owned()).into());
    }
    store.commit(Batch {
        entries: vec![EntryDraft::of_ledger(PersonDelegated {
            delegation: note.to_owned(),
        })],
        ..Batch::default()
    })?;
    Ok(said)
}

/// Closes the breakers of a connection, and of its routes, that are open: the operator knows that the service works. Says which they
/// were: the connection's own has no route.
///
/// # Errors
/// Where the home has no such connection, or it cannot be written.
pub(crate) fn reset(store: &Store, config: &Config, name: &str) -> Result<Vec<Option<String>>, OpenError> {
    let past = store.reader()?.past(Since {
        paused_ms: i64::MAX,
        sent_ms: None,
        failed_ms: None,
    })?;
    let ours = past.open().filter(|(connection, _)| connection == name);
    let routes: Vec<Option<String>> = ours.map(|(_, route)| route.clone()).collect();
    if config.connection(name).is_none() && routes.is_empty() {
        let names: Vec<&str> = config.connections().map(|(name, _)| name).collect();
        let message = format!("there is no connection `{}`", ambit_core::error::printable(name));
        return Err(Refusal::new(Code::Config, message)
            .advise(format!("the connections here: {}", names.join(", ")))
            .into());
    }
    let closed = |route: &Option<String>| {
        EntryDraft::of_ledger(BreakerClosed {
            connection: name.to_owned(),
            route: route.clone(),
            why: ClosedBy::Operator,
        })
    };
    if !routes.is_empty() {
        store.commit(Batch {
            entries: routes.iter().map(closed).collect(),
            ..Batch::default()
        })?;
    }
    Ok(routes)
}

/// Gives up an effect that failed for good.
///
/// # Errors
/// Where it is no dead letter, or the home cannot be written.
pub(crate) fn dropped(store: &Store, call: &str, ordinal: u32, why: Dropped) -> Result<(), OpenError> {
    let letters = store.reader()?.dead_letters_like(call)?;
    let there = letters
        .iter()
        .any(|(work, _)| work.call == call && work.ordinal == Some(ordinal));
    if !there {
        return Err(crate::dead_letters::none(call, ordinal).into());
    }
    store.commit(Batch {
        entries: vec![EntryDraft::of_ledger(DeadLetterDropped {
            call: call.to_owned(),
            ordinal,
            why,
        })],
        ..Batch::default()
    })?;
    Ok(())
}

/// Writes down that calls diverged when they were run again, as [`crate::replay::Replayer::entry_of`] says it; returns the index of the
/// first entry.
///
/// # Errors
/// Where the home cannot be written.
pub(crate) fn diverged(store: &Store, calls: Vec<CallDiverged>) -> Result<u64, OpenError> {
    let committed = store.commit(Batch {
        entries: calls.into_iter().map(EntryDraft::of_ledger).collect(),
        ..Batch::default()
    })?;
    Ok(committed.first_index)
}

/// Writes down that an act was refused; returns the index of the entry. What the last entry says already is not said again: a service
/// manager that starts a host every second, with files that cannot be used, fills no disk.
///
/// # Errors
/// Where the home cannot be written.
pub(crate) fn act_refused(store: &Store, refused: ActRefused) -> Result<u64, OpenError> {
    let reader = store.reader()?;
    if let Some(last) = reader.size()?.checked_sub(1)
        && *reader.entry(last)?.body() == Body::ActRefused(refused.clone())
    {
        return Ok(last);
    }
    let committed = store.commit(Batch {
        entries: vec![EntryDraft::of_ledger(refused)],
        ..Batch::default()
    })?;
    Ok(committed.first_index)
}

/// What an erasure did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// The first of the entries that say so; they stand next to each other.
    pub entry: u64,
    /// How many they are.
    pub entries: u64,
    /// Whether the erased keys are in no file of the ledger any more. Not where somebody reads the ledger: whoever opens the home next
    /// sees to it.
    pub finished: bool,
}

/// Erases values of calls for good, exactly those that were found when somebody looked, and shown to them.
///
/// # Errors
/// Where the home cannot be written, or the values are not those that were found. Nothing is erased then.
pub(crate) fn erase_found(store: &Store, why: Reason, looked_ms: i64, found: &Digest) -> Result<Erased, OpenError> {
    let erasure = store.reader()?.erasable(why, looked_ms)?;
    if !ambit_core::guard!("operators.erase-found", erasure.digest() == *found) {
        let why = "there are other values to erase than those that were found: nothing was erased";
        return Err(Refusal::new(Code::Stale, why)
            .advise("calls ended or began to wait meanwhile: look again, and say it again")
            .into());
    }
    erased(store, &erasure)
}

/// Erases values of calls for good, exactly those that were found.
///
/// # Errors
/// Where a host runs on the home, it cannot be written, or the values are not those that were found. Nothing is erased then.
pub fn erase(home: &Path, erasure: &Erasure) -> Result<Erased, OpenError> {
    erased(&open_store(home)?, erasure)
}

fn erased(store: &Store, erasure: &Erasure) -> Result<Erased, OpenError> {
    let done = store.erase(erasure)?;
    Ok(Erased {
        entry: done.first_index,
        entries: done.entries,
        finished: !store.reader()?.erasing()?,
    })
}

/// The home's store, for an operator's act. Fails where a host runs on the home.
pub(crate) fn open_store(home: &Path) -> Result<Store, OpenError> {
    let config = Config::load(home)?;
    Ok(Store::open(
        home,
        Keys::load(home)?,
        host::store_options(Some(config.ledger()))?,
        Faults::default(),
    )?)
}
