//! The least policy that would have permitted what recorded calls asked for: a proposal, for a person to read.
//!
//! Rules are by team, tool and function or route, with the most money that was asked for; no value of a request is in them. What was denied,
//! held, or stopped by a dry run counts as asked for. Before a proposal is given out it is loaded and asked: under it everything it was
//! learned from would have been permitted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::Amount;
use ambit_core::money::{Currency, Spend};
use ambit_core::policy::{PolicySet, proposed_id};
use ambit_core::scope::Tier;
use serde::Serialize;

use super::items::{self, About, EffectOf, Item};
use super::{Memo, Place, Undecided, Verdict, WhatIf, Word};
use crate::host::OpenError;
use crate::store::StoreError;

/// What was learned.
#[derive(Debug, Clone, Serialize)]
pub struct Learned {
    /// The proposal: Cedar text, in force nowhere.
    pub text: String,
    /// What its rules are made of, in their order.
    pub rules: Vec<Lesson>,
    /// What nothing could be learned from, and why.
    pub left_out: Vec<Undecided>,
    /// What the policies in force would not permit with the proposal beside them: their own rules forbid it.
    pub still: Vec<Still>,
}

/// One rule of a proposal, and what it was learned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lesson {
    /// Its `@id`.
    pub id: String,
    /// Whose agents asked.
    pub team: String,
    /// The tool they called.
    pub tool: String,
    /// What they asked for: `call refunds/refunds.create`, `commit stripe/refunds.create`.
    pub what: String,
    /// How often.
    pub asked: u64,
    /// How often it was denied then, or stopped by a dry run.
    pub denied: u64,
    /// How often it waited for approvals then.
    pub held: u64,
    /// The most money at a time, in minor units by currency; none where none was to move.
    pub most: Vec<Amount>,
}

/// What the rules in force would not permit all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Still {
    /// What.
    #[serde(flatten)]
    pub place: Place,
    /// What would be decided.
    pub verdict: Verdict,
}

/// What one rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    team: String,
    tool: String,
    asks: Asks,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    Call(String),
    Effect(String, String, Tier),
}

#[derive(Debug, Default)]
struct Seen {
    asked: u64,
    denied: u64,
    held: u64,
    /// Whether it was asked for without money.
    free: bool,
    most: BTreeMap<Currency, u64>,
}

const HEAD: &str = "\
// A proposal, made by `ambit policy learn` from recorded calls. Nothing in it is in force: only *.cedar files of the home's policy folder are.
//
// It permits what these calls asked for, and as little else as rules by team, tool and route can say. That agents asked for it does
// not mean that they should have it, least of all what was denied or waited for approvals: read each rule and decide.
";

impl WhatIf {
    /// Learns from these calls.
    ///
    /// # Errors
    /// Where the ledger or the policies in force cannot be read; [`Code::Arguments`] where the calls asked for nothing that policy decides;
    /// [`Code::Internal`] where the proposal would not permit what it was learned from.
    pub fn learn(&mut self, calls: &[String]) -> Result<Learned, OpenError> {
        let groups = self.config().group_sizes();
        let in_force = PolicySet::load(self.config().policies(), &groups)?;
        let mut left_out = Vec::new();
        let mut learned_from = Vec::new();
        let mut subjects: BTreeMap<Subject, Seen> = BTreeMap::new();
        for call in calls {
            let story = self.reader.story(call)?;
            for item in self.asked_for(&story)? {
                match item {
                    Ok((subject, item)) => {
                        subjects.entry(subject).or_default().add(&item);
                        learned_from.push((story.call.clone(), item));
                    }
                    Err(undecided) => left_out.push(undecided),
                }
            }
        }
        if subjects.is_empty() {
            let why = "the calls asked for nothing that policy decides: there is nothing to learn from them";
            return Err(Refusal::new(Code::Arguments, why).into());
        }
        let (text, rules) = written(subjects, &in_force);
        let alone = load(&[("learned.cedar".to_owned(), text.clone())], &groups)?;
        let mut together = self.config().policies().to_vec();
        together.push(("learned.cedar.txt".to_owned(), text.clone()));
        let together = load(&together, &groups)?;
        let mut still = Vec::new();
        let (mut memo_alone, mut memo_together) = (Memo::new(), Memo::new());
        for (call, item) in learned_from {
            let story = self.reader.story(&call)?;
            let verdict = self.decide(&alone, &story, &item, &mut memo_alone)?;
            let permitted = verdict.as_ref().is_ok_and(|verdict| verdict.word == Word::Permitted);
            if !permitted {
                let what = item.place(&story).what;
                let message =
                    format!("the proposal would not permit {what} of call {call}, and was not given out: {verdict:?}");
                return Err(Refusal::new(Code::Internal, message).into());
            }
            if let Ok(verdict) = self.decide(&together, &story, &item, &mut memo_together)?
                && verdict.word != Word::Permitted
            {
                still.push(Still {
                    place: item.place(&story),
                    verdict,
                });
            }
        }
        Ok(Learned {
            text,
            rules,
            left_out,
            still,
        })
    }

