//! From policy files to checked rules, or to everything that is wrong with them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::str::FromStr;

use cedar_policy::{Policy, PolicyId, PolicySet as CedarSet, Schema, ValidationMode, Validator};
use miette::Diagnostic;

use super::analysis::{self, Found, Offence};
use super::schema;
use super::source::{self, Statement};
use super::{Effect, EntityKind, Rule, Threshold};
use crate::error::{Problem, printable};
use crate::guard;

/// The longest `@id`, in bytes.
/// What to do about a file that does not parse, where Cedar does not say.
const UNREADABLE: &str =
    "a policy is `@id(\"name\") permit (principal, action, resource);`, perhaps with `when { … }` before the `;`";

const LONGEST_ID: usize = 64;
/// The longest `@hint`, in bytes.
const LONGEST_HINT: usize = 256;

/// What to do about a validator's warning that has no advice.
const SUSPICIOUS: &str = "a rule that never applies, or is not what it seems, is refused: change it or remove it";

/// What loading collects.
pub(super) struct Loader<'a> {
    sources: &'a [(String, String)],
    groups: &'a BTreeMap<String, usize>,
    pub(super) rules: Vec<Rule>,
    pub(super) policies: Vec<Policy>,
    pub(super) mentions: Vec<Mention>,
    ids: HashMap<String, usize>,
    problems: Vec<Problem>,
}

/// An entity that a policy names, and where.
#[derive(Debug)]
pub(super) struct Mention {
    pub(super) kind: EntityKind,
    pub(super) id: String,
    /// The index of the rule.
    pub(super) rule: usize,
    pub(super) span: Range<usize>,
}

/// A policy while it is looked at, with its place.
struct Place<'a> {
    file: &'a str,
    text: &'a str,
    statement: &'a Statement<'a>,
}

