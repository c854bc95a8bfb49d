//! What is looked for on a ledger, and whether an entry is it.
//!
//! Names are matched whole and by letter: whoever looks for an agent does not mean another whose name begins so. Whatever an entry leaves
//! to earlier ones of its call, its tool or its route, is told from [`Contexts`].

use crate::error::{Code, Refusal, printable};
use crate::ledger::body::Kind;
use crate::ledger::{Contexts, Entry};
use crate::siem::Facts;

/// The longest text that is looked for, in bytes.
const LONGEST_TEXT: usize = 256;
/// The words of decisions.
pub const DECISIONS: [&str; 3] = ["permitted", "denied", "held"];

/// What is looked for. Whatever is none doesn't matter; all that is there has to be so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The trace: 32 hexadecimal digits.
    pub trace: Option<String>,
    /// The call's id.
    pub call: Option<String>,
    /// The agent who asked.
    pub agent: Option<String>,
    /// The user whom that acted for.
    pub user: Option<String>,
    /// The agent's team.
    pub team: Option<String>,
    /// The agent's tenant.
    pub tenant: Option<String>,
    /// The tool's name.
    pub tool: Option<String>,
    /// The function's id.
    pub function: Option<String>,
    /// The connection's name.
    pub connection: Option<String>,
    /// The route's name.
    pub route: Option<String>,
    /// The run's id.
    pub run: Option<String>,
    /// What was decided: one of [`DECISIONS`].
    pub decision: Option<String>,
    /// The `@id` of a policy that decided.
    pub rule: Option<String>,
    /// Which kind of rule refused.
    pub code: Option<Code>,
    /// The kind of entry.
    pub kind: Option<Kind>,
    /// At this time or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Before this time, in milliseconds since 1970.
    pub until_ms: Option<i64>,
    /// A text that stands in the entry, or, where values are read too, in a value of its call.
    pub text: Option<String>,
}

impl Query {
    /// That it can be looked for: its words are words.
    ///
    /// # Errors
    /// [`Code::Arguments`], which says what is wrong and what it takes.
    pub fn check(&self) -> Result<(), Refusal> {
        let refuse = |message: String, advice: &str| Err(Refusal::new(Code::Arguments, message).advise(advice));
        if let Some(decision) = self.decision.as_deref().filter(|word| !DECISIONS.contains(word)) {
            let message = format!("`{}` is no decision", printable(decision));
            return refuse(message, "it is permitted, denied or held");
        }
        if let Some(text) = &self.text
            && !crate::guard!("search.text", (1..=LONGEST_TEXT).contains(&text.len()))
        {
            let message = format!("the text has {} bytes", text.len());
            return refuse(message, "it takes 1 to 256");
        }
        if let (Some(since), Some(until)) = (self.since_ms, self.until_ms)
            && since >= until
        {
            return refuse(
                "the time that it begins with is not before the one that it ends with".to_owned(),
                "nothing is between",
            );
        }
        Ok(())
    }

    /// Whether an entry is what is looked for, its text apart ([`Query::text_in`]). `calls` knows what came before it.
    #[must_use]
    pub fn matches(&self, entry: &Entry, calls: &Contexts) -> bool {
        let time = entry.time_ms();
        let in_time = self.since_ms.is_none_or(|since| time >= since) && self.until_ms.is_none_or(|until| time < until);
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        if !in_time
            || self.kind.is_some_and(|kind| kind != entry.kind())
            || !is(&self.trace, entry.trace())
            || !is(&self.call, entry.call())
        {
            return false;
        }
        let who = entry.principal();
        let facts = Facts::of(entry, calls);
        is(&self.agent, who.map(|who| who.agent.as_str()))
            && is(&self.user, who.and_then(|who| who.user.as_deref()))
            && is(&self.team, who.map(|who| who.team.as_str()))
            && is(&self.tenant, who.map(|who| who.tenant.as_str()))
            && is(&self.tool, facts.tool)
            && is(&self.function, facts.function)
            && is(&self.connection, facts.connection)
            && is(&self.route, facts.route)
            && is(&self.run, facts.run)
            && is(&self.decision, facts.decision)
            && self.rule.as_deref().is_none_or(|rule| facts.rules.contains(&rule))
            && self.code.is_none_or(|code| facts.code == Some(code))
    }

