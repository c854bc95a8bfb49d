//! A page as what it consists of, and that as Markdown or HTML. Words of components and names of configuration go through here alone, so
//! that none of them is ever markup.

use std::fmt::Write;

use data_encoding::BASE64;

use crate::digest::Digest;
use crate::error::printable;

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) title: Vec<Span>,
    pub(super) parts: Vec<Part>,
}

/// A part of a page.
#[derive(Debug)]
pub(super) enum Part {
    /// A heading: of a tool (2) or of a section of it (3).
    Heading(u8, Vec<Span>),
    /// A paragraph.
    Text(Vec<Span>),
    /// Points, each a line.
    List(Vec<Vec<Span>>),
    /// A table: its head, and rows of as many cells.
    Table(Vec<&'static str>, Vec<Vec<Vec<Span>>>),
    /// Lines as they are.
    Listing(String),
}

/// A run of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Span {
    /// Words.
    Plain(String),
    /// A name, or what somebody else wrote.
    Code(String),
}

/// Words.
pub(super) fn say(text: impl Into<String>) -> Span {
    Span::Plain(text.into())
}

/// A name, or what somebody else wrote.
pub(super) fn name(text: impl AsRef<str>) -> Span {
    Span::Code(text.as_ref().to_owned())
}

/// Names with commas between them; `none` where there are none.
pub(super) fn names<'a>(all: impl IntoIterator<Item = &'a String>, none: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for one in all {
        if !spans.is_empty() {
            spans.push(say(", "));
        }
        spans.push(name(one));
    }
    if spans.is_empty() && !none.is_empty() {
        spans.push(say(none));
    }
    spans
}

impl Page {
    pub(super) fn markdown(&self) -> String {
        let mut out = format!("# {}\n", md(&self.title));
        for part in &self.parts {
            out.push('\n');
            match part {
                Part::Heading(level, text) => {
                    let marks = "#".repeat(usize::from(*level));
                    line(&mut out, &format!("{marks} {}", md(text)));
                }
                Part::Text(text) => line(&mut out, &md(text)),
                Part::List(points) => points
                    .iter()
                    .for_each(|point| line(&mut out, &format!("- {}", md(point)))),
                Part::Table(head, rows) => {
                    line(&mut out, &format!("| {} |", head.join(" | ")));
                    line(&mut out, &format!("|{}", "---|".repeat(head.len())));
                    for row in rows {
                        let cells: Vec<String> = row.iter().map(|cell| md(cell).replace('|', "\\|")).collect();
                        line(&mut out, &format!("| {} |", cells.join(" | ")));
                    }
                }
                Part::Listing(text) => {
                    let fence = "`".repeat(longest_run(text, '`').max(2) + 1);
                    line(&mut out, &format!("{fence}cedar\n{}\n{fence}", safe_lines(text)));
                }
            }
        }
        out
    }

    pub(super) fn html(&self) -> String {
        let title = html(&self.title);
        let plain: String = self
            .title
            .iter()
            .map(|(Span::Plain(text) | Span::Code(text))| escape(&printable(text)))
            .collect();
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{plain}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        );
        for part in &self.parts {
            match part {
                Part::Heading(level, text) => line(&mut out, &format!("<h{level}>{}</h{level}>", html(text))),
                Part::Text(text) => line(&mut out, &format!("<p>{}</p>", html(text))),
                Part::List(points) => {
                    let points: String = points
                        .iter()
                        .map(|point| format!("<li>{}</li>\n", html(point)))
                        .collect();
                    line(&mut out, &format!("<ul>\n{points}</ul>"));
                }
                Part::Table(head, rows) => {
                    let head: String = head.iter().map(|cell| format!("<th>{}</th>", escape(cell))).collect();
                    let row = |row: &Vec<Vec<Span>>| -> String {
                        let cells: String = row.iter().map(|cell| format!("<td>{}</td>", html(cell))).collect();
                        format!("<tr>{cells}</tr>\n")
                    };
                    let rows: String = rows.iter().map(row).collect();
                    line(&mut out, &format!("<table>\n<tr>{head}</tr>\n{rows}</table>"));
                }
                Part::Listing(text) => line(&mut out, &format!("<pre>{}</pre>", escape(&safe_lines(text)))),
            }
        }
        out.push_str("</main>\n</body>\n</html>\n");
        out
    }
}

