//! The questions that policy was asked about a recorded call, with what it said then.

use ambit_core::digest::Digest;
use ambit_core::error::Code;
use ambit_core::grant::Limits;
use ambit_core::hold::{Need, Spoken};
use ambit_core::ledger::body::{
    Amount, CallAccepted, CallDenied, Cause, EffectHeld, EffectIntent, EffectRefused, Stage, Undoes,
};
use ambit_core::ledger::story::{EffectStory, HoldStory, Opening};
use ambit_core::ledger::{CallStory, Stamp};
use ambit_core::policy::Mode;
use ambit_core::scope::Tier;

use super::{Place, Verdict, Word};
use crate::transcript;

/// One question.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) about: About,
    pub(super) tool: String,
    pub(super) function: String,
    /// None where the entry does not say it.
    pub(super) mode: Option<Mode>,
    /// The approvals that counted.
    pub(super) approvals: Need,
    /// Whether it could be held, had approvals been what it lacks.
    pub(super) may_wait: bool,
    /// What policy said.
    pub(super) then: Verdict,
}

#[derive(Debug, Clone)]
pub(super) enum About {
    Call,
    Effect(EffectOf),
}

/// An effect as far as its entries say it.
#[derive(Debug, Clone)]
pub(super) struct EffectOf {
    pub(super) ordinal: u32,
    pub(super) connection: String,
    pub(super) route: String,
    pub(super) tier: Tier,
    pub(super) spend: Option<Amount>,
    /// Commitment to what the guest asked for.
    pub(super) asked: Option<Digest>,
    /// What people changed of that: the name of the value that says it, and the commitment to it.
    pub(super) edit: Option<(String, Digest)>,
}

impl Item {
    pub(super) fn place(&self, story: &CallStory) -> Place {
        let (effect, what) = match &self.about {
            About::Call => (None, format!("call {}/{}", self.tool, self.function)),
            About::Effect(effect) => (
                Some(effect.ordinal),
                format!("{} {}/{}", effect.tier, effect.connection, effect.route),
            ),
        };
        Place {
            call: story.call.clone(),
            effect,
            what,
        }
    }
}

/// All questions about one call.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) items: Vec<Item>,
    /// What something else than policy decided: another refusal, a budget, an edit, or the host itself.
    pub(super) apart: u64,
    /// Effects that a dry run stopped before policy was asked: what they would have asked, for whoever learns.
    pub(super) dry: Vec<Item>,
}

/// What policy was asked about a call. `people` is what was said by those who vote.
pub(super) fn of(story: &CallStory, people: &Spoken) -> Items {
    let mut found = Items::default();
    let approvals = |hold: Option<&HoldStory>, at: Stamp| {
        let given = hold.zip(story.principal.clone());
        given.map_or_else(Need::new, |(hold, principal)| hold.approvals_at(principal, people, at))
    };
    let call = match &story.opening.what {
        Opening::Accepted(accepted) => accepted_item(accepted),
        Opening::Denied(denied) => match denied_item(denied) {
            Some(item) => item,
            None => {
                found.apart += 1;
                return found;
            }
        },
    };
    for (ordinal, effect) in &story.effects {
        let hold = story.holds.get(ordinal);
        // As the guest asked for it. What an edit put in its place waits for no less, whatever policy asks for that.
        let asked = hold.map(|hold| hold.edits.first().map_or(&hold.held.what, |edit| &edit.held.what));
        match asked {
            // Its budgets held it, not policy alone.
            Some(held) if !held.over.is_empty() => found.apart += 1,
            Some(held) => found.items.push(held_item(&call, held)),
            None => {}
        }
        found.apart += hold.map_or(0, |hold| hold.edits.len() as u64);
        let edit = hold.and_then(HoldStory::last_edit);
        let edit = edit.map(|edit| (edit.changes_name(), edit.changes));
        match effect {
            EffectStory::Held(_) => {}
            EffectStory::Intended { intent, .. } if intent.what.cause != Cause::Host => {
                let approvals = approvals(hold, intent.stamp);
                found
                    .items
                    .push(edited(intended_item(&call, &intent.what, approvals), edit));
            }
            EffectStory::Intended { .. } => found.apart += 1,
            EffectStory::Refused(refused) => match refused_item(&call, &refused.what).map(|item| edited(item, edit)) {
                Some(item) if by_policy(&refused.what) => found.items.push(Item {
                    approvals: approvals(hold, refused.stamp),
                    ..item
                }),
                item => {
                    found.apart += 1;
                    found.dry.extend(item.filter(|item| in_dry_run(item, &refused.what)));
                }
            },
        }
    }
    found.items.insert(0, call);
    found
}

