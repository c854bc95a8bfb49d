//! Ids and names on the command line: one rule for what they name, and one wording for what they do not.
//!
//! An id may be given by a beginning that only one thing has. An id or a name that nothing has, or a beginning that several have, is a slip
//! in the arguments ([`Exit::Usage`]), told with the command that lists what there is. What is there, and cannot
//! be done anything about, is a refusal.

use ambit_runtime::config::nearest;

use crate::output::{Exit, Failure, untrusted};

/// What an id is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call, by its own id.
    Call,
    /// A run, by its own id.
    Run,
    /// An effect that waits, by its hold's id or its call's.
    Hold,
    /// An effect that failed for good, by its call's id.
    Letter,
    /// A webhook's message that nobody took, by its own id.
    Message,
}

impl Kind {
    /// What none, or several, of are there, up to the beginning that was given.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Kind::Call => (
                "no call has an id that begins with",
                "several calls have ids that begin with",
            ),
            Kind::Run => (
                "no run has an id that begins with",
                "several runs have ids that begin with",
            ),
            Kind::Hold => (
                "nothing waits whose hold or call has an id that begins with",
                "several holds wait whose ids, or whose calls' ids, begin with",
            ),
            Kind::Letter => (
                "no dead letter is of a call whose id begins with",
                "several dead letters are of calls whose ids begin with",
            ),
            Kind::Message => (
                "no message that was given up has an id that begins with",
                "several messages that were given up have ids that begin with",
            ),
        }
    }

    /// Where ids of the kind are found.
    const fn listed(self) -> &'static str {
        match self {
            Kind::Call => "`ambit audit list` prints the newest calls.",
            Kind::Run => "`ambit run list` prints the runs there are.",
            Kind::Hold => "`ambit approvals list` prints what waits. What has been decided is not there any more.",
            Kind::Letter => "`ambit dead-letters list` prints them. What was retried or dropped is not there any more.",
            Kind::Message => "`ambit webhooks dead` prints them. What was sent again or dropped is not there any more.",
        }
    }
}

/// Nothing of the kind has an id that begins so.
pub(crate) fn unknown(kind: Kind, given: &str) -> Failure {
    let (none, _) = kind.words();
    let failure = Failure::usage(format!("{none} `{}`", untrusted(given)));
    match kind {
        Kind::Call if given.starts_with("r_") => {
            let run = untrusted(given);
            failure.advise(format!(
                "`{run}` is the id of a run, and a call is asked for: `ambit run show {run}` prints its calls."
            ))
        }
        _ => failure.advise(kind.listed()),
    }
}

/// Several things of the kind have ids that begin so: `found` are some of them.
pub(crate) fn several(kind: Kind, given: &str, found: &[String]) -> Failure {
    let (_, several) = kind.words();
    Failure::usage(format!("{several} `{}`", untrusted(given)))
        .advise(format!("Write more of it. Among them: {}.", found.join(", ")))
}

/// There is no `what` of that name: the one that was most likely meant, or all there are.
pub(crate) fn no_such<'n>(what: &str, given: &str, known: impl IntoIterator<Item = &'n str>) -> Failure {
    let known: Vec<&str> = known.into_iter().collect();
    let failure = Failure::usage(format!("there is no {what} `{}`", untrusted(given)));
    failure.advise(match (nearest(given, known.iter().copied()), known.as_slice()) {
        (Some(near), _) => format!("Did you mean `{}`?", untrusted(near)),
        (None, []) => "The home has none.".to_owned(),
        (None, known) => format!("Those there are: {}.", untrusted(&known.join(", "))),
    })
}

/// What a command failed with; where it was refused because there is no `what` of that name, that, as every command says it.
pub(crate) fn or_no_such<'n>(
    failure: Failure,
    what: &str,
    given: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Failure {
    let known: Vec<&str> = known.into_iter().collect();
    if failure.exit() == Exit::Refused && !known.contains(&given) {
        return no_such(what, given, known);
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(failure: &Failure) -> (Exit, String) {
        let Failure::Message { exit, message, advice } = failure else {
            return (Exit::Internal, String::new());
        };
        (*exit, format!("{message} / {}", advice.clone().unwrap_or_default()))
    }

    #[test]
    fn an_id_of_nothing_is_a_slip_and_says_where_ids_are_found() {
        let kinds = [
            (Kind::Call, "audit list"),
            (Kind::Run, "run list"),
            (Kind::Hold, "approvals list"),
            (Kind::Letter, "dead-letters list"),
            (Kind::Message, "webhooks dead"),
        ];
        for (kind, list) in kinds {
            let (exit, text) = told(&unknown(kind, "x\u{1b}"));
            assert_eq!(exit, Exit::Usage, "{text}");
            assert!(
                text.contains("`x\\u{1b}`") && text.contains(&format!("`ambit {list}`")),
                "{text}"
            );
            let (exit, text) = told(&several(kind, "c_", &["c_a".to_owned(), "c_b".to_owned()]));
            assert_eq!(exit, Exit::Usage, "{text}");
            assert!(
                text.contains("several") && text.contains("Among them: c_a, c_b."),
                "{text}"
            );
        }
        let (_, text) = told(&unknown(Kind::Call, "r_abc"));
        assert!(text.contains("`ambit run show r_abc` prints its calls"), "{text}");
    }

    #[test]
    fn a_name_that_is_nearly_one_is_told() {
        let known = ["assistant", "biller"];
        let (exit, text) = told(&no_such("agent", "asistant", known));
        assert_eq!(exit, Exit::Usage);
        assert_eq!(text, "there is no agent `asistant` / Did you mean `assistant`?");
        let (_, text) = told(&no_such("agent", "nobody-at-all", known));
        assert_eq!(
            text,
            "there is no agent `nobody-at-all` / Those there are: assistant, biller."
        );
        let (_, text) = told(&no_such("agent", "x", []));
        assert!(text.ends_with("The home has none."), "{text}");
    }

    #[test]
    fn only_a_refusal_for_want_of_a_name_becomes_one() {
        let refused = || Failure::refused("no");
        assert_eq!(or_no_such(refused(), "tool", "a", ["a"]).exit(), Exit::Refused);
        assert_eq!(or_no_such(refused(), "tool", "b", ["a"]).exit(), Exit::Usage);
        let internal = Failure::internal("the disk");
        assert_eq!(or_no_such(internal, "tool", "b", ["a"]).exit(), Exit::Internal);
    }
}
