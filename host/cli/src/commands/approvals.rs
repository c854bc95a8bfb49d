//! `ambit approvals`: effects that wait for people, and what people say to them.

mod after;
mod batch;
mod behind;
pub(crate) mod edit;
mod over;

use std::io::{self, Write};
use std::path::Path;

use ambit_core::digest::Digest;
use ambit_core::error::Refusal;
use ambit_core::hold::{Need, Standing, Verdict, Vote};
use ambit_core::ledger::body::Amount;
use ambit_core::ledger::{SignerKey, utc};
use ambit_runtime::approvals::{self, ApprovalError, Pending, People, Waiting, told};
use ambit_runtime::clock::clock;
use ambit_runtime::config::Config;
use ambit_runtime::documents;
use ambit_runtime::host::OpenError;
use ambit_runtime::ids::CallId;
use ambit_runtime::operators::{Answer, Request};
use ambit_runtime::store::{Held, Keys, Reader, Work};
use serde_json::{Map, Value, json};

use behind::Behind;

use super::desk::{Desk, unexpected};
use super::{call, request};
use crate::args::{Approvals, Cast, Format};
use crate::ids::{self, Kind};
use crate::output::{Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(command: &Approvals, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        Approvals::List { limit, after } => list(home, *limit, *after, out),
        Approvals::Show { hold } => show(home, hold, out),
        Approvals::Approve(args) => vote(home, &args.cast, (Verdict::Approve, args.minutes), out),
        Approvals::Reject(cast) => vote(home, cast, (Verdict::Reject, None), out),
        Approvals::Edit(args) => edit::run(home, args, out),
        Approvals::BreakGlass { hold, key, reason } => break_glass(home, hold, key, reason, out),
        Approvals::Resume { hold: Some(hold), .. } => resume(home, hold, out),
        Approvals::Resume { hold: None, many } => batch::resume(home, many, out),
    }
}

impl From<ApprovalError> for Failure {
    fn from(error: ApprovalError) -> Failure {
        match error {
            ApprovalError::Refused(refusal) => refusal.into(),
            ApprovalError::Fault(fault) => fault.into(),
        }
    }
}

/// The ledger, with the values of calls where the keys are readable.
fn reader(home: &Path) -> Result<Reader, Failure> {
    let reader = Reader::open(home)?;
    Ok(match Keys::load(home) {
        Ok(keys) => reader.with_keys(&keys),
        Err(_) => reader,
    })
}

/// The hold that `given` names and that waits: its digest or a beginning of that, or its call's id or a beginning of that.
fn find(reader: &Reader, given: &str) -> Result<Option<(Work, Held)>, Failure> {
    let hex = given.strip_prefix("sha256:").unwrap_or(given);
    let plain = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mut found = if plain { reader.holds_like(hex)? } else { Vec::new() };
    if found.is_empty() && given.starts_with("c_") {
        found = reader.holds_of_calls_like(given)?;
    }
    match found.as_slice() {
        [one] => Ok(Some(one.clone())),
        [] => Ok(None),
        several => {
            let named = |(work, held): &(Work, Held)| format!("{} of {}", short(&held.hold), work.call);
            let ids: Vec<String> = several.iter().map(named).collect();
            Err(ids::several(Kind::Hold, given, &ids))
        }
    }
}

/// A hold's id as lists print it.
fn short(hold: &Digest) -> String {
    hold.to_hex().chars().take(12).collect()
}

/// What to do where a hold does not wait.
const LISTED: &str = "`ambit approvals list` prints what waits. What has been decided is not there any more.";

/// Why nothing waits under `given`: there is nothing of that id, or it does not wait any more.
fn nothing_waits(reader: &Reader, given: &str) -> Result<Failure, Failure> {
    if let Some(edited) = over::edited(reader, given)? {
        return Ok(edited.failure());
    }
    // An id of fewer characters than a call's may be the beginning of others that wait.
    let whole = given.parse::<CallId>().is_ok() && reader.calls_like(given, 1)?.iter().any(|call| call == given);
    Ok(match whole {
        true => Failure::refused(format!("call {given} waits for nobody")).advise(LISTED),
        false => ids::unknown(Kind::Hold, given),
    })
}

