//! Refusals: one vocabulary for the guest, the agent, the operator and the ledger.
//!
//! A [`Refusal`] is about a call or an effect; a [`Problem`] is about a file that an operator wrote.

use std::fmt;
use std::str::FromStr;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Which rule refused. The words are stable: guests, agents and ledger readers may match on them.
        #[non_exhaustive]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The words of all of them.
            pub const WORDS: &[&'static str] = &[$($text,)+];

            /// The one of this word.
            #[must_use]
            pub fn of(word: &str) -> Option<Self> {
                Self::ALL.iter().find(|code| code.as_str() == word).copied()
            }

            /// The word, such as `policy-error`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

codes! {
    /// The component's declaration does not cover the request.
    Scope = "scope",
    /// The connection has no route for the request.
    Route = "route",
    /// A body member is not declared, not routed, or missing.
    Field = "field",
    /// A header may not be set by the guest, or is malformed.
    Header = "header",
    /// A query parameter is not declared, not routed, or malformed.
    Query = "query",
    /// The path is not one that the host would write.
    Path = "path",
    /// The body is not what its type says, or is given twice.
    Body = "body",
    /// The caller gave away this right for this call.
    Narrowing = "narrowing",
    /// The effect does more than its function declares.
    Tier = "tier",
    /// The amount or currency cannot be read, or is over the route's cap.
    Money = "money",
    /// What the effect would change cannot be read.
    Object = "object",
    /// Policy does not permit it.
    Policy = "policy",
    /// A policy could not be evaluated; that denies.
    PolicyError = "policy-error",
    /// It waits for approvals.
    Held = "held",
    /// It is the first effect of a dry run that would change something: the call ends there.
    DryRun = "dry-run",
    /// The people asked did not approve it, or not in time; or a vote does not count.
    Approval = "approval",
    /// What it stood on when it was approved is no longer so.
    Stale = "stale",
    /// An operator has stopped it.
    Killed = "killed",
    /// Its caller has taken it back.
    Cancelled = "cancelled",
    /// An operator lets nothing be changed for now.
    SafeMode = "safe-mode",
    /// The host ends: what runs goes on when it is back, and what is new can be asked for again then.
    Suspended = "suspended",
    /// The run is not the caller's, is over, or no longer allows it.
    Run = "run",
    /// Nobody knows whether an effect happened, and an operator has not said.
    Doubt = "doubt",
    /// Of the call there is nothing to undo, or not now; or what took an effect back did not do it.
    Undo = "undo",
    /// An operator found that the effect did not happen.
    NotDone = "not-done",
    /// A budget has not enough left.
    Budget = "budget",
    /// An import is not bound to a connection.
    Binding = "binding",
    /// The call's arguments do not fit the function.
    Arguments = "arguments",
    /// No such tool, or not the accepted one.
    Tool = "tool",
    /// No such function.
    Function = "function",
    /// The caller is not known, or may not act for that user.
    Caller = "caller",
    /// The name resolves to nothing, or to an address that connections may not reach.
    Address = "address",
    /// The connection's credential could not be had.
    Credential = "credential",
    /// The peer did not prove that it is the origin.
    Tls = "tls",
    /// A size or time limit of the gate.
    Limit = "limit",
    /// Too many requests for now, by the operator's limit or the service's own word.
    Rate = "rate",
    /// The service failed too often of late, and is left alone for a while.
    Breaker = "breaker",
    /// The guest used up its fuel.
    Fuel = "fuel",
    /// The guest asked for more memory than it may have.
    Memory = "memory",
    /// The guest's stack is exhausted.
    Stack = "stack",
    /// The call's wall-clock time is over.
    Time = "time",
    /// The guest trapped.
    Trap = "trap",
    /// The guest logged more than it may.
    Log = "log",
    /// The guest's result is too large, or not what its type says.
    Result = "result",
    /// The call did as many effects as it may.
    Effects = "effects",
    /// The component cannot be loaded.
    Load = "load",
    /// The ledger cannot record it, so it does not happen.
    Ledger = "ledger",
    /// The host's configuration does not allow it, or is wrong.
    Config = "config",
    /// A call once more from its record is not what it was.
    Diverged = "diverged",
    /// A fault of the host itself.
    Internal = "internal",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word is not a refusal code of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a refusal code")]
pub struct UnknownCode(String);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL
            .iter()
            .find(|code| code.as_str() == text)
            .copied()
            .ok_or_else(|| UnknownCode(printable(text)))
    }
}

/// Why something was refused, and what to do about it.
///
/// Holds no secret. Guest-written text goes in through [`printable`] only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Which rule refused.
    pub code: Code,
    /// What was refused and why: one sentence that names the thing.
    pub message: String,
    /// What the reader can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The `@id` of the policy that decided, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl Refusal {
    /// A refusal by the rule `code`.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            advice: None,
            rule: None,
        }
    }

    /// With what the reader can do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// With the policy that decided.
    #[must_use]
    pub fn rule(mut self, id: impl Into<String>) -> Self {
        self.rule = Some(id.into());
        self
    }
}

/// How much of a foreign text a message quotes, in bytes.
const QUOTED: usize = 256;

/// Foreign text, fit to be quoted in a message: control and text-direction characters are written as escapes, and what is
/// longer than 256 bytes is cut at a character and ends in `…`.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(QUOTED));
    for c in text.chars() {
        let start = out.len();
        if is_hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        if out.len() > QUOTED {
            out.truncate(start);
            out.push('…');
            break;
        }
    }
    out
}

