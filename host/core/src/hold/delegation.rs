//! Who counts: members of groups, those who vote in a member's stead, and those who may break the glass.
//!
//! A member gives their vote to another person with a [`Delegation`], which they sign. It is one statement about one person and
//! one group, and the newest one holds: taking a vote back is a statement whose time is over. It is the member's own vote that
//! is given, so it cannot be given on, and it counts as one, by whoever of the two it is cast.

use std::collections::BTreeMap;

use super::said::{self, Lines, Said};
use super::{Verdict, Vote};
use crate::guard;
use crate::ledger::{LedgerError, SignerKey, VerifierKey};

/// The first line of a delegation: what is signed can be taken for nothing else.
const DELEGATION: &str = "ambit delegation v1";
/// The longest time that a vote is given for, in milliseconds: 90 days.
pub const LONGEST_DELEGATION_MS: u64 = 90 * 24 * 3_600_000;

/// What a member of a group says: who votes in their stead, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The ledger's name. A statement made for one home says nothing in another.
    pub ledger: String,
    /// The member who gives their vote.
    pub person: String,
    /// Who votes in their stead.
    pub delegate: String,
    /// The group.
    pub group: String,
    /// When it was said, in milliseconds since 1970: of two statements the later one holds.
    pub made_ms: u64,
    /// From then on it no longer counts, in milliseconds since 1970. Not after `made_ms` where the vote is taken back.
    pub until_ms: u64,
}

impl Delegation {
    /// Whether it gives a vote for a time, and not for longer than can be given.
    #[must_use]
    pub const fn is_for_a_time(&self) -> bool {
        self.until_ms.saturating_sub(self.made_ms) <= LONGEST_DELEGATION_MS
    }

    /// Whether it takes back what was given.
    #[must_use]
    pub const fn takes_back(&self) -> bool {
        self.until_ms <= self.made_ms
    }

    /// Signs it with the member's own key: a C2SP signed note.
    ///
    /// # Errors
    /// [`LedgerError::Key`] where the key is another person's.
    pub fn sign(&self, key: &SignerKey) -> Result<String, LedgerError> {
        said::sign(self, key)
    }

    /// Reads a signed delegation. Nothing of it is believed before the member's key has verified it.
    ///
    /// # Errors
    /// [`LedgerError::Signature`] where `key` did not sign it; [`LedgerError::Note`] where it is no delegation.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, LedgerError> {
        said::open(note, key)
    }

    /// Reads a delegation as whoever wrote it would have it: for showing, and to find the key that verifies it.
    ///
    /// # Errors
    /// [`LedgerError::Note`] where it is no delegation.
    pub fn claimed(note: &str) -> Result<Self, LedgerError> {
        said::claimed(note)
    }
}

impl Said for Delegation {
    const KIND: &'static str = "delegation";

    fn person(&self) -> &str {
        &self.person
    }

    /// Seven lines.
    fn text(&self) -> String {
        format!(
            "{DELEGATION}\nledger {}\nperson {}\ndelegate {}\ngroup {}\nmade {}\nuntil {}\n",
            self.ledger, self.person, self.delegate, self.group, self.made_ms, self.until_ms
        )
    }

    fn parse(text: &str) -> Result<Self, LedgerError> {
        let mut lines = Lines::after::<Self>(DELEGATION, text)?;
        Ok(Self {
            ledger: lines.member("ledger")?.to_owned(),
            person: lines.member("person")?.to_owned(),
            delegate: lines.member("delegate")?.to_owned(),
            group: lines.member("group")?.to_owned(),
            made_ms: lines.time("made")?,
            until_ms: lines.time("until")?,
        })
    }
}

/// Who may say something, by the configuration in force and by what members said on the ledger.
#[derive(Clone, Debug, Default)]
pub struct Electorate<'a> {
    /// The groups and their members.
    pub groups: Option<&'a BTreeMap<String, Vec<String>>>,
    /// The newest statement of each member about each delegate and group, of people who are enrolled.
    pub delegations: Vec<Delegation>,
    /// The group whose members may let an effect pass alone, where the operator named one.
    pub break_glass: Option<&'a str>,
}

impl Electorate<'_> {
    /// Whether a person is in a group.
    #[must_use]
    pub fn is_member(&self, person: &str, group: &str) -> bool {
        let members = self.groups.and_then(|groups| groups.get(group));
        members.is_some_and(|members| members.iter().any(|member| member == person))
    }

    /// Whether members of a group may break the glass.
    #[must_use]
    pub fn breaks_glass(&self, group: &str) -> bool {
        self.break_glass == Some(group)
    }

    /// The delegation by which `delegate` votes in the stead of `person`, if there is one now. That `person` is in the group is
    /// asked apart.
    #[must_use]
    pub fn delegation(&self, delegate: &str, person: &str, group: &str, now_ms: u64) -> Option<&Delegation> {
        self.delegations.iter().find(|given| {
            (given.delegate.as_str(), given.person.as_str(), given.group.as_str()) == (delegate, person, group)
                && guard!("hold.delegation-expiry", given.until_ms > now_ms)
        })
    }

    /// Whether a yes that was cast counts today: its seat is in the group still, and who cast it may still vote for it. A no is not
    /// asked: it stands, whatever became of its person.
    #[must_use]
    pub fn counts(&self, vote: &Vote, now_ms: u64) -> bool {
        let delegated = vote.in_stead_of.as_deref().is_none_or(|member| {
            let given = self.delegation(&vote.person, member, &vote.group, now_ms);
            guard!("hold.delegated-still", given.is_some())
        });
        let glass = vote.verdict != Verdict::BreakGlass
            || guard!(
                "hold.glass-still",
                self.breaks_glass(&vote.group) && vote.in_stead_of.is_none()
            );
        guard!("hold.member-still", self.is_member(vote.seat(), &vote.group)) && delegated && glass
    }
}