/// The hold that `given` names, as it stands.
fn waiting(reader: &Reader, people: &People<'_>, given: &str) -> Result<Pending, Failure> {
    let Some((work, held)) = find(reader, given)? else {
        return Err(nothing_waits(reader, given)?);
    };
    Pending::of(reader, people, &work, &held)?
        .ok_or_else(|| Failure::refused(format!("call {} waits for nobody", work.call)).advise(LISTED))
}

fn list(home: &Path, limit: u32, after: Option<u64>, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let reader = reader(home)?;
    let people = People::of(&reader, &config)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let holds = reader.holds(after, limit)?;
    let mut all = Vec::with_capacity(holds.len());
    for (work, held) in &holds {
        // What was decided since the page was read is no more on it.
        all.extend(Pending::of(&reader, &people, work, held)?);
    }
    let rows: Vec<Value> = all.iter().map(documents::hold).collect();
    out.result(&rows, |w| {
        if all.is_empty() {
            return writeln!(w, "nothing waits for approval");
        }
        all.iter().try_for_each(|waiting| line(waiting, w))
    })?;
    if let Some((_, last)) = holds
        .last()
        .filter(|_| holds.len() == limit && out.format == Format::Human)
    {
        note(format!("There may be more: --after {}", last.index));
    }
    Ok(Exit::Done)
}

/// A word for where a hold stands, and how to colour it.
fn standing(standing: &Standing) -> (&'static str, anstyle::Style) {
    let style = match standing {
        Standing::Waiting(_) => style::WARN,
        Standing::Approved => style::GOOD,
        Standing::Rejected { .. } | Standing::Expired => style::BAD,
        Standing::Ended(_) => style::DIM,
    };
    (documents::hold_standing(standing), style)
}

fn money(spend: Option<&Amount>) -> String {
    spend.map_or_else(String::new, |spend| {
        format!(", {} {} (minor units)", spend.minor, spend.currency)
    })
}

fn effect(waiting: &Pending) -> String {
    let held = &waiting.held;
    let spend = money(held.spend.as_ref());
    format!("{} {}/{}{spend}", held.tier, held.connection, held.route)
}

fn who(waiting: &Pending) -> String {
    let principal = &waiting.hold.principal;
    let user = principal
        .user
        .as_deref()
        .map(|user| format!(" for {user}"))
        .unwrap_or_default();
    format!("{}{user}", principal.agent)
}

fn line(waiting: &Pending, w: &mut dyn Write) -> io::Result<()> {
    let (word, colour) = standing(&waiting.standing());
    let needs = match waiting.standing() {
        Standing::Waiting(missing) => format!(": {}", told(&missing)),
        _ => String::new(),
    };
    let id = short(&waiting.held.hold);
    let glass = match waiting.broken_by() {
        Some(vote) => format!("  BREAK-GLASS by {}", untrusted(&vote.person)),
        None => String::new(),
    };
    write!(
        w,
        "{id} {} by {}  {}{word}{}{}{glass}  until {}",
        untrusted(&effect(waiting)),
        untrusted(&who(waiting)),
        colour.render(),
        colour.render_reset(),
        untrusted(&needs),
        utc(i64::try_from(waiting.held.expires).unwrap_or(i64::MAX)),
    )?;
    edit::briefly(waiting, w)?;
    writeln!(w)
}

/// What would be sent; none where it is not readable here.
fn request(reader: &Reader, waiting: &Pending) -> Result<Option<Value>, Failure> {
    let payload = reader.payload(&waiting.call, &waiting.held.request_name())?;
    Ok(payload.and_then(|payload| serde_json::from_slice(payload.bytes()).ok()))
}

