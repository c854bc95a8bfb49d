//! What people said over time, as a ledger has it: whether a vote that was cast still counted when something was decided by it.
//!
//! Who was in which group then no entry says: that is the configuration's, of then.

use std::collections::BTreeMap;

use super::{Delegation, Verdict, Vote};
use crate::guard;

/// The statements of people on one ledger, each with the index of its entry. Filled in the ledger's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    ledger: String,
    /// By person: where they lost their keys.
    revoked: BTreeMap<String, Vec<u64>>,
    given: Vec<(u64, Delegation)>,
}

impl Spoken {
    /// Of the ledger of this name: what was said for another one says nothing here.
    #[must_use]
    pub fn of(ledger: &str) -> Self {
        Self {
            ledger: ledger.to_owned(),
            ..Self::default()
        }
    }

    /// The entry at `index` takes a person's key.
    pub fn revoke(&mut self, person: &str, index: u64) {
        self.revoked.entry(person.to_owned()).or_default().push(index);
    }

    /// The entry at `index` has a delegation, signed: whoever wrote it checked that. What is none is nobody's.
    pub fn delegate(&mut self, note: &str, index: u64) {
        if let Ok(said) = Delegation::claimed(note) {
            self.given.push((index, said));
        }
    }

    /// Whether a vote of the entry at `cast` still counted for the entry at `index`, written at `time_ms` (milliseconds since 1970), as far as
    /// entries say: its person had the key, and, where it is in another's stead, that one's vote. A no stands. Its own expiry is asked
    /// with the votes.
    #[must_use]
    pub fn counts(&self, vote: &Vote, cast: u64, index: u64, time_ms: u64) -> bool {
        let lost = |person: &str, from: u64| {
            let lost = self.revoked.get(person).into_iter().flatten();
            lost.into_iter().any(|at| (from..index).contains(at))
        };
        let given = vote.in_stead_of.as_deref().is_none_or(|member| {
            let last = self.last(member, vote, index);
            let in_force = last.is_some_and(|(said, given)| {
                given.until_ms > time_ms && !lost(member, said) && !lost(&vote.person, said)
            });
            guard!("whatif.delegated", in_force)
        });
        vote.verdict == Verdict::Reject || (given && !lost(&vote.person, cast))
    }

    /// What a member last said, before the entry at `index`, about who votes in their stead.
    fn last(&self, member: &str, vote: &Vote, index: u64) -> Option<(u64, &Delegation)> {
        let about = (member, vote.person.as_str(), vote.group.as_str());
        let same = |given: &Delegation| {
            given.ledger == self.ledger
                && (given.person.as_str(), given.delegate.as_str(), given.group.as_str()) == about
        };
        let mut before = self.given.iter().filter(|(at, given)| *at < index && same(given));
        before.next_back().map(|(at, given)| (*at, given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::ledger::SignerKey;

    fn given(until_ms: u64) -> String {
        let said = Delegation {
            ledger: "here".to_owned(),
            person: "rita".to_owned(),
            delegate: "eve".to_owned(),
            group: "reviewer".to_owned(),
            made_ms: 1,
            until_ms,
        };
        said.sign(&SignerKey::from_seed("rita", &[1; 32]).unwrap()).unwrap()
    }

    fn vote(in_stead_of: Option<&str>, verdict: Verdict) -> Vote {
        Vote {
            person: "eve".to_owned(),
            hold: Digest::of(b"hold"),
            verdict,
            group: "reviewer".to_owned(),
            expires_ms: 1_000,
            in_stead_of: in_stead_of.map(str::to_owned),
        }
    }

    #[test]
    fn a_vote_in_anothers_stead_counts_while_that_one_gives_it() {
        let mut people = Spoken::of("here");
        people.delegate(&given(100), 10);
        let stead = vote(Some("rita"), Verdict::Approve);
        // Cast by the entry at 11.
        assert!(people.counts(&stead, 11, 20, 99));
        assert!(!people.counts(&stead, 11, 20, 100), "its time is over");
        assert!(!people.counts(&stead, 11, 10, 99), "it was not said yet");
        assert!(
            people.counts(&vote(None, Verdict::Approve), 11, 20, 100),
            "one's own vote is one's own"
        );
        assert!(
            people.counts(&vote(Some("rita"), Verdict::Reject), 11, 20, 100),
            "a no stands"
        );
        assert!(
            !people.counts(&vote(Some("sam"), Verdict::Approve), 11, 20, 99),
            "sam gave none"
        );
        let mut elsewhere = Spoken::of("elsewhere");
        elsewhere.delegate(&given(100), 10);
        assert!(!elsewhere.counts(&stead, 11, 20, 99));
        let mut back = people.clone();
        back.delegate(&given(1), 15);
        assert!(back.counts(&stead, 11, 15, 99), "taken back afterwards");
        assert!(!back.counts(&stead, 11, 16, 99));
        for person in ["rita", "eve"] {
            let mut gone = people.clone();
            gone.revoke(person, 15);
            assert!(gone.counts(&stead, 11, 15, 99), "{person}");
            assert!(!gone.counts(&stead, 11, 16, 99), "{person}");
        }
        let mut before = Spoken::of("here");
        before.revoke("eve", 5);
        before.delegate(&given(100), 10);
        assert!(
            before.counts(&stead, 11, 20, 99),
            "what was lost before says nothing of what was said since"
        );
    }
}