    /// What a call asked for, each thing once, as far as it can be learned from.
    #[expect(clippy::type_complexity, reason = "one place, and a name would say less")]
    fn asked_for(&mut self, story: &CallStory) -> Result<Vec<Result<(Subject, Item), Undecided>>, StoreError> {
        let found = items::of(story, &self.people);
        let Some(principal) = story.principal.as_ref().filter(|_| story.tool.is_some()) else {
            return Ok(Vec::new());
        };
        let mut asked = Vec::new();
        // What was held and then sent is there twice; its end is what is learned from, if it has one.
        let mut effects: BTreeMap<u32, Item> = BTreeMap::new();
        for item in found.items.into_iter().chain(found.dry) {
            match &item.about {
                About::Call => asked.push(item),
                About::Effect(effect) => {
                    let held = effects
                        .get(&effect.ordinal)
                        .is_some_and(|first| first.then.word == Word::Held);
                    let then = if held {
                        effects.remove(&effect.ordinal).map(|first| first.then)
                    } else {
                        None
                    };
                    let item = Item {
                        then: then.unwrap_or_else(|| item.then.clone()),
                        ..item.clone()
                    };
                    effects.insert(effect.ordinal, item);
                }
            }
        }
        asked.extend(effects.into_values());
        let mut learned = Vec::new();
        for mut item in asked {
            // With no approvals: the proposal asks for none.
            item.approvals.clear();
            let known = self.with_its_money(story, &mut item)?;
            let place = item.place(story);
            let undecided = |why: String| Undecided { place, why };
            let subject = Subject {
                team: principal.team.clone(),
                tool: item.tool.clone(),
                asks: match &item.about {
                    About::Call => Asks::Call(item.function.clone()),
                    About::Effect(effect) => Asks::Effect(effect.connection.clone(), effect.route.clone(), effect.tier),
                },
            };
            learned.push(match (known, item.mode) {
                (Err(why), _) => Err(undecided(why)),
                (Ok(()), None) => Err(undecided("the mode that it was asked in is not recorded".to_owned())),
                (Ok(()), Some(_)) => Ok((subject, item)),
            });
        }
        Ok(learned)
    }

    /// Finds out what an effect would have spent that a dry run stopped before that was known.
    fn with_its_money(&self, story: &CallStory, item: &mut Item) -> Result<Result<(), String>, StoreError> {
        let About::Effect(effect) = &mut item.about else {
            return Ok(Ok(()));
        };
        let Some((origin, route)) = self.route(effect) else {
            let EffectOf { connection, route, .. } = effect;
            return Ok(Err(format!(
                "the configuration has no route {connection}/{route} any more"
            )));
        };
        if effect.spend.is_some() || !route.moves_money() {
            return Ok(Ok(()));
        }
        let request = match self.recorded_request(story, effect, origin)? {
            Ok(request) => request,
            Err(why) => return Ok(Err(why)),
        };
        match route.lookup(&request) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(Err("its currency is not known: only its service could say".to_owned())),
            Err(refusal) => return Ok(Err(refusal.message)),
        }
        match route.spend(&request, None) {
            Ok(spend) => {
                effect.spend = Amount::of(&spend).filter(|_| spend != Spend::None);
                Ok(Ok(()))
            }
            Err(refusal) => Ok(Err(refusal.message)),
        }
    }
}

