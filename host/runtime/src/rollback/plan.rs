//! What undoes a call, effect by effect or by a function of its tool, and why what cannot be undone cannot.

use std::collections::BTreeSet;

use ambit_core::effect::{GuestResponse, HttpRequest};
use ambit_core::error::{Code, Refusal};
use ambit_core::json::{self, Json};
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{Amount, By, EffectIntent, End};
use ambit_core::ledger::story::{EffectStory, Opening};
use ambit_core::scope::Tier;
use ambit_core::undo::{self, Inverse, Recorded, State};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::store::Reader;
use crate::transcript::{Record, Unreadable, tampered};

/// What undoes a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The call.
    pub call: String,
    /// Its effects that changed something, the last first.
    pub items: Vec<Item>,
    /// The function of its tool that undoes all of it, with its arguments; none where its routes do, or nothing does.
    pub function: Option<(String, Json)>,
    /// Whether nobody knows of one of them whether it happened, as its service's answer says neither.
    pub unsure: bool,
}

/// What of a rollback is done, where an operator says more than which call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackOptions {
    /// Whether it writes back also over what somebody changed since.
    pub over_changes: bool,
    /// Effects that are left as they are, by number: what was undone by hand, or never can be, holds nothing else up then.
    pub skip: BTreeSet<u32>,
}

/// One effect of a call that is to be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Which.
    pub ordinal: u32,
    /// The connection's name.
    pub connection: String,
    /// The route's name.
    pub route: String,
    /// How much it changed.
    pub tier: Tier,
    /// The money that it moved.
    pub spend: Option<Amount>,
    /// What takes it back; or what became of it, where nothing does.
    pub inverse: Result<Inverse, Fate>,
}

/// What becomes of one effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is undone now.
    Undone,
    /// It was undone by this earlier rollback.
    Before(String),
    /// It is not undone, and why.
    Not(String),
}

impl Fate {
    /// Whether nothing of it is left.
    #[must_use]
    pub const fn is_undone(&self) -> bool {
        matches!(self, Self::Undone | Self::Before(_))
    }

    /// Why not, or by which earlier rollback.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Undone => None,
            Self::Before(call) => Some(call),
            Self::Not(why) => Some(why),
        }
    }
}

impl Plan {
    /// In which way it undoes.
    #[must_use]
    pub const fn by(&self) -> By {
        match self.function {
            Some(_) => By::Function,
            None => By::Routes,
        }
    }

    /// The same without these effects.
    ///
    /// # Errors
    /// [`Code::Arguments`] for an effect that is not to be undone anyway; [`Code::Undo`] where a function undoes all of it at once.
    pub(super) fn without(mut self, skip: &BTreeSet<u32>) -> Result<Self, Refusal> {
        if let Some((function, _)) = self.function.as_ref().filter(|_| !skip.is_empty()) {
            let why = format!("the tool's own {function} undoes the call, all of it: no effect can be left out");
            return Err(Refusal::new(Code::Undo, why));
        }
        for ordinal in skip {
            let item = self.items.iter_mut().find(|item| item.ordinal == *ordinal);
            let Some(item) = item.filter(|item| item.inverse.is_ok()) else {
                let why = format!("effect {ordinal} of call {} is not one that would be undone", self.call);
                return Err(Refusal::new(Code::Arguments, why)
                    .advise(format!("ambit rollback {} --dry-run lists them", self.call)));
            };
            item.inverse = Err(Fate::Not("left as it is, as the operator said".to_owned()));
        }
        Ok(self)
    }