impl<'a> Loader<'a> {
    /// Reads, analyses and validates. The schema's text is that of the groups.
    pub(super) fn load(
        sources: &'a [(String, String)],
        groups: &'a BTreeMap<String, usize>,
        schema: &str,
    ) -> Result<Loader<'a>, Vec<Problem>> {
        let mut loader = Loader {
            sources,
            groups,
            rules: Vec::new(),
            policies: Vec::new(),
            mentions: Vec::new(),
            ids: HashMap::new(),
            problems: Vec::new(),
        };
        loader.check_groups();
        for (file, text) in sources {
            loader.read(file, text);
        }
        // What Cedar says of a policy that is refused already would only repeat it in other words.
        if loader.problems.is_empty() {
            loader.validate(schema);
        }
        if loader.problems.is_empty() {
            Ok(loader)
        } else {
            Err(loader.problems)
        }
    }

    fn check_groups(&mut self) {
        for group in self.groups.keys().filter(|group| !schema::is_group_name(group)) {
            let message = format!("`{}` cannot be the name of a group", printable(group));
            let help = "use a lower-case letter, then lower-case letters, digits, `-` and `_`, at most 64";
            self.problems
                .push(Problem::without_source(message, Some(help.to_owned())));
        }
    }

    fn read(&mut self, file: &'a str, text: &'a str) {
        let set = match CedarSet::from_str(text) {
            Ok(set) => set,
            Err(errors) => {
                return self.problems.extend(
                    errors
                        .iter()
                        .map(|error| from_cedar(file, text, error, error.to_string(), Some(UNREADABLE))),
                );
            }
        };
        for template in set.templates() {
            let message = "a policy template has no use here";
            let help = "replace `?principal` and `?resource` by what they stand for".to_owned();
            let span = text
                .find(&template.to_cedar())
                .map(|at| (at, template.to_cedar().len()).into());
            self.problems.push(Problem::in_file(
                file,
                text,
                span,
                message,
                "this is a template",
                Some(help),
            ));
        }
        let statements = source::statements(text);
        for number in 0..set.num_of_policies() {
            // Cedar numbers the policies of a file in the order they stand in it.
            if let Some(policy) = set.policy(&PolicyId::new(format!("policy{number}")))
                && let Some(statement) = statements.get(number)
            {
                self.add(&Place { file, text, statement }, policy);
            } else {
                let message = format!(
                    "{} policies were read, but number {} cannot be found",
                    set.num_of_policies(),
                    number + 1
                );
                self.problems
                    .push(Problem::in_file(file, text, None, message, "", None));
            }
        }
    }

    fn add(&mut self, place: &Place<'_>, policy: &Policy) {
        let Some(id) = self.id(place, policy) else { return };
        let hint = policy.annotation("hint").unwrap_or_default();
        if hint.len() > LONGEST_HINT || hint.chars().any(char::is_control) {
            let help = format!("agents are shown the hint: one line of at most {LONGEST_HINT} bytes");
            self.problem(
                place,
                place.statement.annotation("hint"),
                format!("the hint of rule `{id}` cannot be shown"),
                "this hint",
                &help,
            );
        }
        let approvals = self.analyse(place, policy, &id);
        let rule = self.rules.len();
        let span = place.statement.span();
        let entities = place.statement.entities();
        self.mentions.extend(entities.filter_map(|(kind, id, span)| {
            EntityKind::of(kind).map(|kind| Mention {
                kind,
                id: id.to_owned(),
                rule,
                span,
            })
        }));
        self.ids.insert(id.clone(), rule);
        self.policies.push(policy.new_id(PolicyId::new(&id)));
        self.rules.push(Rule {
            effect: match policy.effect() {
                cedar_policy::Effect::Permit => Effect::Permit,
                cedar_policy::Effect::Forbid => Effect::Forbid,
            },
            file: place.file.to_owned(),
            line: line_of(place.text, span.start),
            annotations: policy
                .annotations()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            approvals,
            id,
        });
    }

    /// The policy's `@id`, if it has one that no other has.
    fn id(&mut self, place: &Place<'_>, policy: &Policy) -> Option<String> {
        let Some(id) = policy.annotation("id") else {
            let help = "write @id(\"a-name\") before it: refusals and the ledger name the rule";
            self.problem(
                place,
                place.statement.effect(),
                "a policy has no @id".to_owned(),
                "this policy",
                help,
            );
            return None;
        };
        let span = place.statement.annotation("id");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.len() > LONGEST_ID || !id.chars().all(plain) {
            let help = format!("use 1 to {LONGEST_ID} letters, digits, `-`, `_` and `.`");
            self.problem(
                place,
                span,
                format!("`{}` cannot be the @id of a policy", printable(id)),
                "this @id",
                &help,
            );
            return None;
        }
        // The guard's condition is that there is no such rule.
        if let Some(first) = self.ids.get(id).and_then(|index| self.rules.get(*index))
            && !guard!("policy.unique-id", false)
        {
            let help = format!("the first is in {} at line {}", first.file, first.line);
            self.problem(
                place,
                span,
                format!("two policies have the @id `{id}`"),
                "the second",
                &help,
            );
            return None;
        }
        Some(id.to_owned())
    }

    /// Refuses what [`analysis`] finds, and returns the thresholds of the policy.
    fn analyse(&mut self, place: &Place<'_>, policy: &Policy, id: &str) -> Vec<Threshold> {
        let tree = match policy.to_pst() {
            Ok(tree) => tree,
            Err(error) => {
                let span = place.statement.span();
                self.problem(
                    place,
                    span,
                    format!("rule `{id}` cannot be analysed: {error}"),
                    "this policy",
                    "write it another way",
                );
                return Vec::new();
            }
        };
        let body = tree.body();
        let findings = analysis::examine(body.effect, body.clauses());
        for offence in findings.offences {
            self.offence(place, id, offence);
        }
        findings
            .thresholds
            .into_iter()
            .filter_map(|found| self.threshold(place, id, found))
            .collect()
    }

    fn offence(&mut self, place: &Place<'_>, id: &str, offence: Offence) {
        // An offence is never what the rule asks for, so each guard's condition is simply false.
        let passes = match offence {
            Offence::Arithmetic => guard!("policy.arithmetic", false),
            Offence::BareContext | Offence::Approvals { .. } => guard!("policy.approvals", false),
            Offence::Unknown => false,
        };
        if passes {
            return;
        }
        let statement = place.statement;
        let (span, message, label, help) = match offence {
            Offence::Arithmetic => (
                statement.arithmetic(),
                "does arithmetic",
                "not in a policy",
                "Cedar skips a policy that overflows, a forbid too. Compare with constants: sums are made by the host",
            ),
            Offence::BareContext => (
                statement.bare_context(),
                "uses the context as a whole",
                "no attribute is taken of it",
                "name the fact: context.NAME",
            ),
            Offence::Approvals { nth } => (
                statement.approvals(nth),
                "uses approvals so that one more could permit less",
                "not in this way, or not here",
                "write context.approvals.GROUP >= N in a permit's `when` or a forbid's `unless`, joined by && and || only",
            ),
            Offence::Unknown => (
                statement.span(),
                "has an expression that cannot be analysed",
                "in this policy",
                "write it another way",
            ),
        };
        self.problem(place, span, format!("rule `{id}` {message}"), label, help);
    }

    /// A threshold that its group can reach. A group without members is not enrolled yet: its threshold is simply never reached.
    fn threshold(&mut self, place: &Place<'_>, id: &str, found: Found) -> Option<Threshold> {
        let span = place.statement.approvals(found.nth);
        let Some(&members) = self.groups.get(&found.group) else {
            let names: Vec<_> = self.groups.keys().map(String::as_str).collect();
            let help = match names.as_slice() {
                [] => "no group is configured: add [group.NAME] to ambit.toml".to_owned(),
                names => format!("the groups of ambit.toml are {}", names.join(", ")),
            };
            self.problem(
                place,
                span,
                format!("rule `{id}` asks for a group that is not configured"),
                "no such group",
                &help,
            );
            return None;
        };
        let at_least = match usize::try_from(found.at_least) {
            Ok(0) | Err(_) => {
                let message = format!("rule `{id}` asks for {} approvals", found.at_least);
                self.problem(
                    place,
                    span,
                    message,
                    "at least 1",
                    "a threshold that needs nobody is always reached",
                );
                return None;
            }
            Ok(at_least) => at_least,
        };
        if !guard!("policy.threshold", members == 0 || at_least <= members) {
            let message = format!(
                "rule `{id}` asks for {at_least} approvals of `{}`, which has {members}",
                found.group
            );
            self.problem(
                place,
                span,
                message,
                "can never be reached",
                "ask for fewer, or add members to the group",
            );
            return None;
        }
        Some(Threshold {
            group: found.group,
            at_least,
        })
    }

    /// Strict validation. A warning is an error here: it is about a policy that can never apply, or that does not say what it seems to.
    fn validate(&mut self, schema: &str) {
        let schema = match Schema::from_cedarschema_str(schema) {
            Ok((schema, _)) => schema,
            Err(error) => {
                let message = format!("the policy schema could not be made: {error}");
                return self.problems.push(Problem::without_source(message, None));
            }
        };
        let set = match CedarSet::from_policies(self.policies.iter().cloned()) {
            Ok(set) => set,
            Err(error) => return self.problems.push(Problem::without_source(error.to_string(), None)),
        };
        let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
        let errors = result
            .validation_errors()
            .map(|error| (error.policy_id(), error as &dyn Diagnostic));
        let mut found: Vec<Validation> = errors
            .map(|(policy, error)| self.validation(policy, error, None))
            .collect();
        let warnings = result
            .validation_warnings()
            .map(|warning| (warning.policy_id(), warning as &dyn Diagnostic));
        for (policy, warning) in warnings {
            let warning = self.validation(policy, warning, Some(SUSPICIOUS));
            // Of a rule with an error, a warning says what follows from it.
            if !found.iter().any(|error| error.rule == warning.rule) {
                found.push(warning);
            }
        }
        // Cedar's order is that of a hash map, and it says the same for each action that a rule is for.
        found.sort_by(|a, b| a.key().cmp(&b.key()));
        found.dedup_by(|a, b| a.key() == b.key());
        if !guard!("policy.validation", found.is_empty()) {
            self.problems
                .extend(found.into_iter().map(|validation| validation.problem));
        }
    }

    fn validation(&self, policy: &PolicyId, diagnostic: &dyn Diagnostic, advice: Option<&str>) -> Validation {
        let rule = self.ids.get(AsRef::<str>::as_ref(policy)).copied();
        let message = without_action(&diagnostic.to_string())
            .replacen("for policy", "rule", 1)
            .replacen("`, ", "`: ", 1);
        let source = rule
            .and_then(|rule| self.rules.get(rule))
            .and_then(|rule| self.source_of(&rule.file));
        let problem = match source {
            Some((file, text)) => from_cedar(file, text, diagnostic, message, advice),
            None => Problem::without_source(message, None),
        };
        Validation { rule, problem }
    }

    fn source_of(&self, file: &str) -> Option<(&'a str, &'a str)> {
        self.sources
            .iter()
            .find(|(name, _)| name == file)
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }

    fn problem(&mut self, place: &Place<'_>, span: Range<usize>, message: String, label: &str, help: &str) {
        let span = Some((span.start, span.len()).into());
        self.problems.push(Problem::in_file(
            place.file,
            place.text,
            span,
            message,
            label,
            Some(help.to_owned()),
        ));
    }
}