impl Seen {
    fn add(&mut self, item: &Item) {
        self.asked += 1;
        match item.then.word {
            Word::Permitted => {}
            Word::Held => self.held += 1,
            Word::Denied => self.denied += 1,
        }
        let About::Effect(effect) = &item.about else { return };
        match effect.spend {
            None => self.free = true,
            Some(Amount { currency, minor }) => {
                let most = self.most.entry(currency).or_default();
                *most = minor.max(*most);
            }
        }
    }

    /// Which spend the rule is for.
    fn condition(&self) -> String {
        let free = self.free.then(|| "context.spend.kind == \"none\"".to_owned());
        let known = self.most.iter().map(|(currency, most)| {
            format!(
                "(context.spend.kind == \"known\" && context.spend.currency == {} && context.spend.minor <= {most})",
                quoted(&currency.to_string())
            )
        });
        let all: Vec<String> = free.into_iter().chain(known).collect();
        all.join(" || ")
    }
}

impl Subject {
    fn what(&self) -> String {
        match &self.asks {
            Asks::Call(function) => format!("call {}/{function}", self.tool),
            Asks::Effect(connection, route, tier) => format!("{tier} {connection}/{route}"),
        }
    }

    fn id(&self) -> String {
        match &self.asks {
            Asks::Call(function) => format!("learned.{}.{}.{function}", self.team, self.tool),
            Asks::Effect(connection, route, tier) => format!("learned.{}.{connection}.{route}.{tier}", self.team),
        }
    }

    fn rule(&self, seen: &Seen) -> String {
        let team = quoted(&self.team);
        match &self.asks {
            Asks::Call(function) => {
                let resource = quoted(&format!("{}/{function}", self.tool));
                format!(
                    "permit (principal in Team::{team}, action == Action::\"call\", resource == Function::{resource});"
                )
            }
            Asks::Effect(connection, route, tier) => {
                let resource = quoted(&format!("{connection}/{route}"));
                format!(
                    "permit (principal in Team::{team}, action == Action::\"{tier}\", resource == Route::{resource})\n\
                     when {{ context.tool == {} && ({}) }};",
                    quoted(&self.tool),
                    seen.condition()
                )
            }
        }
    }
}

/// The proposal's text, and what it says.
fn written(subjects: BTreeMap<Subject, Seen>, in_force: &PolicySet) -> (String, Vec<Lesson>) {
    let mut taken: BTreeSet<String> = in_force.rules().iter().map(|rule| rule.id.clone()).collect();
    let mut text = HEAD.to_owned();
    let mut rules = Vec::new();
    for (subject, seen) in subjects {
        let id = proposed_id(&subject.id(), &mut taken);
        // Writing to a string does not fail.
        let _ = write!(text, "\n// {}\n@id(\"{id}\")\n{}\n", told(&seen), subject.rule(&seen));
        rules.push(Lesson {
            id,
            what: subject.what(),
            team: subject.team,
            tool: subject.tool,
            asked: seen.asked,
            denied: seen.denied,
            held: seen.held,
            most: seen
                .most
                .into_iter()
                .map(|(currency, minor)| Amount { currency, minor })
                .collect(),
        });
    }
    (text, rules)
}

fn told(seen: &Seen) -> String {
    let mut told = format!("Asked for {}", times(seen.asked));
    if seen.denied > 0 {
        let _ = write!(told, ", denied {}", times(seen.denied));
    }
    if seen.held > 0 {
        let _ = write!(told, ", waited for approvals {}", times(seen.held));
    }
    told.push('.');
    told
}

fn times(number: u64) -> String {
    match number {
        1 => "once".to_owned(),
        number => format!("{number} times"),
    }
}

fn load(sources: &[(String, String)], groups: &BTreeMap<String, usize>) -> Result<PolicySet, OpenError> {
    PolicySet::load(sources, groups).map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        let message = format!("the proposal does not validate, and was not given out: {first}");
        Refusal::new(Code::Internal, message).into()
    })
}

/// A string of Cedar's: its escapes are Rust's.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}