fn show(home: &Path, given: &str, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let reader = reader(home)?;
    let people = People::of(&reader, &config)?;
    let waiting = waiting(&reader, &people, given)?;
    let request = request(&reader, &waiting)?;
    let edited = edit::Shown::of(&reader, &waiting)?;
    let behind = Behind::of(&reader, &waiting, &config)?;
    let mut document = edit::document(&waiting, &edited, request.as_ref());
    if let Some(document) = document.as_object_mut() {
        document.extend(behind.members());
    }
    out.result(&document, |w| print(&waiting, (&edited, &behind), request.as_ref(), w))?;
    Ok(Exit::Done)
}

/// A hold for whoever has to decide: what exactly would be sent, for whom, and what is missing.
fn print(
    waiting: &Pending,
    (edited, behind): (&edit::Shown, &Behind),
    request: Option<&Value>,
    w: &mut dyn Write,
) -> io::Result<()> {
    let held = &waiting.held;
    let mut field = |name: &str, value: &str| {
        let dim = style::DIM;
        writeln!(
            w,
            "{}{name:<10}{} {}",
            dim.render(),
            dim.render_reset(),
            untrusted(value)
        )
    };
    field("hold", &held.hold.to_string())?;
    field("call", &format!("{}, effect {}", waiting.call, held.ordinal))?;
    field("who", &who(waiting))?;
    if let Some(run) = &waiting.accepted.run {
        field("run", run)?;
    }
    let asked = &waiting.accepted.asked;
    field("tool", &format!("{} {}", asked.tool, asked.function))?;
    field("effect", &effect(waiting))?;
    if let Some(undoes) = &held.undoes {
        field("undoes", &format!("effect {} of {}", undoes.ordinal, undoes.call))?;
    }
    match request {
        Some(request) => request::lines(request, &mut field)?,
        None => field("sends", "[not readable here: the home's keys are needed]")?,
    }
    behind.print(&mut field)?;
    edited.lines(&mut field)?;
    if !held.rules.is_empty() {
        field("denied by", &held.rules.join(", "))?;
    }
    if !held.over.is_empty() {
        field("passes", &format!("the cap of {}", held.over.join(", ")))?;
    }
    field("needs", &told(&held.needs))?;
    for vote in waiting.votes.votes() {
        field(verdict(vote.verdict), &voter(vote))?;
    }
    let missing = match waiting.standing() {
        Standing::Waiting(missing) => format!("waits for {}", told(&missing)),
        Standing::Approved => "approved; the call has not gone on yet: ambit approvals resume".to_owned(),
        Standing::Rejected { by } => format!("rejected by {by}; the call has not ended yet: ambit approvals resume"),
        Standing::Expired => "expired; the call has not ended yet: ambit approvals resume".to_owned(),
        Standing::Ended(_) => "over".to_owned(),
    };
    field("stands", &missing)?;
    field("until", &utc(i64::try_from(held.expires).unwrap_or(i64::MAX)))
}

/// A verdict for people: the one that nobody may overlook stands out.
pub(crate) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::BreakGlass => "BREAK-GLASS",
        other => other.as_str(),
    }
}

/// Who voted, for which group, in whose stead.
pub(crate) fn voter(vote: &Vote) -> String {
    let instead = match &vote.in_stead_of {
        Some(member) => format!(", in the stead of {member}"),
        None => String::new(),
    };
    format!("{} of {}{instead}", vote.person, vote.group)
}

/// A file that cannot be used is a slip in the arguments.
pub(crate) fn unusable(refusal: Refusal) -> Failure {
    let failure = Failure::usage(refusal.message);
    match refusal.advice {
        Some(advice) => failure.advise(advice),
        None => failure,
    }
}

/// The hold that a person says something about. What is said of one that is over does not count, which is for the host to say and to
/// write down.
enum Meant {
    Waits(Box<Pending>),
    /// With where to look.
    Over(Digest, String),
}