/// What a browser is to be told of such a page (`Content-Security-Policy`): it runs nothing, loads nothing, sends nothing, stands in no other
/// page, and has its own style and no other.
pub(super) fn html_policy() -> String {
    let style = BASE64.encode(Digest::of(STYLE.as_bytes()).as_bytes());
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
    )
}

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;margin:0}\
main{max-width:60rem;margin:2rem auto;padding:0 1rem}\
h2{margin-top:2.5rem;border-bottom:1px solid #8886}\
table{border-collapse:collapse;width:100%;display:block;overflow-x:auto}\
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid #8884}\
code,pre{font:14px/1.45 ui-monospace,monospace;background:#8882;border-radius:4px}\
code{padding:.1em .3em;overflow-wrap:anywhere}\
pre{padding:.8rem;overflow-x:auto}";

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

fn md(spans: &[Span]) -> String {
    let one = |span: &Span| match span {
        Span::Plain(text) => {
            let mut out = String::new();
            for c in printable_long(text).chars() {
                if matches!(c, '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '#' | '&' | '~') {
                    out.push('\\');
                }
                out.push(c);
            }
            out
        }
        Span::Code(text) => {
            let text = printable_long(text);
            let marks = "`".repeat(longest_run(&text, '`') + 1);
            let pad = if text.starts_with('`') || text.ends_with('`') || text.is_empty() {
                " "
            } else {
                ""
            };
            format!("{marks}{pad}{text}{pad}{marks}")
        }
    };
    spans.iter().map(one).collect()
}

fn html(spans: &[Span]) -> String {
    let one = |span: &Span| match span {
        Span::Plain(text) => escape(&printable_long(text)),
        Span::Code(text) => format!("<code>{}</code>", escape(&printable_long(text))),
    };
    spans.iter().map(one).collect()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Without a character that a terminal or a browser would obey, and whole: a long scope is what a reviewer has to read.
fn printable_long(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == ' ' || !c.is_whitespace() {
            out.push_str(&printable(c.encode_utf8(&mut [0; 4])));
        } else {
            out.push(' ');
        }
    }
    out
}

/// Lines, each without a character that would be obeyed.
fn safe_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(printable_long).collect();
    lines.join("\n")
}

/// How many of a character stand together at most.
fn longest_run(text: &str, of: char) -> usize {
    text.split(|c| c != of)
        .map(|run| run.chars().count())
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Words of a component that would be markup, if they were let.
    const HOSTILE: &str = "<script>x</script> [a](javascript:b) `c` | **d**\n# e \u{202e}\u{1b}[2J";

    fn hostile() -> Page {
        Page {
            title: vec![say("Of "), name(HOSTILE)],
            parts: vec![
                Part::Heading(2, vec![say(HOSTILE)]),
                Part::Text(vec![name("a``b`"), say("_")]),
                Part::List(vec![
                    vec![say(HOSTILE)],
                    names(&["x".to_owned(), "y".to_owned()], "none"),
                ]),
                Part::Table(vec!["what"], vec![vec![vec![name(HOSTILE), say("|")]]]),
                Part::Listing(format!("```\n{HOSTILE}\n````")),
            ],
        }
    }

    #[test]
    fn no_word_is_markup() {
        let html = hostile().html();
        assert_eq!(html.matches('<').count(), html.matches('>').count());
        assert!(!html.contains("<script"), "{html}");
        // Every tag is this page's own, and none has an attribute that was not there before.
        let own = [
            "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "ul", "li", "table", "tr", "th",
            "td", "pre", "code",
        ];
        for tag in html.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            let given = [
                "",
                "lang=\"en\"",
                "charset=\"utf-8\"",
                "name=\"viewport\" content=\"width=device-width, initial-scale=1\"",
            ];
            let known = own.contains(&name.trim_start_matches('/')) || name == "!doctype";
            assert!(known && (given.contains(&attributes) || name == "!doctype"), "{tag}");
        }
        let markdown = hostile().markdown();
        for page in [&html, &markdown] {
            assert!(!page.contains(['\u{202e}', '\u{1b}']), "{page}");
        }
        let (before, _) = markdown.split_once("\n`````cedar\n").unwrap();
        let headings: Vec<&str> = before.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(headings.len(), 2, "{markdown}");
        let row = markdown.lines().find(|line| line.starts_with("| `")).unwrap();
        assert_eq!(row.replace("\\|", "").matches('|').count(), 2, "{row}");
        assert!(markdown.contains("\\<script\\>x\\</script\\>"), "{markdown}");
        assert!(markdown.contains("``` a``b` ```\\_"), "{markdown}");
        assert!(markdown.contains("\n`````cedar\n```\n"), "{markdown}");
    }
}
