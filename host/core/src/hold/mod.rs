//! Holds: an effect that waits for people, and what becomes of it.
//!
//! An effect that policy denies, and that some approvals would permit, is held: nothing of it runs or waits, only rows are
//! kept. People of the groups that policy asks for sign a [`Vote`] about exactly this hold. What counts and what follows is
//! decided here, by [`Progress::cast`] and [`Progress::end`]: pure functions over what the ledger says, so that whoever reads
//! the ledger comes to the same.
//!
//! A hold ends once: with the intent that its approvals permitted, with a refusal, or with an [`Edit`], which puts another effect
//! and another hold in its place. That what was approved is still what
//! policy would permit is not decided here: at the end everything is decided anew, with the approvals as facts.

mod delegation;
mod edit;
pub mod fuzz;
mod said;
mod spoken;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Code, Refusal, printable};
use crate::guard;
use crate::ledger::{LedgerError, Principal, SignerKey, VerifierKey};

use said::{Lines, Said};

pub use delegation::{Delegation, Electorate, LONGEST_DELEGATION_MS};
pub use edit::{Changes, Edit, MOST_CHANGES};
pub use spoken::Spoken;

/// Approvals that policy asks for: at least so many people of each group.
pub type Need = BTreeMap<String, u32>;

/// The ways to an approval where each of `ways` takes `also` besides: of a group the larger number, as one person's approval is a fact
/// for whoever asks. Ways that ask for no less than another are left out.
#[must_use]
pub fn combined(ways: &[Need], also: &Need) -> Vec<Need> {
    let both = |way: &Need| {
        let mut both = way.clone();
        for (group, count) in also {
            let most = both.entry(group.clone()).or_default();
            *most = (*most).max(*count);
        }
        both
    };
    let mut all: Vec<Need> = ways.iter().map(both).collect();
    all.sort();
    all.dedup();
    let needed = |one: &&Need| !all.iter().any(|other| other != *one && asks_for_all_of(one, other));
    all.iter().filter(needed).cloned().collect()
}

/// The ways to an approval that are one of `ways` and also one of `before`: what an edited effect waits for is never less than what it
/// waited for as it was.
#[must_use]
pub fn combined_with_all(ways: &[Need], before: &[Need]) -> Vec<Need> {
    let all: Vec<Need> = before.iter().flat_map(|also| combined(ways, also)).collect();
    // With nothing more to ask for, what is left out is what asks for no less than another.
    combined(&all, &Need::new())
}

/// Whether each of `ways` asks for all that some of `before` asks for.
#[must_use]
pub fn asks_no_less(ways: &[Need], before: &[Need]) -> bool {
    ways.iter()
        .all(|way| before.iter().any(|before| asks_for_all_of(way, before)))
}

/// Whether a way asks for all that another asks for.
fn asks_for_all_of(one: &Need, other: &Need) -> bool {
    other
        .iter()
        .all(|(group, count)| one.get(group).is_some_and(|mine| mine >= count))
}

/// The first line of a vote: what is signed can be taken for nothing else.
const VOTE: &str = "ambit vote v1";

/// What a hold is bound to. Approvals are for this digest, and mean nothing for another.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// The call.
    pub call: &'a str,
    /// Which of its effects.
    pub ordinal: u32,
    /// The effect's digest.
    pub effect: &'a Digest,
    /// The tool's component.
    pub tool: &'a Digest,
    /// The connection's name.
    pub connection: &'a str,
    /// Who asked.
    pub principal: &'a Principal,
    /// The call's run, where it belongs to one.
    pub run: Option<&'a str>,
    /// The digest of the connection's settings that decide where the request goes and under which credential. Holds of earlier versions
    /// were bound to none.
    pub way: Option<&'a Digest>,
    /// The commitment to what the effect would change, as it was read; none where its route does not say how.
    pub before: Option<&'a Digest>,
}

