//! What if the policy were another one, or a tool's build: recorded calls, decided or run once more.
//!
//! Nothing is sent and nothing is written, so a host may run on the home meanwhile. Decisions are made by the same code as live ones, on
//! facts that are rebuilt from what the ledger says and, where a rule looks into requests, from the recorded values. What cannot be
//! rebuilt is told, never passed over.

mod items;
mod learn;
mod tool;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestRequest, HttpRequest};
use ambit_core::error::Code;
use ambit_core::hold::{Changes, Need, Spoken};
use ambit_core::identity::{AgentSpec, Caller, Directory};
use ambit_core::ledger::body::Amount;
use ambit_core::ledger::{CallStory, Principal};
use ambit_core::money::Spend;
use ambit_core::policy::{CallFacts, EffectFacts, FieldFacts, PolicySet};
use ambit_core::route::Route;
use serde::Serialize;

use self::items::{About, EffectOf, Item};
pub use self::learn::{Learned, Lesson};
pub use self::tool::{Behaviour, Rebuilt, Rerun};
use crate::config::Config;
use crate::host::OpenError;
use crate::store::{Keys, Payload, Reader, StoreError};

/// What policy says of a call or an effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// In a word.
    pub word: Word,
    /// The `@id`s of the rules that decided.
    pub rules: Vec<String>,
    /// Of what is held: the smallest sets of approvals that would permit it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
}

/// A verdict in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It may happen.
    Permitted,
    /// It waits for approvals.
    Held,
    /// It must not happen.
    Denied,
}

impl Verdict {
    /// Whether the same comes of both, whichever rules say so.
    fn comes_to_the_same(&self, other: &Verdict) -> bool {
        self.word == other.word && self.needs == other.needs
    }
}

/// A call, or one of its effects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The call.
    pub call: String,
    /// Which of its effects; none for the call itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<u32>,
    /// What it is, in the operator's names: `call refunds/refunds.create`, `commit stripe/refunds.create`.
    pub what: String,
}

/// Something that would be decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// What.
    #[serde(flatten)]
    pub place: Place,
    /// The approvals that it had.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub approvals: Need,
    /// What was decided.
    pub then: Verdict,
    /// What would be.
    pub now: Verdict,
}

/// Something that cannot be decided again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undecided {
    /// What.
    #[serde(flatten)]
    pub place: Place,
    /// Why.
    pub why: String,
}

/// What another policy would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Weighed {
    /// Calls that were decided again.
    pub calls: u64,
    /// Decisions about effects that were made again. An effect that was held has two: before anybody approved it, and after.
    pub effects: u64,
    /// What something else than policy decided, a limit, a budget or people, and what the host itself needed: no policy changes that.
    pub apart: u64,
    /// What comes to the same by other rules.
    pub other_rules: u64,
    /// What would come to something else, in the ledger's order.
    pub changed: Vec<Changed>,
    /// What could not be decided again, in the ledger's order.
    pub undecided: Vec<Undecided>,
}

/// Recorded calls of one home, to ask about. It only reads.
pub struct WhatIf {
    config: Config,
    reader: Reader,
    callers: HashMap<Principal, Caller>,
    /// What those who vote have said.
    people: Spoken,
}

/// Verdicts that were found before, by the digest of their facts and whether approvals could be waited for.
type Memo = HashMap<(Digest, bool), Verdict>;

impl WhatIf {
    /// Opens a home. Its keys are needed where a rule looks into requests; without them such effects are told as not decided.
    ///
    /// # Errors
    /// Where its configuration or ledger cannot be read.
    pub fn open(home: &Path) -> Result<Self, OpenError> {
        let config = Config::load(home)?;
        let reader = Reader::open(home)?;
        let reader = match Keys::load(home) {
            Ok(keys) => reader.with_keys(&keys),
            Err(_) => reader,
        };
        Ok(Self {
            config,
            people: reader.spoken()?,
            reader,
            callers: HashMap::new(),
        })
    }

    /// The ledger that is asked about.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The home's configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Decides these calls and their effects under another policy. `progress` is told how many calls are behind.
    ///
    /// # Errors
    /// Where the ledger cannot be read, or has no such call.
    pub fn policy(
        &mut self,
        policy: &PolicySet,
        calls: &[String],
        mut progress: impl FnMut(u64),
    ) -> Result<Weighed, StoreError> {
        let mut weighed = Weighed::default();
        let mut memo = Memo::new();
        for (behind, call) in (1..).zip(calls) {
            let story = self.reader.story(call)?;
            let found = items::of(&story, &self.people);
            weighed.apart += found.apart;
            for item in &found.items {
                self.weigh(policy, &story, item, &mut memo, &mut weighed)?;
            }
            progress(behind);
        }
        Ok(weighed)
    }