/// Whether a character shows nothing where it stands, or changes how the text around it is shown: controls, the ends of lines
/// and paragraphs, all of Unicode's `Default_Ignorable_Code_Point` (16.0), the marks of interlinear notes, and the empty braille cell.
/// A text can hold another one in such characters, which a model reads and a person does not see.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The same JSON, with every character in its texts escaped that shows nothing. Outside of texts JSON has none but the ends of lines and
/// what indents them, which stay.
#[must_use]
pub fn visible_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) && !matches!(c, '\n' | '\r' | '\t') {
            // As UTF-16: what is beyond the first plane is a pair.
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Something wrong in a file that an operator wrote: what, where, and the way out.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    message: String,
    source: Option<NamedSource<String>>,
    span: Option<SourceSpan>,
    label: String,
    help: Option<String>,
}

impl Problem {
    /// A problem in the file `name` with the contents `text`; the `span` is underlined and says `label`.
    #[must_use]
    pub fn in_file(
        name: &str,
        text: &str,
        span: Option<SourceSpan>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        Self(Box::new(Parts {
            message: message.into(),
            source: Some(NamedSource::new(name, text.to_owned())),
            span,
            label: label.into(),
            help,
        }))
    }

    /// A problem that no place in a file shows, such as a file that is missing.
    #[must_use]
    pub fn without_source(message: impl Into<String>, help: Option<String>) -> Self {
        Self(Box::new(Parts {
            message: message.into(),
            source: None,
            span: None,
            label: String::new(),
            help,
        }))
    }

    /// What is wrong, in one sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The file's name, where there is one.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.0.source.as_ref().map(NamedSource::name)
    }

    /// The underlined bytes.
    #[must_use]
    pub fn span(&self) -> Option<SourceSpan> {
        self.0.span
    }

    /// What the underline says.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// What to do.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0
            .help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display + 'a>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.0.span?;
        let label = Some(self.0.label.clone()).filter(|label| !label.is_empty());
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(
            label, span,
        ))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
            assert!(
                code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{code}"
            );
        }
        assert!("scopes".parse::<Code>().is_err());
    }

    #[test]
    fn a_refusal_reads_back() {
        let refusal = Refusal::new(Code::Policy, "refunds above 500.00 usd are not permitted").rule("support-refunds");
        let text = serde_json::to_string(&refusal).unwrap();
        assert_eq!(
            text,
            r#"{"code":"policy","message":"refunds above 500.00 usd are not permitted","rule":"support-refunds"}"#
        );
        assert_eq!(serde_json::from_str::<Refusal>(&text).unwrap(), refusal);
    }

    #[test]
    fn trap_19_foreign_text_is_harmless_and_short() {
        assert_eq!(printable("\u{1b}[31mred\r\n"), "\\u{1b}[31mred\\u{d}\\u{a}");
        assert_eq!(printable("a\u{202e}b\u{200b}"), "a\\u{202e}b\\u{200b}");
        for text in ["é".repeat(5000), "\u{1b}".repeat(5000), format!("{}é", "x".repeat(255))] {
            let shown = printable(&text);
            assert!(shown.len() <= QUOTED + '…'.len_utf8(), "{}", shown.len());
            assert!(shown.ends_with('…'));
        }
        assert_eq!(printable(&"x".repeat(256)), "x".repeat(256));
    }

    #[test]
    fn what_shows_nothing_is_written_out() {
        for c in [
            '\u{ad}',
            '\u{34f}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180f}',
            '\u{200d}',
            '\u{2066}',
            '\u{2800}',
            '\u{3164}',
            '\u{fe00}',
            '\u{fe0f}',
            '\u{ffa0}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0100}',
            '\u{e01ef}',
            '\u{9f}',
            '\u{7f}',
        ] {
            assert!(is_hidden(c), "{c:?}");
            assert!(printable(&format!("a{c}b")).is_ascii(), "{c:?}");
            let json = serde_json::json!({ "text": format!("a{c}b") });
            let shown = visible_json(&json.to_string());
            assert!(shown.is_ascii() && !shown.contains('\u{7f}'), "{c:?}: {shown}");
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
                json,
                "{c:?}"
            );
        }
        for c in ['a', ' ', 'é', '漢', '\u{301}', '👍', '\u{a0}'] {
            assert!(!is_hidden(c), "{c:?}");
        }
        let pretty = serde_json::to_string_pretty(&serde_json::json!({ "a": ["é\n", 1] })).unwrap();
        assert_eq!(visible_json(&pretty), pretty);
    }

    #[test]
    fn a_problem_is_a_whole_diagnostic() {
        let problem = Problem::in_file(
            "ambit.toml",
            "orgin = 1\n",
            Some((0, 5).into()),
            "unknown key `orgin`",
            "here",
            Some("did you mean `origin`?".into()),
        );
        assert_eq!(problem.to_string(), "unknown key `orgin`");
        assert_eq!(problem.file(), Some("ambit.toml"));
        assert_eq!(problem.help().unwrap().to_string(), "did you mean `origin`?");
        let labels: Vec<_> = problem.labels().unwrap().collect();
        assert_eq!(
            (labels.len(), labels[0].label(), labels[0].offset(), labels[0].len()),
            (1, Some("here"), 0, 5)
        );
    }
}
