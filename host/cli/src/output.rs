//! What people and programs read: data to standard output, all else to standard error.

use std::fmt::Display;
use std::io::Write;

use ambit_core::error::{Problem, Refusal};
use ambit_runtime::call::{Fault, Listener, Progress};
use ambit_runtime::host::OpenError;
use ambit_runtime::store::StoreError;
use anstyle::{AnsiColor, Style};
use miette::{Diagnostic, Severity};
use serde::Serialize;

use crate::args::{Color, Format};

/// How the command ended, as a process exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked, and a call that it made or went on with came to a result.
    Done = 0,
    /// Policy, a limit or a check said no, or the tool did.
    Refused = 1,
    /// Arguments or configuration cannot be used: an id or a name of nothing among them.
    Usage = 2,
    /// The host itself failed.
    Internal = 3,
    /// An effect waits for approvals, and the call with it, or would wait if the dry run were none; or a call waits until safe mode is lifted.
    Held = 4,
}

/// Everything that can end a command early, with the exit code it means.
#[derive(Debug)]
pub(crate) enum Failure {
    /// One clear sentence, and what to do about it.
    Message {
        exit: Exit,
        message: String,
        advice: Option<String>,
    },
    /// Diagnostics in the operator's files.
    Problems(Vec<Problem>),
}

impl Failure {
    /// What it is, in one sentence: for one of several things that were done.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Failure::Message { message, .. } => message.clone(),
            Failure::Problems(problems) => {
                let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
                all.join("; ")
            }
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::Message {
            exit: Exit::Usage,
            message: message.into(),
            advice: None,
        }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Failure {
        Failure::Message {
            exit: Exit::Refused,
            message: message.into(),
            advice: None,
        }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Failure {
        Failure::Message {
            exit: Exit::Internal,
            message: message.into(),
            advice: None,
        }
    }

    pub(crate) fn advise(self, text: impl Into<String>) -> Failure {
        match self {
            Failure::Message { exit, message, .. } => Failure::Message {
                exit,
                message,
                advice: Some(text.into()),
            },
            problems => problems,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Message { exit, .. } => *exit,
            Failure::Problems(_) => Exit::Usage,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Message {
            exit: Exit::Refused,
            message: refusal.message,
            advice: refusal.advice,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let exit = match &error {
            // A home that is not there was named by mistake.
            StoreError::Missing { .. } => Exit::Usage,
            _ => Exit::Internal,
        };
        Failure::Message {
            exit,
            message: error.to_string(),
            advice: error.advice(),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        match error {
            OpenError::Problems(problems) => Failure::Problems(problems),
            OpenError::Store(error) => error.into(),
            OpenError::Refused(refusal) => refusal.into(),
            OpenError::Home(message) => Failure::internal(message),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        match fault {
            Fault::Store(error) => error.into(),
            other => Failure::internal(other.to_string()),
        }
    }
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Failure {
        Failure::Problems(problems)
    }
}

/// Colours by meaning. Streams strip them where they do not belong.
pub(crate) mod style {
    use super::{AnsiColor, Style};
    pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
    pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
    pub(crate) const WARN: Style = AnsiColor::Yellow.on_default().bold();
    pub(crate) const HEAD: Style = Style::new().bold();
    pub(crate) const DIM: Style = Style::new().dimmed();
}

/// Applies `--color` and `NO_COLOR` to both streams.
pub(crate) fn set_color(color: Color) {
    let choice = match color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
}

/// Where a command's result goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
}

impl Output {
    /// Prints `value` as one JSON document, or calls `human` for people.
    pub(crate) fn result<T: Serialize>(
        self,
        value: &T,
        human: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        match self.format {
            Format::Json => serde_json::to_string_pretty(value)
                .map_err(std::io::Error::from)
                .and_then(|text| writeln!(out, "{}", escaped(&text))),
            Format::Human => human(&mut out),
        }
        .or_else(closed_pipe_is_fine)
        .map_err(|e| Failure::internal(format!("standard output cannot be written: {e}")))
    }
}

/// Prints a document that is already text.
pub(crate) fn raw(text: &str) -> Result<(), Failure> {
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .or_else(closed_pipe_is_fine)
        .map_err(|e| Failure::internal(format!("standard output cannot be written: {e}")))
}

/// `ambit … | head` is no failure.
fn closed_pipe_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        Ok(())
    } else {
        Err(error)
    }
}

/// So many things, in words.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A line for people on standard error.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints why the command ended early: what and why, a blank line, what to do.
pub(crate) fn report(failure: &Failure) {
    let problems = match failure {
        Failure::Message { message, advice, .. } => return error(message, advice.as_deref()),
        Failure::Problems(problems) => problems,
    };
    match problems.as_slice() {
        // Nothing to point at.
        [only] if only.file().is_none() => error(only.message(), only.advice()),
        several => {
            several
                .iter()
                .for_each(|problem| note(render(problem, Severity::Error)));
            let number = several.len() as u64;
            error(
                &format!("{}; nothing was changed", count(number, "problem", "problems")),
                None,
            );
        }
    }
}

fn error(message: &str, advice: Option<&str>) {
    let bad = style::BAD;
    note(format!(
        "{}error:{} {}",
        bad.render(),
        bad.render_reset(),
        untrusted(message)
    ));
    if let Some(advice) = advice {
        note(format!("\n{}", untrusted(&sentence(advice))));
    }
}

/// Prints a diagnostic that is no failure.
pub(crate) fn warn(problem: &Problem) {
    note(render(problem, Severity::Warning));
}

/// One diagnostic with file, line, underline and help. What it quotes of a file cannot drive the terminal.
fn render(problem: &Problem, severity: Severity) -> String {
    let mut text = String::new();
    let theme = miette::GraphicalTheme::unicode_nocolor();
    let handler = miette::GraphicalReportHandler::new_themed(theme).with_width(100);
    match handler.render_report(&mut text, &Shown { problem, severity }) {
        Ok(()) => untrusted(&text),
        Err(_) => untrusted(&problem.to_string()),
    }
}

/// A problem as it is shown: not each is an error.
#[derive(Debug)]
struct Shown<'p> {
    problem: &'p Problem,
    severity: Severity,
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.problem.help()
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.problem.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        self.problem.labels()
    }
}