impl Meant {
    /// The hold that `given` names: one that waits, or by all of its digest, or by all of its call's id, one that does not.
    fn of(reader: &Reader, people: &People<'_>, given: &str) -> Result<Meant, Failure> {
        if let Some((work, held)) = find(reader, given)? {
            let pending = Pending::of(reader, people, &work, &held)?;
            return Ok(pending.map_or_else(|| Meant::over(held.hold), |pending| Meant::Waits(Box::new(pending))));
        }
        if let Some(edited) = over::edited(reader, given)? {
            return Ok(Meant::Over(edited.hold, edited.advice()));
        }
        let hex = given.strip_prefix("sha256:").unwrap_or(given);
        if let Ok(hold) = format!("sha256:{hex}").parse() {
            return Ok(Meant::over(hold));
        }
        // An id of fewer characters than a call's is the beginning of others.
        let whole = given.parse::<CallId>().is_ok() && reader.calls_like(given, 1)?.iter().any(|call| call == given);
        let last = if whole {
            let story = reader.story(given)?;
            story.holds.into_values().next_back().map(|hold| hold.held.what.hold)
        } else {
            None
        };
        match last {
            Some(hold) => Ok(Meant::over(hold)),
            None => Err(nothing_waits(reader, given)?),
        }
    }

    fn over(hold: Digest) -> Meant {
        Meant::Over(hold, LISTED.to_owned())
    }

    fn hold(&self) -> Digest {
        match self {
            Meant::Waits(pending) => pending.held.hold,
            Meant::Over(hold, _) => *hold,
        }
    }

    fn needs(&self) -> &[Need] {
        match self {
            Meant::Waits(pending) => &pending.held.needs,
            Meant::Over(..) => &[],
        }
    }

    /// From when on nothing that is said about it counts, in milliseconds since 1970.
    fn expires_ms(&self) -> u64 {
        match self {
            Meant::Waits(pending) => pending.held.expires,
            Meant::Over(..) => clock().saturating_add(3_600_000),
        }
    }

    /// The tool that its call goes on with. A name that no tool has: what is over goes on with none.
    fn tool(&self) -> &str {
        match self {
            Meant::Waits(pending) => &pending.accepted.asked.tool,
            Meant::Over(..) => "",
        }
    }
}

/// For which group a person speaks, and what they can do where the host refuses that.
struct Speaks {
    group: String,
    advice: Option<String>,
}

impl Speaks {
    /// What the host said, with the advice where it refused and had none of its own.
    fn told<T>(&self, said: Result<T, OpenError>) -> Result<T, Failure> {
        said.map_err(|error| match (error, &self.advice) {
            (OpenError::Refused(refusal), Some(advice)) if refusal.advice.is_none() => {
                Failure::from(refusal).advise(advice)
            }
            (error, _) => error.into(),
        })
    }
}

/// The group to speak for: the one that is named, or the only one of the voter's, or of whose stead it is, that the hold asks for. Whoever
/// is in none of them speaks for the first: that it does not count is for the host to say and to write down.
fn group(given: Option<&str>, meant: &Meant, people: &People<'_>, seat: &str, person: &str) -> Result<Speaks, Failure> {
    let look = match meant {
        Meant::Over(_, look) => Some(look),
        Meant::Waits(_) => None,
    };
    let speaks = |group: &str, advice: Option<String>| Speaks {
        group: group.to_owned(),
        advice: advice.or_else(|| look.cloned()),
    };
    if let Some(given) = given {
        return Ok(speaks(given, None));
    }
    let electorate = people.electorate();
    let mut groups: Vec<&String> = meant
        .needs()
        .iter()
        .flat_map(|need| need.keys())
        .filter(|group| electorate.is_member(seat, group))
        .collect();
    groups.sort();
    groups.dedup();
    match groups.as_slice() {
        [one] => Ok(speaks(one, None)),
        [] => Ok(match meant.needs().iter().flat_map(Need::keys).next() {
            Some(asked) => {
                let waits = format!("It waits for {}. ", untrusted(&told(meant.needs())));
                speaks(asked, Some(waits + &instead(people, person, seat)))
            }
            None => speaks("none", None),
        }),
        several => Err(Failure::usage(format!(
            "{} is in several of the groups that this waits for",
            untrusted(seat)
        ))
        .advise(format!(
            "Say for which: --group {}",
            several.iter().map(|group| group.as_str()).collect::<Vec<_>>().join("|")
        ))),
    }
}