impl Bound<'_> {
    /// The hold's id.
    #[must_use]
    pub fn id(&self) -> Digest {
        let Principal {
            agent,
            team,
            tenant,
            user,
        } = self.principal;
        // A user's name is never empty, nor is a run's id, so none is told apart.
        let user = user.as_deref().unwrap_or_default();
        let run = self.run.unwrap_or_default();
        let ordinal = self.ordinal.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![
            self.call.as_bytes(),
            &ordinal,
            self.effect.as_bytes(),
            self.tool.as_bytes(),
            self.connection.as_bytes(),
            agent.as_bytes(),
            team.as_bytes(),
            tenant.as_bytes(),
            user.as_bytes(),
            run.as_bytes(),
        ];
        // What not every hold has comes behind its name.
        if let Some(way) = self.way {
            parts.extend([b"way".as_slice(), way.as_bytes()]);
        }
        // The number of parts is part of the digest.
        parts.extend(self.before.map(|before| before.as_bytes().as_slice()));
        Digest::domain("ambit/hold/v1", &parts)
    }
}

/// Yes or no, or yes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may happen.
    Approve,
    /// It must not. One such vote ends the hold.
    Reject,
    /// It happens now, in place of the approvals that are missing: for the group that the operator keeps for that, and never
    /// without a reason.
    BreakGlass,
}

impl Verdict {
    /// The word that is signed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Approve => "approve",
            Verdict::Reject => "reject",
            Verdict::BreakGlass => "break-glass",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Verdict {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        match text {
            "approve" => Ok(Verdict::Approve),
            "reject" => Ok(Verdict::Reject),
            "break-glass" => Ok(Verdict::BreakGlass),
            _ => Err(malformed(
                Vote::KIND,
                "its verdict is none of `approve`, `reject` and `break-glass`",
            )),
        }
    }
}

/// What a person says about one hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The person, by the name of the key.
    pub person: String,
    /// The hold.
    pub hold: Digest,
    /// Yes or no.
    pub verdict: Verdict,
    /// The group that the person speaks for: a person counts once, in one group.
    pub group: String,
    /// From then on it no longer counts, in milliseconds since 1970.
    pub expires_ms: u64,
    /// The member of the group in whose stead the person votes, by a [`Delegation`]; none where it is the person's own vote.
    pub in_stead_of: Option<String>,
}

impl Vote {
    /// Whose vote it is: the member's, whoever cast it.
    #[must_use]
    pub fn seat(&self) -> &str {
        self.in_stead_of.as_deref().unwrap_or(&self.person)
    }

    /// Whether it is a yes that has not expired.
    fn counts(&self, now_ms: u64) -> bool {
        self.verdict != Verdict::Reject && self.expires_ms > now_ms
    }

    /// Signs it with the person's own key: a C2SP signed note.
    ///
    /// # Errors
    /// [`LedgerError::Key`] where the key is another person's.
    pub fn sign(&self, key: &SignerKey) -> Result<String, LedgerError> {
        said::sign(self, key)
    }

    /// Reads a signed vote. Nothing of it is believed before the person's key has verified it.
    ///
    /// # Errors
    /// [`LedgerError::Signature`] where `key` did not sign it; [`LedgerError::Note`] where it is no vote.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, LedgerError> {
        said::open(note, key)
    }

    /// Reads a vote as whoever wrote it would have it: for showing, and for a no, which counts whoever says it. Not for a yes.
    ///
    /// # Errors
    /// [`LedgerError::Note`] where it is no vote.
    pub fn claimed(note: &str) -> Result<Self, LedgerError> {
        said::claimed(note)
    }
}

impl Said for Vote {
    const KIND: &'static str = "vote";

    fn person(&self) -> &str {
        &self.person
    }

    /// Six lines, and one more for a vote in another's stead.
    fn text(&self) -> String {
        let mut text = format!(
            "{VOTE}\nhold {}\nverdict {}\nperson {}\ngroup {}\nexpires {}\n",
            self.hold, self.verdict, self.person, self.group, self.expires_ms
        );
        if let Some(member) = &self.in_stead_of {
            text.push_str(&format!("in-stead-of {member}\n"));
        }
        text
    }