    fn weigh(
        &mut self,
        policy: &PolicySet,
        story: &CallStory,
        item: &Item,
        memo: &mut Memo,
        weighed: &mut Weighed,
    ) -> Result<(), StoreError> {
        match item.about {
            About::Call => weighed.calls += 1,
            About::Effect(_) => weighed.effects += 1,
        }
        match self.decide(policy, story, item, memo)? {
            Err(why) => weighed.undecided.push(Undecided {
                place: item.place(story),
                why,
            }),
            Ok(now) if !now.comes_to_the_same(&item.then) => weighed.changed.push(Changed {
                place: item.place(story),
                approvals: item.approvals.clone(),
                then: item.then.clone(),
                now,
            }),
            Ok(now) if now.rules != item.then.rules => weighed.other_rules += 1,
            Ok(_) => {}
        }
        Ok(())
    }

    /// What a policy says of one recorded question; or why it cannot be asked again.
    fn decide(
        &mut self,
        policy: &PolicySet,
        story: &CallStory,
        item: &Item,
        memo: &mut Memo,
    ) -> Result<Result<Verdict, String>, StoreError> {
        let caller = match self.caller(story) {
            Ok(caller) => caller,
            Err(why) => return Ok(Err(why)),
        };
        let (Some(tool_digest), Some(mode)) = (story.tool, item.mode) else {
            let why = "the mode that it was asked in is not recorded: an earlier version wrote its entry";
            return Ok(Err(why.to_owned()));
        };
        let call = CallFacts {
            caller: &caller,
            run: story.run(),
            mode,
            tool: &item.tool,
            tool_digest,
            function: &item.function,
        };
        let About::Effect(effect) = &item.about else {
            let decision = policy.decide_call(&call);
            return Ok(Ok(Verdict {
                word: if decision.allowed() {
                    Word::Permitted
                } else {
                    Word::Denied
                },
                rules: decision.rules().to_vec(),
                needs: Vec::new(),
            }));
        };
        let request = match self.request(policy, story, effect)? {
            Ok(request) => request,
            Err(why) => return Ok(Err(why)),
        };
        let facts = EffectFacts {
            call,
            connection: &effect.connection,
            route: &effect.route,
            tier: effect.tier,
            fields: &request.fields,
            captures: &request.captures,
            recipients: &[],
            exhausted: &[],
            spend: spend(effect.spend),
            approvals: &item.approvals,
        };
        let key = (facts.digest(), item.may_wait);
        if let Some(known) = memo.get(&key) {
            return Ok(Ok(known.clone()));
        }
        let verdict = effect_verdict(policy, &facts, item.may_wait);
        remember(memo, key, &verdict);
        Ok(Ok(verdict))
    }

    /// The caller as the ledger has it, whatever became of the agent since.
    fn caller(&mut self, story: &CallStory) -> Result<Caller, String> {
        let principal = story.principal.as_ref().ok_or("its caller is not recorded")?;
        if let Some(caller) = self.callers.get(principal) {
            return Ok(caller.clone());
        }
        let spec = AgentSpec {
            team: principal.team.clone(),
            tenant: principal.tenant.clone(),
            users: principal.user.iter().cloned().collect(),
        };
        let directory = Directory::new(BTreeMap::from([(principal.agent.clone(), spec)]));
        let caller = directory
            .and_then(|directory| directory.caller(&principal.agent, principal.user.as_deref()))
            .map_err(|refusal| refusal.message)?;
        self.callers.insert(principal.clone(), caller.clone());
        Ok(caller)
    }

    /// What is in an effect's request, as far as the policy looks at it.
    fn request(
        &self,
        policy: &PolicySet,
        story: &CallStory,
        effect: &EffectOf,
    ) -> Result<Result<RequestFacts, String>, StoreError> {
        let Some((origin, route)) = self.route(effect) else {
            return Ok(Err(format!(
                "the configuration has no route {}/{} any more",
                effect.connection, effect.route
            )));
        };
        if !policy.reads_requests() {
            return Ok(Ok(RequestFacts::default()));
        }
        let request = match self.recorded_request(story, effect, origin)? {
            Ok(request) => request,
            Err(why) => return Ok(Err(why)),
        };
        Ok(match route.captures(&request) {
            Some(captures) => Ok(RequestFacts {
                fields: FieldFacts::of(&request),
                captures,
            }),
            None => Err(format!(
                "its request is not one of route {}/{} any more",
                effect.connection, effect.route
            )),
        })
    }

