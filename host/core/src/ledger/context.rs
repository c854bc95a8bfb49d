//! What earlier entries of a call say that its later ones do not repeat: which tool it is of, and through which route an effect goes.
//!
//! An outcome names its effect by a number. Whoever reads entries one by one, to count or to send them on, finds here what the number
//! stands for. It holds so many calls and no more: of one that it does not know, [`Contexts::unknown`] says so, and its entries are taken
//! in again from the ledger.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::body::{Body, Cause};
use super::entry::Entry;
use crate::scope::Tier;

/// Most calls that are known at a time.
const MOST_CALLS: usize = 4_096;

/// What is known of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallContext {
    /// The tool's name in the configuration.
    pub tool: String,
    /// The function's id.
    pub function: String,
    /// The run that it belongs to.
    pub run: Option<String>,
    /// The most that the function may do.
    pub tier: Option<Tier>,
    /// Its effects by their numbers.
    pub effects: BTreeMap<u32, EffectContext>,
}

/// What is known of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectContext {
    /// The connection's name.
    pub connection: String,
    /// The route's name.
    pub route: String,
    /// The route's tier.
    pub tier: Tier,
    /// Who wanted it: of one that was held and has no intent yet, the guest.
    pub cause: Cause,
    /// When it was held, in milliseconds since 1970; as it is now, where people edited it.
    pub held_ms: Option<i64>,
    /// Whether it takes back an effect of another call.
    pub undoes: bool,
}

/// What is known of calls, the newest of them.
#[derive(Clone, Debug, Default)]
pub struct Contexts {
    calls: HashMap<String, CallContext>,
    /// In the order in which they were taken in.
    order: VecDeque<String>,
}

impl Contexts {
    /// The call of an entry that says less than is to be known, where that call is not known: its entries before this one are to be
    /// [taken in](Self::take) first.
    #[must_use]
    pub fn unknown<'e>(&self, entry: &'e Entry) -> Option<&'e str> {
        let begins = matches!(entry.body(), Body::CallAccepted(_) | Body::CallDenied(_));
        entry.call().filter(|call| !begins && !self.calls.contains_key(*call))
    }

    /// What is known of the call of an entry.
    #[must_use]
    pub fn of(&self, entry: &Entry) -> Option<&CallContext> {
        self.calls.get(entry.call()?)
    }

    /// What is known of the effect that an entry is about.
    #[must_use]
    pub fn effect(&self, entry: &Entry) -> Option<&EffectContext> {
        self.of(entry)?.effects.get(&entry.body().ordinal()?)
    }

    /// Takes in what an entry says. Again is no harm.
    pub fn take(&mut self, entry: &Entry) {
        let Some(call) = entry.call() else { return };
        if let Body::CallAccepted(accepted) = entry.body() {
            let context = CallContext {
                tool: accepted.asked.tool.clone(),
                function: accepted.asked.function.clone(),
                run: accepted.run.clone(),
                tier: Some(accepted.asked.tier),
                effects: BTreeMap::new(),
            };
            self.begin(call, context);
            return;
        }
        let Some(context) = self.calls.get_mut(call) else {
            return;
        };
        match entry.body() {
            Body::EffectHeld(held) => {
                let effect = EffectContext {
                    connection: held.connection.clone(),
                    route: held.route.clone(),
                    tier: held.tier,
                    cause: Cause::Guest,
                    held_ms: Some(entry.time_ms()),
                    undoes: held.undoes.is_some(),
                };
                context.effects.insert(held.ordinal, effect);
            }
            Body::EffectIntent(intent) => {
                let effect = EffectContext {
                    connection: intent.connection.clone(),
                    route: intent.route.clone(),
                    tier: intent.tier,
                    cause: intent.cause,
                    held_ms: None,
                    undoes: intent.undoes.is_some(),
                };
                context.effects.insert(intent.ordinal, effect);
            }
            Body::EffectRefused(refused) => drop(context.effects.remove(&refused.ordinal)),
            _ => {}
        }
    }

    /// Forgets a call that is over.
    pub fn forget(&mut self, call: &str) {
        self.calls.remove(call);
    }

    fn begin(&mut self, call: &str, context: CallContext) {
        if self.calls.insert(call.to_owned(), context).is_some() {
            return;
        }
        self.order.push_back(call.to_owned());
        if self.order.len() > MOST_CALLS
            && let Some(oldest) = self.order.pop_front()
        {
            self.calls.remove(&oldest);
        }
    }
}