    fn parse(text: &str) -> Result<Self, LedgerError> {
        let mut lines = Lines::after::<Self>(VOTE, text)?;
        let hold = lines.member("hold")?.parse();
        let mut vote = Self {
            hold: hold.map_err(|_| malformed(Self::KIND, "its hold is no digest"))?,
            verdict: lines.member("verdict")?.parse()?,
            person: lines.member("person")?.to_owned(),
            group: lines.member("group")?.to_owned(),
            expires_ms: lines.time("expires")?,
            in_stead_of: None,
        };
        if let Some(line) = lines.more() {
            let member = line.strip_prefix("in-stead-of ").filter(|member| !member.is_empty());
            let member = member.ok_or_else(|| malformed(Self::KIND, "a line of it is no vote's"))?;
            vote.in_stead_of = Some(member.to_owned());
        }
        Ok(vote)
    }
}

/// Whose key signed a note, by what its signature line says: to look up the key that verifies it.
#[must_use]
pub fn signer_name(note: &str) -> Option<&str> {
    let (name, _) = note
        .trim_end()
        .lines()
        .last()?
        .strip_prefix("\u{2014} ")?
        .split_once(' ')?;
    Some(name)
}

fn malformed(kind: &str, why: &str) -> LedgerError {
    LedgerError::Note(format!("as a {kind}: {why}"))
}

/// A hold as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its id: [`Bound::id`].
    pub id: Digest,
    /// Who asked for the effect.
    pub principal: Principal,
    /// Who edited it: it is theirs as much as the asker's.
    pub authors: Vec<String>,
    /// The smallest sets of approvals that would permit it: any of them.
    pub needs: Vec<Need>,
    /// From then on it is over, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl Hold {
    /// Whether any way to its approval asks for the group.
    pub(crate) fn asks_for(&self, group: &str) -> bool {
        self.needs.iter().any(|need| need.contains_key(group))
    }

    /// What a vote that breaks the glass stands for: the first of the sets that were shown.
    #[must_use]
    pub fn instead(&self) -> Option<&Need> {
        self.needs.first()
    }

    /// Whether the person is the one who asked, or for whom it is done.
    pub(crate) fn asked_by(&self, person: &str) -> bool {
        self.principal.user.as_deref() == Some(person) || self.principal.agent == person
    }

    /// Whether the effect is the person's own: they asked for it, or made it what it is.
    pub(crate) fn is_own(&self, person: &str) -> bool {
        self.asked_by(person) || !guard!("hold.author", !self.authors.iter().any(|author| author == person))
    }

    /// Why a person does not approve what is their own.
    fn not_theirs(&self, person: String) -> HoldError {
        if self.asked_by(&person) {
            HoldError::Own(person)
        } else {
            HoldError::Author(person)
        }
    }

    /// Whether there are people enough for some way to its approval, without those whose effect it is. A person says yes once, for one group,
    /// so whoever is in two of them fills one place.
    #[must_use]
    pub fn can_be_approved(&self, groups: &BTreeMap<String, Vec<String>>) -> bool {
        let members = |group: &String| {
            let members = groups.get(group).into_iter().flatten();
            members.filter(|member| !self.is_own(member)).collect::<BTreeSet<_>>()
        };
        let enough = |need: &Need| {
            let places = need.iter().map(|(group, count)| {
                let members = members(group);
                // More than there are is too many, however many more.
                let count = usize::try_from(*count).unwrap_or(usize::MAX).min(members.len() + 1);
                std::iter::repeat_n(members, count)
            });
            can_be_filled(&places.flatten().collect::<Vec<_>>())
        };
        self.needs.iter().any(enough)
    }
}

/// Whether every place can have a person of its own, of those who may fill it: a matching, by augmenting paths.
fn can_be_filled(places: &[BTreeSet<&String>]) -> bool {
    let mut filled: BTreeMap<&String, usize> = BTreeMap::new();
    (0..places.len()).all(|place| fill(places, place, &mut filled, &mut BTreeSet::new()))
}