/// What the validator says of one rule.
struct Validation {
    rule: Option<usize>,
    problem: Problem,
}

impl Validation {
    fn key(&self) -> (Option<usize>, Option<usize>, &str) {
        (
            self.rule,
            self.problem.span().map(|span| span.offset()),
            self.problem.message(),
        )
    }
}

/// The message without ` for Action::"…"`: the context is the same for all actions.
fn without_action(message: &str) -> String {
    const BEFORE: &str = " for Action::\"";
    match message
        .split_once(BEFORE)
        .and_then(|(head, tail)| Some((head, tail.split_once('"')?.1)))
    {
        Some((head, tail)) => format!("{head}{tail}"),
        None => message.to_owned(),
    }
}

/// What Cedar says, with the place it says it of, and with `advice` where it has none of its own.
fn from_cedar<D: Diagnostic + ?Sized>(
    file: &str,
    text: &str,
    found: &D,
    message: String,
    advice: Option<&str>,
) -> Problem {
    let label = found.labels().and_then(|mut labels| labels.next());
    let span = label.as_ref().map(|label| *label.inner());
    let said = label.and_then(|label| label.label().map(str::to_owned));
    let help = found
        .help()
        .map(|help| help.to_string())
        .or_else(|| advice.map(str::to_owned));
    Problem::in_file(
        file,
        text,
        span,
        message,
        said.unwrap_or_else(|| "here".to_owned()),
        help,
    )
}

/// The number of the line, from 1, that has the byte.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