    /// Why nothing can be undone, where nothing can.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let something = self.function.is_some() || self.items.iter().any(|item| item.inverse.is_ok());
        if something {
            return None;
        }
        let not = self.items.iter().filter_map(|item| match &item.inverse {
            Err(Fate::Not(why)) => Some(format!("effect {}: {why}", item.ordinal)),
            _ => None,
        });
        let not: Vec<String> = not.collect();
        let call = &self.call;
        Some(
            Refusal::new(
                Code::Undo,
                format!("nothing of call {call} can be undone ({})", not.join("; ")),
            )
            .advise(if self.unsure {
                "find out at the service whether it happened, and undo it there by hand"
            } else {
                "the operator says how with `undo` on a route of ambit.toml, a tool's author with `undo(function)`; or undo it by hand"
            }),
        )
    }
}

impl Host {
    /// What undoes a call that can be undone.
    ///
    /// # Errors
    /// Where the call's record was tampered with.
    pub(super) fn plan(&self, reader: &Reader, story: &CallStory, rollbacks: &[CallStory]) -> Result<Plan, Refusal> {
        let record = Record::new(reader, story);
        let (mut items, mut unsure, mut maybe) = (Vec::new(), false, None);
        for (ordinal, state) in undo::effects(story, rollbacks) {
            let Some(EffectStory::Intended { intent, .. }) = story.effects.get(&ordinal) else {
                continue;
            };
            let intent = &intent.what;
            let inverse = match state {
                State::Undone(by, _) => Err(Fate::Before(by)),
                State::Unsure(status) => {
                    unsure = true;
                    Err(Fate::Not(format!("{}: nobody knows whether it happened", said(status))))
                }
                State::MaybeUndone(by, status) => {
                    unsure = true;
                    maybe = maybe.or(Some(ordinal));
                    Err(Fate::Not(format!(
                        "{} when {by} was to take it back: nobody knows whether it is undone",
                        said(status)
                    )))
                }
                // What came before it may stand under it.
                State::Done if !ambit_core::guard!("undo.under", maybe.is_none()) => Err(Fate::Not(format!(
                    "not tried, as nobody knows whether effect {} is undone",
                    maybe.unwrap_or_default()
                ))),
                State::Done => self.inverse(&record, story, intent)?.map_err(Fate::Not),
            };
            items.push(Item {
                ordinal,
                connection: intent.connection.clone(),
                route: intent.route.clone(),
                tier: intent.tier,
                spend: intent.spend,
                inverse,
            });
        }
        let mut plan = Plan {
            call: story.call.clone(),
            items,
            function: None,
            unsure,
        };
        // A function undoes all of it, and some may be undone.
        let untouched = ambit_core::guard!("undo.function-unsure", maybe.is_none());
        if untouched && plan.items.iter().any(|item| matches!(item.inverse, Err(Fate::Not(_)))) {
            match self.undoing_function(&record, story, &plan)? {
                Ok(function) => plan.function = Some(function),
                Err(why) => plan.add(&why),
            }
        }
        Ok(plan)
    }

    /// What takes one effect back, or why nothing does.
    fn inverse(
        &self,
        record: &Record<'_>,
        story: &CallStory,
        intent: &EffectIntent,
    ) -> Result<Result<Inverse, String>, Refusal> {
        let config = &self.shared.config;
        let name = &intent.connection;
        let Some(connection) = config.connection(name) else {
            return Ok(Err(format!("there is no connection `{name}` any more")));
        };
        let tool = match &story.opening.what {
            Opening::Accepted(accepted) => config.tool(&accepted.asked.tool),
            Opening::Denied(_) => None,
        };
        if !tool.is_some_and(|tool| tool.bind.values().any(|bound| bound == name)) {
            return Ok(Err(format!("its tool is not bound to `{name}` any more")));
        }
        let Some(route) = connection.route(&intent.route) else {
            return Ok(Err(format!("there is no route `{name}/{}` any more", intent.route)));
        };
        // What nothing is made of need not be there.
        if route.undo().is_none() {
            return Ok(Err("no `undo` on its route".to_owned()));
        }
        let recorded = match readable(Values::of(record, story, intent))? {
            Ok(values) => values,
            Err(why) => return Ok(Err(why)),
        };
        let limits = tool.map_or(config.limits(), |tool| &tool.limits).wire();
        let Some(request) = HttpRequest::of_wire(&recorded.request, &limits) else {
            return Ok(Err("its recorded request is none that this version sends".to_owned()));
        };
        let recorded = Recorded {
            request: &request,
            answer: recorded.answer.as_ref(),
            before: recorded.before.as_ref(),
        };
        Ok(undo::inverse(connection, route, &recorded))
    }