/// Finds somebody for a place; who fills another one makes way where somebody else can fill that.
fn fill<'p>(
    places: &[BTreeSet<&'p String>],
    place: usize,
    filled: &mut BTreeMap<&'p String, usize>,
    tried: &mut BTreeSet<&'p String>,
) -> bool {
    for person in places.get(place).into_iter().flatten().copied() {
        if !tried.insert(person) {
            continue;
        }
        let free = match filled.get(person) {
            Some(other) => fill(places, *other, filled, tried),
            None => true,
        };
        if free {
            filled.insert(person, place);
            return true;
        }
    }
    false
}

/// Where a hold stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits: what is still missing, for each of the ways to its approval.
    Waiting(Vec<Need>),
    /// As many people said yes as policy asked for when it was held.
    Approved,
    /// A person said no.
    Rejected {
        /// Who.
        by: String,
    },
    /// Its time is over.
    Expired,
    /// It is over.
    Ended(End),
}

/// What became of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Its effect has an intent: its approvals are used up.
    Passed,
    /// A person said no.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// What it stood on is no longer so: its approvals are void.
    Stale,
    /// Decided anew, with its approvals, it was denied.
    Denied,
    /// A person edited its effect: another hold waits in its place.
    Edited,
}

impl End {
    /// The word, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Stale => "stale",
            Self::Denied => "denied",
            Self::Edited => "edited",
        }
    }
}

/// What has happened to a hold so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    votes: Vec<Vote>,
    ended: Option<End>,
}

/// What is found when a hold is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Everything it stood on is as it was, and policy permits it with these approvals.
    Permitted,
    /// Everything it stood on is as it was, and policy denies it all the same.
    Denied,
    /// Something it stood on is no longer so.
    Changed,
    /// A person who may edits its effect, and that is permitted, now or with approvals.
    Edited,
    /// An operator's stop is in the way, or something that passes: nothing is decided.
    Stopped,
}

/// Why a vote or an end does not happen. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// It is over.
    #[error("the hold is over")]
    Ended,
    /// Its call goes on: what it comes to decides whether anybody can still say anything.
    #[error("the hold's call goes on right now, by approvals that it had")]
    GoesOn,
    /// The component that its call would go on in is gone.
    #[error("{}", .0.message)]
    ToolRemoved(Box<Refusal>),
    /// A person has said no: nothing can be added.
    #[error("{by} has rejected the hold")]
    Rejected {
        /// Who.
        by: String,
    },
    /// Its time is over.
    #[error("the hold has expired")]
    Expired,
    /// The vote's time is over.
    #[error("the vote has expired")]
    VoteExpired,
    /// It is about another hold.
    #[error("the vote is about another hold")]
    Another,
    /// The person has voted.
    #[error("{0} has voted on this hold; a person counts once")]
    Twice(String),
    /// The member's approval has been given, by another.
    #[error("{seat}'s approval was given by {by}; a member counts once, whoever votes in their stead")]
    Seat {
        /// The member.
        seat: String,
        /// Who gave it.
        by: String,
    },
    /// The person asked for the effect, or it is done for them.
    #[error("{0} asked for the effect, or it is done for {0}: nobody approves their own request")]
    Own(String),
    /// The person edited the effect.
    #[error("{0} edited the effect: who edits it does not approve it")]
    Author(String),
    /// Nobody waits for that group.
    #[error("the hold waits for no approval of group `{0}`")]
    NotAsked(String),
    /// The person is not in the group.
    #[error("{person} is not in group `{group}`")]
    NotAMember {
        /// Who.
        person: String,
        /// The group.
        group: String,
    },
    /// Nobody gave the person their vote.
    #[error("{person} does not vote in the stead of {member} for group `{group}`: no delegation says so now")]
    NotDelegated {
        /// Who.
        person: String,
        /// In whose stead.
        member: String,
        /// The group.
        group: String,
    },
    /// An edit comes with other changes than its person signed.
    #[error("the edit is signed for other changes than it comes with")]
    OtherChanges,
    /// The edit's time is over.
    #[error("the edit has expired")]
    EditExpired,
    /// It would change nothing.
    #[error("the edit changes nothing: the fields are what it says already")]
    Unchanged,
    /// Nobody could approve what it makes.
    #[error(
        "too few would be left to approve it: who edited the effect, who asked for it and for whom it is done do not count"
    )]
    NobodyLeft,
    /// The effect that it makes is not permitted, whatever is approved.
    #[error("the edited effect is refused ({}), and the hold stays as it was: {}", .0.code, .0.message)]
    EditRefused(Box<Refusal>),
    /// The glass is not the group's to break.
    #[error("group `{0}` may not break the glass, and nobody does so in another's stead")]
    NoGlass(String),
    /// The glass was to be broken without a word.
    #[error("breaking the glass needs a reason")]
    NoReason,
    /// It waits for nothing: over, or never there.
    #[error("no effect waits under that hold: it is over, or its request is another one")]
    NoSuchHold,
    /// It has too few approvals.
    #[error("the hold waits for approvals")]
    Waiting,
    /// Something is in the way that passes.
    #[error("the hold stays as it is: a stop, or something that passes, is in the way")]
    Stopped,
    /// Nobody who is enrolled signed the vote.
    #[error("the vote is not signed by a person who is enrolled here")]
    Unsigned,
}