/// What a person can do who is in no group that is asked: vote in another's stead, if somebody gave them their vote.
fn instead(people: &People<'_>, person: &str, seat: &str) -> String {
    let now = clock();
    let given = people.electorate().delegations.iter();
    let given = given.filter(|given| given.delegate == person && given.person != seat && given.until_ms > now);
    let given: Vec<String> = given
        .map(|given| {
            format!(
                "--in-stead-of {} (of {})",
                untrusted(&given.person),
                untrusted(&given.group)
            )
        })
        .collect();
    match given.as_slice() {
        [] => "Groups are in ambit.toml: [group.NAME] members = […].".to_owned(),
        given => format!(
            "{} votes in the stead of others: {}",
            untrusted(person),
            given.join(", ")
        ),
    }
}

/// A vote and its signed note.
struct Signed {
    vote: Vote,
    note: String,
    speaks: Speaks,
}

impl Signed {
    /// Has the host count it; returns its call, and what that still waits for.
    fn cast(&self, desk: &mut Desk<'_>, reason: Option<&str>) -> Result<(String, Option<Vec<Need>>), Failure> {
        let request = Request::Vote {
            note: self.note.clone(),
            reason: reason.map(str::to_owned),
        };
        match self.speaks.told(desk.act(&request))? {
            Answer::Voted { call, missing } => Ok((call, missing)),
            other => Err(unexpected(&other)),
        }
    }
}

/// What a person says with their key about one hold.
struct Voter<'a> {
    key: SignerKey,
    verdict: Verdict,
    group: Option<&'a str>,
    in_stead_of: Option<&'a str>,
    reason: Option<&'a str>,
    minutes: Option<u32>,
}

impl<'a> Voter<'a> {
    fn new(cast: &'a Cast, (verdict, minutes): (Verdict, Option<u32>)) -> Result<Voter<'a>, Failure> {
        Ok(Voter {
            key: approvals::read_person_key(&cast.key).map_err(unusable)?,
            verdict,
            group: cast.group.as_deref(),
            in_stead_of: cast.in_stead_of.as_deref(),
            reason: cast.reason.as_deref(),
            minutes,
        })
    }

    fn person(&self) -> &str {
        self.key.verifier().name()
    }

    /// The vote about one hold, and its signed note. It counts no longer than its hold, and than the delegation it is cast by.
    fn sign(&self, meant: &Meant, people: &People<'_>) -> Result<Signed, Failure> {
        let person = self.person();
        let seat = self.in_stead_of.unwrap_or(person);
        let speaks = group(self.group, meant, people, seat, person)?;
        let now = clock();
        let given = self
            .in_stead_of
            .and_then(|member| people.electorate().delegation(person, member, &speaks.group, now));
        let minutes = self
            .minutes
            .map(|minutes| now.saturating_add(u64::from(minutes) * 60_000));
        let ends = [Some(meant.expires_ms()), minutes, given.map(|given| given.until_ms)];
        let vote = Vote {
            person: person.to_owned(),
            hold: meant.hold(),
            verdict: self.verdict,
            group: speaks.group.clone(),
            expires_ms: ends.into_iter().flatten().min().unwrap_or_default(),
            in_stead_of: self.in_stead_of.map(str::to_owned),
        };
        let note = vote.sign(&self.key).map_err(|e| Failure::usage(e.to_string()))?;
        Ok(Signed { vote, note, speaks })
    }

    const fn said(&self) -> &'static str {
        match self.verdict {
            Verdict::Approve => "approved",
            Verdict::Reject => "rejected",
            Verdict::BreakGlass => "BREAK-GLASS",
        }
    }
}