/// An effect as people made it.
fn edited(mut item: Item, edit: Option<(String, Digest)>) -> Item {
    if let About::Effect(effect) = &mut item.about {
        effect.edit = edit;
    }
    item
}

/// The limits that a call ran under; none where it did not run, or with limits that are not known here.
pub(super) fn limits(story: &CallStory) -> Option<Limits> {
    match &story.opening.what {
        Opening::Accepted(accepted) => transcript::limits(&accepted.asked).ok(),
        Opening::Denied(_) => None,
    }
}

fn accepted_item(accepted: &CallAccepted) -> Item {
    let asked = &accepted.asked;
    Item {
        about: About::Call,
        tool: asked.tool.clone(),
        function: asked.function.clone(),
        mode: Some(asked.mode),
        approvals: Need::new(),
        may_wait: false,
        then: said(Word::Permitted, &accepted.rules, &[]),
    }
}

/// None where it was not policy that denied.
fn denied_item(denied: &CallDenied) -> Option<Item> {
    if denied.stage != Stage::Policy {
        return None;
    }
    Some(Item {
        about: About::Call,
        tool: denied.tool.clone()?,
        function: denied.function.clone()?,
        mode: denied.mode,
        approvals: Need::new(),
        may_wait: false,
        then: said(Word::Denied, &denied.rules, &[]),
    })
}

/// An effect when it was first asked for, before anybody had approved it.
fn held_item(call: &Item, held: &EffectHeld) -> Item {
    Item {
        about: About::Effect(EffectOf {
            ordinal: held.ordinal,
            connection: held.connection.clone(),
            route: held.route.clone(),
            tier: held.tier,
            spend: held.spend,
            asked: held.asked,
            edit: None,
        }),
        may_wait: true,
        then: said(Word::Held, &held.rules, &held.needs),
        ..call.clone()
    }
}

fn intended_item(call: &Item, intent: &EffectIntent, approvals: Need) -> Item {
    Item {
        about: About::Effect(EffectOf {
            ordinal: intent.ordinal,
            connection: intent.connection.clone(),
            route: intent.route.clone(),
            tier: intent.tier,
            spend: intent.spend,
            asked: intent.asked,
            edit: None,
        }),
        approvals,
        may_wait: intent.hold.is_none() && can_wait(intent.cause, intent.undoes.as_ref()),
        then: said(Word::Permitted, &intent.rules, &[]),
        ..call.clone()
    }
}

/// None where it did not come as far as a route, or is the host's own.
fn refused_item(call: &Item, refused: &EffectRefused) -> Option<Item> {
    if refused.cause == Cause::Host {
        return None;
    }
    Some(Item {
        about: About::Effect(EffectOf {
            ordinal: refused.ordinal,
            connection: refused.connection.clone()?,
            route: refused.route.clone()?,
            tier: refused.tier?,
            spend: refused.spend,
            asked: refused.asked,
            edit: None,
        }),
        may_wait: refused.hold.is_none() && can_wait(refused.cause, refused.undoes.as_ref()),
        then: said(Word::Denied, &refused.rules, &[]),
        ..call.clone()
    })
}

/// Whether such an effect can wait for people: the guest's own, and what takes one back. A dead letter's retry cannot.
fn can_wait(cause: Cause, undoes: Option<&Undoes>) -> bool {
    cause == Cause::Guest || undoes.is_some()
}

/// Whether policy refused it. Where a budget had no room and policy was asked once more, the budget would have refused it all the same.
fn by_policy(refused: &EffectRefused) -> bool {
    matches!(refused.refused.code, Code::Policy | Code::PolicyError) && refused.exhausted.is_empty()
}

/// Whether it was refused because a dry run changes nothing. A refusal of another tier than the function's names no route.
fn in_dry_run(item: &Item, refused: &EffectRefused) -> bool {
    matches!(refused.refused.code, Code::Tier | Code::DryRun) && item.mode == Some(Mode::DryRun)
}

fn said(word: Word, rules: &[String], needs: &[Need]) -> Verdict {
    Verdict {
        word,
        rules: rules.to_vec(),
        needs: needs.to_vec(),
    }
}