    /// Whether the text that is looked for, where one is, stands in these bytes.
    #[must_use]
    pub fn text_in(&self, bytes: &[u8]) -> bool {
        self.text.as_deref().is_none_or(|text| {
            let text = text.as_bytes();
            bytes.windows(text.len().max(1)).any(|window| window == text)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::digest::Digest;
    use crate::ledger::body::{CallDenied, Cause, EffectRefused, Refused, Stage};
    use crate::ledger::{EntryDraft, Principal, Stamp};
    use crate::policy::Mode;

    fn run() -> String {
        format!("r_{}", "a".repeat(26))
    }

    fn denied() -> Entry {
        draft(None).seal(Stamp::first(1_000)).unwrap()
    }

    fn draft(run: Option<String>) -> EntryDraft {
        let body = CallDenied {
            args: None,
            arrival: None,
            budget: None,
            by: None,
            function: Some("refunds.create".into()),
            mode: Some(Mode::Execute),
            once: None,
            refused: Refused {
                code: Code::Policy,
                detail: None,
                rule: Some("support".into()),
            },
            rules: vec!["support".into()],
            run,
            stage: Stage::Policy,
            tool: Some("refunds".into()),
            undoes: None,
        };
        EntryDraft {
            body: body.into(),
            call: Some(format!("c_{}", "a".repeat(26))),
            config: Some(Digest::of(b"config")),
            policy: Some(Digest::of(b"policy")),
            principal: Some(Principal {
                agent: "assistant".into(),
                team: "support".into(),
                tenant: "acme".into(),
                user: None,
            }),
            tool: None,
            trace: Some("0af7651916cd43dd8448eb211c80319c".into()),
        }
    }

    #[test]
    fn all_that_is_looked_for_has_to_be_so() {
        let (entry, calls) = (denied(), Contexts::default());
        let matches = |change: &dyn Fn(&mut Query)| {
            let mut query = Query::default();
            change(&mut query);
            query.matches(&entry, &calls)
        };
        let some = |text: &str| Some(text.to_owned());
        assert!(matches(&|_| {}));
        type Change<'a> = &'a dyn Fn(&mut Query);
        let pairs: [(Change<'_>, Change<'_>); 11] = [
            (&|q| q.agent = some("assistant"), &|q| q.agent = some("assist")),
            (&|q| q.team = some("support"), &|q| q.team = some("Support")),
            (&|q| q.tenant = some("acme"), &|q| q.tenant = some("other")),
            (&|q| q.tool = some("refunds"), &|q| q.tool = some("refund")),
            (&|q| q.function = some("refunds.create"), &|q| {
                q.function = some("create")
            }),
            (&|q| q.decision = some("denied"), &|q| q.decision = some("permitted")),
            (&|q| q.rule = some("support"), &|q| q.rule = some("dual")),
            (&|q| q.code = Some(Code::Policy), &|q| q.code = Some(Code::Budget)),
            (&|q| q.kind = Some(Kind::CallDenied), &|q| {
                q.kind = Some(Kind::CallAccepted)
            }),
            (&|q| q.since_ms = Some(1_000), &|q| q.since_ms = Some(1_001)),
            (&|q| q.until_ms = Some(1_001), &|q| q.until_ms = Some(1_000)),
        ];
        for (number, (same, other)) in pairs.into_iter().enumerate() {
            assert!(matches(same), "{number}");
            assert!(!matches(other), "{number}");
        }
        assert!(!matches(&|q| q.user = some("ada")), "it is for nobody");
        assert!(!matches(&|q| {
            q.agent = some("assistant");
            q.tool = some("other");
        }));
    }

    /// An effect for somebody.
    fn effect() -> Entry {
        let body = EffectRefused {
            asked: None,
            cause: Cause::Guest,
            connection: Some("stripe".into()),
            effect: None,
            end: None,
            exhausted: vec![],
            hold: None,
            import: None,
            ordinal: 1,
            refused: Refused {
                code: Code::Policy,
                detail: None,
                rule: None,
            },
            route: Some("refunds.create".into()),
            rules: vec![],
            spend: None,
            tier: None,
            undoes: None,
        };
        let mut draft = EntryDraft {
            body: body.into(),
            tool: Some(Digest::of(b"tool")),
            ..draft(None)
        };
        draft.principal.as_mut().unwrap().user = Some("ada".into());
        draft.seal(Stamp::first(1_000)).unwrap()
    }

    #[test]
    fn what_is_looked_for_is_found_by_whom_it_is_for_where_it_goes_and_what_it_is_part_of() {
        type Part = fn(&mut Query) -> &mut Option<String>;
        let (effect, in_run) = (effect(), draft(Some(run())).seal(Stamp::first(1_000)).unwrap());
        let (call, run) = (format!("c_{}", "a".repeat(26)), run());
        let parts: [(&Entry, &str, &str, Part); 6] = [
            (&effect, "ada", "ad", |query| &mut query.user),
            (&effect, "stripe", "Stripe", |query| &mut query.connection),
            (&effect, "refunds.create", "refunds", |query| &mut query.route),
            (&effect, &call, "c_a", |query| &mut query.call),
            (&effect, "0af7651916cd43dd8448eb211c80319c", "0af7", |query| {
                &mut query.trace
            }),
            (&in_run, &run, "r_a", |query| &mut query.run),
        ];
        for (entry, same, other, part) in parts {
            for (word, found) in [(same, true), (other, false), ("", false)] {
                let mut query = Query::default();
                *part(&mut query) = Some(word.to_owned());
                assert_eq!(query.matches(entry, &Contexts::default()), found, "{query:?}");
            }
        }
    }

    #[test]
    fn a_text_is_found_where_it_stands() {
        let query = |text: &str| Query {
            text: Some(text.to_owned()),
            ..Query::default()
        };
        assert!(query("ab").text_in(b"xaby") && !query("ab").text_in(b"a b") && !query("ab").text_in(b""));
        assert!(Query::default().text_in(b""));
        assert!(query("").check().is_err() && query(&"x".repeat(257)).check().is_err());
        assert!(query("ab").check().is_ok());
    }

    #[test]
    fn what_is_no_word_is_told() {
        let query = Query {
            decision: Some("allow".into()),
            ..Query::default()
        };
        assert!(query.check().is_err());
        let query = Query {
            since_ms: Some(2),
            until_ms: Some(2),
            ..Query::default()
        };
        assert!(query.check().is_err());
    }
}