impl HoldError {
    /// The word that the ledger has for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::GoesOn => "goes-on",
            Self::ToolRemoved(_) => "tool-removed",
            Self::Rejected { .. } => "rejected",
            Self::Expired => "expired",
            Self::VoteExpired => "vote-expired",
            Self::Another => "another-hold",
            Self::Twice(_) => "twice",
            Self::Seat { .. } => "seat-twice",
            Self::NotDelegated { .. } => "not-delegated",
            Self::OtherChanges => "other-changes",
            Self::EditExpired => "edit-expired",
            Self::Unchanged => "unchanged",
            Self::EditRefused(_) => "edit-refused",
            Self::NobodyLeft => "nobody-left",
            Self::NoGlass(_) => "no-glass",
            Self::NoReason => "no-reason",
            Self::NoSuchHold => "no-such-hold",
            Self::Own(_) => "own-request",
            Self::Author(_) => "own-edit",
            Self::NotAsked(_) => "group-not-asked",
            Self::NotAMember { .. } => "not-a-member",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
            Self::Unsigned => "unsigned",
        }
    }
}

impl From<HoldError> for Refusal {
    fn from(error: HoldError) -> Refusal {
        let refusal = Refusal::new(Code::Approval, error.to_string());
        match error {
            HoldError::ToolRemoved(why) => *why,
            HoldError::EditRefused(why) => Refusal {
                advice: why.advice,
                rule: why.rule,
                ..refusal
            },
            HoldError::NobodyLeft => refusal
                .advise("reject it, and have the tool called for what it should be; or the groups need more members"),
            HoldError::GoesOn => {
                refusal.advise("say it again in a moment; ambit audit show CALL tells what became of it")
            }
            _ => refusal,
        }
    }
}

impl Progress {
    /// What the ledger says has happened.
    #[must_use]
    pub fn of(votes: Vec<Vote>, ended: Option<End>) -> Self {
        Self { votes, ended }
    }