    fn route(&self, effect: &EffectOf) -> Option<(&ambit_core::effect::Origin, &Route)> {
        let connection = self.config.connection(&effect.connection)?;
        Some((connection.origin(), connection.route(&effect.route)?))
    }

    /// A recorded value, where it is the one that the ledger commits to; or why it is not known.
    fn value(
        &self,
        story: &CallStory,
        name: &str,
        commitment: Option<Digest>,
    ) -> Result<Result<Payload, String>, StoreError> {
        let value = match self.reader.payload(&story.call, name) {
            Ok(Some(value)) => value,
            Ok(None) => return Ok(Err(format!("its value `{name}` is gone"))),
            Err(error @ (StoreError::Erased { .. } | StoreError::Payload { .. })) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        if !ambit_core::guard!("whatif.value", Some(value.commitment()) == commitment) {
            return Ok(Err(format!(
                "its value `{name}` is not the one that the ledger commits to: it was tampered with"
            )));
        }
        Ok(Ok(value))
    }

    /// The request, from what its guest asked for and what people changed of that.
    fn recorded_request(
        &self,
        story: &CallStory,
        effect: &EffectOf,
        origin: &ambit_core::effect::Origin,
    ) -> Result<Result<HttpRequest, String>, StoreError> {
        let name = format!("effect/{}/asked", effect.ordinal);
        let value = match self.value(story, &name, effect.asked)? {
            Ok(value) => value,
            Err(why) => return Ok(Err(why)),
        };
        let changes = match &effect.edit {
            Some((name, commitment)) => match self.value(story, name, Some(*commitment))? {
                Ok(value) => Some(value),
                Err(why) => return Ok(Err(why)),
            },
            None => None,
        };
        let Some(limits) = items::limits(story) else {
            return Ok(Err("its limits are not known here".to_owned()));
        };
        let guest: Result<GuestRequest, _> = serde_json::from_slice(value.bytes());
        Ok(guest
            .map_err(|error| error.to_string())
            .and_then(|guest| changed(guest, changes.as_ref()))
            .and_then(|guest| HttpRequest::parse(origin, &guest, &limits.wire()).map_err(|refusal| refusal.message)))
    }
}

/// What people made of a request.
fn changed(guest: GuestRequest, changes: Option<&Payload>) -> Result<GuestRequest, String> {
    let Some(changes) = changes else { return Ok(guest) };
    let text = std::str::from_utf8(changes.bytes()).map_err(|error| error.to_string())?;
    let changed = Changes::parse(text).and_then(|changes| changes.apply(&guest));
    changed.map_err(|refusal| refusal.message)
}

/// What policies see of a request.
#[derive(Default)]
struct RequestFacts {
    fields: FieldFacts,
    captures: BTreeMap<String, String>,
}

/// What a live effect would come to: permitted, or denied, or held where approvals would permit it and it may wait.
fn effect_verdict(policy: &PolicySet, facts: &EffectFacts<'_>, may_wait: bool) -> Verdict {
    let decision = policy.decide_effect(facts);
    let by_a_rule = decision.refusal().is_some_and(|refusal| refusal.code == Code::Policy);
    let needs = if by_a_rule && may_wait {
        policy.approvals_that_permit(facts)
    } else {
        Vec::new()
    };
    let word = match (decision.allowed(), needs.is_empty()) {
        (true, _) => Word::Permitted,
        (false, false) => Word::Held,
        (false, true) => Word::Denied,
    };
    Verdict {
        word,
        rules: decision.rules().to_vec(),
        needs,
    }
}

/// Safe to forget: what is remembered can be found again.
fn remember(memo: &mut Memo, key: (Digest, bool), verdict: &Verdict) {
    const MOST: usize = 1 << 16;
    if memo.len() >= MOST {
        memo.clear();
    }
    memo.insert(key, verdict.clone());
}

fn spend(amount: Option<Amount>) -> Spend {
    match amount {
        None => Spend::None,
        Some(Amount { currency, minor }) => Spend::Known {
            currency,
            minor: i64::try_from(minor).unwrap_or(i64::MAX),
        },
    }
}

impl std::fmt::Debug for WhatIf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WhatIf")
            .field("home", &self.config.home())
            .finish_non_exhaustive()
    }
}