/// Advice as a sentence of its own: it stands in refusals as a part of one.
pub(crate) fn sentence(advice: &str) -> String {
    let mut chars = advice.chars();
    let mut text: String = chars
        .next()
        .map(|first| first.to_uppercase().collect())
        .unwrap_or_default();
    text.push_str(chars.as_str());
    if text.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | '`' | '"')) {
        text.push('.');
    }
    text
}

/// Text that a guest, an agent or an upstream wrote, made safe for a terminal: control and escape characters are shown,
/// not obeyed. Lines stay lines.
pub(crate) fn untrusted(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => "\n".to_owned(),
            c if c.is_control() || is_bidi_control(c) => c.escape_unicode().to_string(),
            c => c.to_string(),
        })
        .collect()
}

/// A JSON document with every character escaped that a terminal would obey. JSON itself asks for that below U+0020 alone,
/// and programs read the same from both. Outside of strings there is no such character but the ends of lines.
pub(crate) fn escaped(json: &str) -> String {
    json.chars()
        .map(|c| match c {
            c if c != '\n' && (c.is_control() || is_bidi_control(c)) => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

/// Says on a terminal that something takes a while, until the value is dropped; elsewhere nothing.
#[must_use = "it is shown for as long as it lives"]
pub(crate) struct Working(indicatif::ProgressBar);

pub(crate) fn working(what: &'static str) -> Working {
    let bar = indicatif::ProgressBar::new_spinner().with_message(what);
    if !bar.is_hidden() {
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
    }
    Working(bar)
}

impl Working {
    /// Shows beside it what a tool says of how far it is.
    pub(crate) fn listener(&self) -> Listener {
        let (bar, what) = (self.0.clone(), self.0.message());
        Listener::new(move |progress| bar.set_message(format!("{what}: {}", told(progress))))
    }
}

/// A tool's report on one line.
fn told(progress: Progress<'_>) -> String {
    const MOST: usize = 60;
    let Progress { done, total, message } = progress;
    let steps = match total {
        0 => done.to_string(),
        total => format!("{done} of {total}"),
    };
    let words: String = message.chars().take(MOST).collect();
    let words = untrusted(&words).replace('\n', " ");
    if words.is_empty() {
        steps
    } else {
        format!("{steps}, {words}")
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Characters that reorder what a reader sees.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_text_cannot_drive_the_terminal() {
        assert_eq!(
            untrusted("a\u{1b}[2Jb\r\u{202e}c\nd"),
            "a\\u{1b}[2Jb\\u{d}\\u{202e}c\nd"
        );
    }

    #[test]
    fn a_tool_s_progress_is_one_line_of_plain_text() {
        let told = |done, total, message| told(Progress { done, total, message });
        assert_eq!(told(3, 0, ""), "3");
        assert_eq!(told(3, 9, "rows\n\u{1b}[2J"), "3 of 9, rows \\u{1b}[2J");
        assert!(told(3, 9, &"x".repeat(1_000)).len() < 80);
    }

    #[test]
    fn json_cannot_drive_the_terminal_and_stays_what_it_is() {
        let value = serde_json::json!({ "a\u{9b}31m": "\u{202e}b\u{7f}\u{1b}[2J\n" });
        let text = escaped(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(text, "{\n  \"a\\u009b31m\": \"\\u202eb\\u007f\\u001b[2J\\n\"\n}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