    /// The votes, in the order in which they were cast.
    #[must_use]
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }

    /// The same without the votes that no longer count: their person left the group, or was revoked, or a delegation is over. A no
    /// stays.
    #[must_use]
    pub fn among(&self, electorate: &Electorate<'_>, now_ms: u64) -> Self {
        let stays = |vote: &&Vote| vote.verdict == Verdict::Reject || electorate.counts(vote, now_ms);
        Self {
            votes: self.votes.iter().filter(stays).cloned().collect(),
            ended: self.ended,
        }
    }

    /// Counts a vote. `electorate` is who may say something now.
    ///
    /// # Errors
    /// Why it does not count; nothing has changed.
    pub fn cast(&self, hold: &Hold, vote: Vote, now_ms: u64, electorate: &Electorate<'_>) -> Result<Self, HoldError> {
        match self.standing(hold, now_ms) {
            Standing::Ended(_) => return Err(HoldError::Ended),
            Standing::Rejected { by } => return Err(HoldError::Rejected { by }),
            Standing::Expired => return Err(HoldError::Expired),
            Standing::Waiting(_) | Standing::Approved => {}
        }
        if !guard!("hold.bound", vote.hold == hold.id) {
            return Err(HoldError::Another);
        }
        if !guard!("hold.vote-expiry", vote.expires_ms > now_ms) {
            return Err(HoldError::VoteExpired);
        }
        if !guard!("hold.own", !hold.is_own(&vote.person)) {
            return Err(hold.not_theirs(vote.person));
        }
        // Nobody gets their own request approved by handing their vote to somebody else.
        if !guard!("hold.own-seat", !hold.is_own(vote.seat())) {
            return Err(hold.not_theirs(vote.seat().to_owned()));
        }
        check_right(hold, &vote, now_ms, electorate)?;
        self.check_once(&vote, now_ms)?;
        let mut after = self.clone();
        after.votes.push(vote);
        Ok(after)
    }

    /// One person is one yes, and so is one member. A yes that no longer counts may be given again, and one's own yes be taken
    /// back by a no. To break the glass is no approval: whoever approved may do it too, once.
    fn check_once(&self, vote: &Vote, now_ms: u64) -> Result<(), HoldError> {
        let alike =
            |cast: &&Vote| cast.counts(now_ms) && vote.verdict != Verdict::Reject && cast.verdict == vote.verdict;
        let own = self.votes.iter().filter(alike).any(|cast| cast.person == vote.person);
        if !guard!("hold.once", !own) {
            return Err(HoldError::Twice(vote.person.clone()));
        }
        let taken = self.votes.iter().filter(alike).find(|cast| cast.seat() == vote.seat());
        if let Some(cast) = taken
            && !guard!("hold.one-seat", false)
        {
            return Err(HoldError::Seat {
                seat: vote.seat().to_owned(),
                by: cast.person.clone(),
            });
        }
        Ok(())
    }

    /// How many people of each group say yes now. Where the glass is broken, also all that one of the sets asks for.
    #[must_use]
    pub fn approvals(&self, hold: &Hold, now_ms: u64) -> BTreeMap<String, u32> {
        let mut given = self.given(now_ms);
        if self.broken_by(now_ms).is_some() {
            for (group, wanted) in hold.instead().into_iter().flatten() {
                let count = given.entry(group.clone()).or_default();
                *count = (*count).max(*wanted);
            }
        }
        given
    }

    /// How many people of each group say yes now, whoever broke the glass: what passes a budget's cap.
    #[must_use]
    pub fn given(&self, now_ms: u64) -> BTreeMap<String, u32> {
        let mut given: BTreeMap<String, u32> = BTreeMap::new();
        let (mut people, mut seats) = (BTreeSet::new(), BTreeSet::new());
        let counting = self.votes.iter().filter(|vote| vote.counts(now_ms));
        for vote in counting.filter(|vote| vote.verdict == Verdict::Approve) {
            // Whatever was voted while a group was another one: one person is one approval, in one group, and so is one member.
            let once = guard!("hold.one-group", people.insert(vote.person.as_str()))
                && guard!("hold.seat-counted", seats.insert(vote.seat()));
            if once {
                *given.entry(vote.group.clone()).or_default() += 1;
            }
        }
        given
    }

    /// Who broke the glass, if somebody did and it counts now.
    #[must_use]
    pub fn broken_by(&self, now_ms: u64) -> Option<&Vote> {
        let broken = |vote: &&Vote| vote.verdict == Verdict::BreakGlass && vote.counts(now_ms);
        self.votes.iter().find(broken)
    }

    /// Where the hold stands at a time.
    #[must_use]
    pub fn standing(&self, hold: &Hold, now_ms: u64) -> Standing {
        if let Some(end) = self.ended {
            return Standing::Ended(end);
        }
        // A no stands, whatever else happened since, its own expiry included.
        if let Some(no) = self.votes.iter().find(|vote| vote.verdict == Verdict::Reject) {
            return Standing::Rejected { by: no.person.clone() };
        }
        if !guard!("hold.expiry", hold.expires_ms > now_ms) {
            return Standing::Expired;
        }
        let given = self.approvals(hold, now_ms);
        let missing: Vec<Need> = hold.needs.iter().map(|need| still_missing(need, &given)).collect();
        if guard!("hold.quorum", missing.iter().any(BTreeMap::is_empty)) {
            Standing::Approved
        } else {
            Standing::Waiting(missing)
        }
    }

    /// Ends the hold, one way and once: by what was voted, and by what is found when all is decided anew. Every end of a hold is one that
    /// this came to: an operator's stop ends none, and uses up no approval.
    ///
    /// # Errors
    /// [`HoldError::Ended`] where it has ended, [`HoldError::Stopped`] under a stop, [`HoldError::Waiting`] where nothing is decided yet; of an edit
    /// [`HoldError::Rejected`] and [`HoldError::Expired`] where it comes too late.
    pub fn end(&self, hold: &Hold, now_ms: u64, found: Found) -> Result<(Self, End), HoldError> {
        let end = match (self.standing(hold, now_ms), found) {
            (Standing::Ended(_), _) => return Err(HoldError::Ended),
            (_, Found::Stopped) => return Err(HoldError::Stopped),
            (Standing::Rejected { by }, Found::Edited) => return Err(HoldError::Rejected { by }),
            (Standing::Expired, Found::Edited) => return Err(HoldError::Expired),
            (_, Found::Edited) => End::Edited,
            (Standing::Rejected { .. }, _) => End::Rejected,
            (Standing::Expired, _) => End::Expired,
            (_, Found::Changed) => End::Stale,
            (Standing::Waiting(_), _) => return Err(HoldError::Waiting),
            (Standing::Approved, Found::Permitted) => End::Passed,
            (Standing::Approved, Found::Denied) => End::Denied,
        };
        let after = Self {
            votes: self.votes.clone(),
            ended: Some(end),
        };
        Ok((after, end))
    }
}