fn vote(home: &Path, cast: &Cast, said: (Verdict, Option<u32>), out: Output) -> Result<Exit, Failure> {
    let voter = Voter::new(cast, said)?;
    match &cast.hold {
        Some(hold) => vote_one(home, hold, &voter, out),
        None => batch::vote(home, &cast.many, &voter, out),
    }
}

fn break_glass(home: &Path, hold: &str, key: &Path, reason: &str, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let Some(group) = config.break_glass() else {
        return Err(Failure::refused("nobody may break the glass in this home")
            .advise("The operator names the group that may, in ambit.toml: [approvals] break_glass = \"incident\""));
    };
    let voter = Voter {
        key: approvals::read_person_key(key).map_err(unusable)?,
        verdict: Verdict::BreakGlass,
        group: Some(group),
        in_stead_of: None,
        reason: Some(reason),
        minutes: None,
    };
    vote_one(home, hold, &voter, out)
}

fn vote_one(home: &Path, given: &str, voter: &Voter<'_>, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let reader = reader(home)?;
    let people = People::of(&reader, &config)?;
    let meant = Meant::of(&reader, &people, given)?;
    let signed = voter.sign(&meant, &people)?;
    drop((people, reader));
    let mut desk = Desk::new(home, [meant.tool()]);
    let (call, missing) = signed.cast(&mut desk, voter.reason)?;
    note(format!(
        "{} by {}: hold {}",
        voter.said(),
        untrusted(&voter_of(&signed.vote)),
        short(&signed.vote.hold)
    ));
    let said = said(&signed.vote, missing.as_deref());
    match missing {
        Some(missing) => {
            let now = Waiting::of(&self::reader(home)?, &config, &call)?;
            // Somebody else may have decided about it just now.
            let mut document = now.map_or_else(|| json!({ "call": call }), |now| documents::hold(&now.pending));
            if let Some(document) = document.as_object_mut() {
                document.extend(said);
            }
            out.result(&document, |w| writeln!(w, "still waits for {}", told(&missing)))?;
            Ok(Exit::Done)
        }
        None => after::vote(home, &mut desk, (&call, meant.tool()), &signed.vote, said, out),
    }
}

/// What was said, for programs: a member beside those of the call or the hold.
fn said(vote: &Vote, missing: Option<&[Need]>) -> Map<String, Value> {
    let standing = match (missing, vote.verdict) {
        (Some(_), _) => "waiting",
        (None, Verdict::Reject) => "rejected",
        (None, Verdict::Approve | Verdict::BreakGlass) => "approved",
    };
    let vote = json!({
        "hold": vote.hold,
        "verdict": vote.verdict,
        "person": vote.person,
        "group": vote.group,
        "in_stead_of": vote.in_stead_of,
        "standing": standing,
    });
    Map::from_iter([("vote".to_owned(), vote)])
}

/// Who voted, as a sentence has it: `rita for finance`.
fn voter_of(vote: &Vote) -> String {
    let instead = match &vote.in_stead_of {
        Some(member) => format!(", in the stead of {member}"),
        None => String::new(),
    };
    format!("{} for {}{instead}", vote.person, vote.group)
}

fn resume(home: &Path, given: &str, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let reader = reader(home)?;
    let people = People::of(&reader, &config)?;
    let hold = waiting(&reader, &people, given)?;
    drop((people, reader));
    let tool = hold.accepted.asked.tool.as_str();
    let answer = after::go_on(&mut Desk::new(home, [tool]), &hold.call)?;
    call::tell(home, &answer, tool, None, out)
}