    /// The function of its tool that undoes all of a call, with its arguments; or why there is none.
    fn undoing_function(
        &self,
        record: &Record<'_>,
        story: &CallStory,
        plan: &Plan,
    ) -> Result<Result<(String, Json), String>, Refusal> {
        let Opening::Accepted(accepted) = &story.opening.what else {
            return Ok(Err("it was denied".to_owned()));
        };
        let tool = self.shared.tools.get(&accepted.asked.tool);
        let function = tool.and_then(|tool| tool.loaded.manifest().function(&accepted.asked.function).ok());
        let Some(undo) = function.and_then(|function| function.undo.as_ref()) else {
            return Ok(Err("the function declares none".to_owned()));
        };
        if !story.ran_a_guest() {
            return Ok(Err(format!("no guest ran, so `{}` has nothing to undo", undo.function)));
        }
        if plan
            .items
            .iter()
            .any(|item| matches!(item.inverse, Err(Fate::Before(_))))
        {
            return Ok(Err(format!("`{}` undoes all of it, and some is undone", undo.function)));
        }
        let ended = story.finished.as_ref().map(|finished| &finished.what.outcome);
        if !ambit_core::guard!("undo.function-ok", matches!(ended, Some(End::Ok(_)))) {
            return Ok(Err(format!(
                "`{}` undoes a call that ended well, and this did not",
                undo.function
            )));
        }
        let values = record.json("args").and_then(|args| Ok((args, record.json("result")?)));
        Ok(match readable(values)? {
            Ok((args, result)) => undo::arguments(undo, &args, &result).map(|args| (undo.function.clone(), args)),
            Err(why) => Err(why),
        })
    }
}

impl Plan {
    /// Says of each effect that cannot be undone why the tool's function does not undo it either.
    fn add(&mut self, why: &str) {
        for item in &mut self.items {
            if let Err(Fate::Not(not)) = &mut item.inverse {
                not.push_str("; ");
                not.push_str(why);
            }
        }
    }
}

/// What the service said to the last sending that may have happened.
fn said(status: Option<u16>) -> String {
    match status {
        Some(status) => format!("the service answered {status}"),
        None => "nobody saw the service's answer".to_owned(),
    }
}

/// What is recorded of one effect.
struct Values {
    request: Json,
    answer: Option<Json>,
    before: Option<Json>,
}

impl Values {
    fn of(record: &Record<'_>, story: &CallStory, intent: &EffectIntent) -> Result<Values, Unreadable> {
        let name = |what: &str| format!("effect/{}/{what}", intent.ordinal);
        let answer = record.json(&name("answer"))?;
        let answered = answer
            .get("answered")
            .and_then(|answered| serde_json::from_str::<GuestResponse>(&answered.to_canonical()).ok());
        let body = answered.and_then(|answered| Json::parse(&answered.body?, json::Limits::default()).ok());
        let before = match intent.before {
            // Of an effect that people edited, what there was when they did.
            Some(_) => Some(record.json(&story.before_name(intent.ordinal))?),
            None => None,
        };
        Ok(Values {
            request: record.json(&name("request"))?,
            answer: body,
            before,
        })
    }
}

/// What could not be read is why nothing is undone; what was tampered with is looked into first.
fn readable<T>(read: Result<T, Unreadable>) -> Result<Result<T, String>, Refusal> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(why @ Unreadable::Tampered(_)) => Err(tampered(&why)),
        Err(why) => Ok(Err(why.to_string())),
    }
}
