//! Holds: an effect that waits for people, and what becomes of it.
//!
//! An effect that policy denies, and that some approvals would permit, is held: nothing of it runs or waits, only rows are
//! kept. People of the groups that policy asks for sign a [`Vote`] about exactly this hold. What counts and what follows is
//! decided here, by [`Progress::cast`] and [`Progress::end`]: pure functions over what the ledger says, so that whoever reads
//! the ledger comes to the same.
//!
//! A hold ends once: with the intent that its approvals permitted, or with a refusal. That what was approved is still what
//! policy would permit is not decided here: at the end everything is decided anew, with the approvals as facts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Code, Refusal, printable};
use crate::guard;
use crate::ledger::{LedgerError, Principal, SignerKey, VerifierKey};

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
    let asks_for_all_of = |one: &Need, other: &Need| {
        let mut other = other.iter();
        other.all(|(group, count)| one.get(group).is_some_and(|mine| mine >= count))
    };
    let needed = |one: &&Need| !all.iter().any(|other| other != *one && asks_for_all_of(one, other));
    all.iter().filter(needed).cloned().collect()
}

/// The first line of a vote: what is signed can be taken for nothing else.
const VOTE: &str = "ambit vote v1";
/// The longest vote that is read, in bytes.
const LONGEST_VOTE: usize = 4096;

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
        Digest::domain(
            "ambit/hold/v1",
            &[
                self.call.as_bytes(),
                &self.ordinal.to_be_bytes(),
                self.effect.as_bytes(),
                self.tool.as_bytes(),
                self.connection.as_bytes(),
                agent.as_bytes(),
                team.as_bytes(),
                tenant.as_bytes(),
                user.as_bytes(),
                run.as_bytes(),
            ],
        )
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may happen.
    Approve,
    /// It must not. One such vote ends the hold.
    Reject,
}

impl Verdict {
    /// The word that is signed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Approve => "approve",
            Verdict::Reject => "reject",
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
            _ => Err(malformed("its verdict is neither `approve` nor `reject`")),
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
}

impl Vote {
    /// Whether it is a yes that has not expired.
    fn counts(&self, now_ms: u64) -> bool {
        self.verdict == Verdict::Approve && self.expires_ms > now_ms
    }

    /// The text that is signed: six lines. The person is one of them, as a signature's line is not signed.
    fn text(&self) -> String {
        format!(
            "{VOTE}\nhold {}\nverdict {}\nperson {}\ngroup {}\nexpires {}\n",
            self.hold, self.verdict, self.person, self.group, self.expires_ms
        )
    }

    /// Signs it with the person's own key: a C2SP signed note.
    ///
    /// # Errors
    /// [`LedgerError::Key`] where the key is another person's.
    pub fn sign(&self, key: &SignerKey) -> Result<String, LedgerError> {
        if key.verifier().name() != self.person {
            return Err(LedgerError::Key("it is another person's".to_owned()));
        }
        Ok(key.sign(&self.text()))
    }

    /// Reads a signed vote. Nothing of it is believed before the person's key has verified it.
    ///
    /// # Errors
    /// [`LedgerError::Signature`] where `key` did not sign it; [`LedgerError::Note`] where it is no vote.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, LedgerError> {
        if note.len() > LONGEST_VOTE {
            return Err(malformed("it is too long"));
        }
        let text = key.open(note)?;
        let vote = Self::parse(text)?;
        if !guard!("hold.signer", vote.person == key.name()) {
            return Err(malformed("it names another person than its key"));
        }
        // One spelling: what was signed is what printing it gives again.
        if vote.text() != text {
            return Err(malformed("it is not written as a vote is"));
        }
        Ok(vote)
    }

    /// Reads a vote as whoever wrote it would have it: for showing, and for a no, which counts whoever says it. Not for a yes.
    ///
    /// # Errors
    /// [`LedgerError::Note`] where it is no vote.
    pub fn claimed(note: &str) -> Result<Self, LedgerError> {
        let (text, _) = note.split_once("\n\n").ok_or_else(|| malformed("it is cut"))?;
        Self::parse(text)
    }

    fn parse(text: &str) -> Result<Self, LedgerError> {
        let mut lines = text.lines();
        if lines.next() != Some(VOTE) {
            return Err(malformed("it does not begin as a vote does"));
        }
        let mut member = |name: &str| {
            let line = lines.next().unwrap_or_default();
            let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
            value.ok_or_else(|| malformed("a line of it is missing"))
        };
        Ok(Self {
            hold: member("hold")?
                .parse()
                .map_err(|_| malformed("its hold is no digest"))?,
            verdict: member("verdict")?.parse()?,
            person: member("person")?.to_owned(),
            group: member("group")?.to_owned(),
            expires_ms: member("expires")?
                .parse()
                .map_err(|_| malformed("its expiry is no time"))?,
        })
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

fn malformed(why: &str) -> LedgerError {
    LedgerError::Note(format!("as a vote: {why}"))
}

/// A hold as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its id: [`Bound::id`].
    pub id: Digest,
    /// Who asked for the effect.
    pub principal: Principal,
    /// The smallest sets of approvals that would permit it: any of them.
    pub needs: Vec<Need>,
    /// From then on it is over, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl Hold {
    /// Whether any way to its approval asks for the group.
    fn asks_for(&self, group: &str) -> bool {
        self.needs.iter().any(|need| need.contains_key(group))
    }

    /// Whether the person is the one who asked, or for whom it is done.
    fn is_own(&self, person: &str) -> bool {
        self.principal.user.as_deref() == Some(person) || self.principal.agent == person
    }
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
    /// An operator stopped it.
    Killed,
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
    /// An operator stops it.
    Killed,
}