/// Whether who signed may say that for whom they say it.
fn check_right(hold: &Hold, vote: &Vote, now_ms: u64, electorate: &Electorate<'_>) -> Result<(), HoldError> {
    let group = &vote.group;
    if vote.verdict == Verdict::BreakGlass {
        let may = electorate.breaks_glass(group) && vote.in_stead_of.is_none();
        if !guard!("hold.glass-group", may) {
            return Err(HoldError::NoGlass(printable(group)));
        }
    }
    if !guard!("hold.member", electorate.is_member(vote.seat(), group)) {
        return Err(HoldError::NotAMember {
            person: vote.seat().to_owned(),
            group: printable(group),
        });
    }
    if let Some(member) = &vote.in_stead_of {
        let given = electorate.delegation(&vote.person, member, group, now_ms);
        if !guard!("hold.delegated", given.is_some()) {
            return Err(HoldError::NotDelegated {
                person: vote.person.clone(),
                member: printable(member),
                group: printable(group),
            });
        }
    }
    let asked = vote.verdict == Verdict::BreakGlass || hold.asks_for(group);
    if !guard!("hold.asked", asked) {
        return Err(HoldError::NotAsked(printable(group)));
    }
    Ok(())
}

/// What a need lacks of what is given.
fn still_missing(need: &Need, given: &BTreeMap<String, u32>) -> Need {
    need.iter()
        .filter_map(|(group, wanted)| {
            let missing = wanted.saturating_sub(given.get(group).copied().unwrap_or_default());
            (missing > 0).then(|| (group.clone(), missing))
        })
        .collect()
}

#[cfg(test)]
mod tests;