/// Why a vote or an end does not happen. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// It is over.
    #[error("the hold is over")]
    Ended,
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
    /// The person asked for the effect, or it is done for them.
    #[error("{0} asked for the effect, or it is done for {0}: nobody approves their own request")]
    Own(String),
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
    /// It has too few approvals.
    #[error("the hold waits for approvals")]
    Waiting,
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
            Self::Rejected { .. } => "rejected",
            Self::Expired => "expired",
            Self::VoteExpired => "vote-expired",
            Self::Another => "another-hold",
            Self::Twice(_) => "twice",
            Self::Own(_) => "own-request",
            Self::NotAsked(_) => "group-not-asked",
            Self::NotAMember { .. } => "not-a-member",
            Self::Waiting => "waiting",
            Self::Unsigned => "unsigned",
        }
    }
}

impl From<HoldError> for Refusal {
    fn from(error: HoldError) -> Refusal {
        Refusal::new(Code::Approval, error.to_string())
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

    /// Counts a vote. `members` says whether a person is in a group, by the configuration in force.
    ///
    /// # Errors
    /// Why it does not count; nothing has changed.
    pub fn cast(
        &self,
        hold: &Hold,
        vote: Vote,
        now_ms: u64,
        members: impl Fn(&str, &str) -> bool,
    ) -> Result<Self, HoldError> {
        match self.standing(hold, now_ms) {
            Standing::Ended(_) => return Err(HoldError::Ended),
            Standing::Rejected { by } => return Err(HoldError::Rejected { by }),
            Standing::Expired => return Err(HoldError::Expired),
            Standing::Waiting(_) | Standing::Approved => {}
        }
        let (person, group) = (&vote.person, &vote.group);
        if !guard!("hold.bound", vote.hold == hold.id) {
            return Err(HoldError::Another);
        }
        if !guard!("hold.vote-expiry", vote.expires_ms > now_ms) {
            return Err(HoldError::VoteExpired);
        }
        if !guard!("hold.own", !hold.is_own(person)) {
            return Err(HoldError::Own(person.clone()));
        }
        if !guard!("hold.member", members(person, group)) {
            return Err(HoldError::NotAMember {
                person: person.clone(),
                group: printable(group),
            });
        }
        if !guard!("hold.asked", hold.asks_for(group)) {
            return Err(HoldError::NotAsked(printable(group)));
        }
        // A yes that no longer counts may be given again, and one's own yes be taken back by a no.
        let stands = |cast: &Vote| cast.counts(now_ms) && vote.verdict == Verdict::Approve && cast.person == *person;
        if !guard!("hold.once", !self.votes.iter().any(stands)) {
            return Err(HoldError::Twice(person.clone()));
        }
        let mut after = self.clone();
        after.votes.push(vote);
        Ok(after)
    }

    /// How many people of each group say yes now.
    #[must_use]
    pub fn approvals(&self, now_ms: u64) -> BTreeMap<String, u32> {
        let mut given = BTreeMap::new();
        let mut people = BTreeSet::new();
        for vote in self.votes.iter().filter(|vote| vote.counts(now_ms)) {
            // Whatever was voted while a group was another one: one person is one approval, in one group.
            if guard!("hold.one-group", people.insert(vote.person.as_str())) {
                *given.entry(vote.group.clone()).or_default() += 1;
            }
        }
        given
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
        let given = self.approvals(now_ms);
        let missing: Vec<Need> = hold.needs.iter().map(|need| still_missing(need, &given)).collect();
        if guard!("hold.quorum", missing.iter().any(BTreeMap::is_empty)) {
            Standing::Approved
        } else {
            Standing::Waiting(missing)
        }
    }

    /// Ends the hold, one way and once: by what was voted, and by what is found when all is decided anew.
    ///
    /// # Errors
    /// [`HoldError::Ended`] where it has ended, [`HoldError::Waiting`] where nothing is decided yet.
    pub fn end(&self, hold: &Hold, now_ms: u64, found: Found) -> Result<(Self, End), HoldError> {
        let end = match (self.standing(hold, now_ms), found) {
            (Standing::Ended(_), _) => return Err(HoldError::Ended),
            (_, Found::Killed) => End::Killed,
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
