//! Cedar text as far as placing a diagnostic needs it: tokens and statements.
//!
//! What a policy means is always read from Cedar's own syntax tree, never from here. That tree carries no positions, so this
//! finds the words that a finding speaks of. If the two ever disagree the underline falls back to the whole statement.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or a keyword.
    Name,
    /// A string literal; the token's text is without the quotes, escapes as written.
    Text,
    /// A decimal number.
    Number,
    /// An operator or a bracket.
    Sign,
}

/// One token and where it stands in its file, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    start: usize,
    end: usize,
}

impl Token<'_> {
    pub(super) fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    fn is(&self, kind: Kind, text: &str) -> bool {
        self.kind == kind && self.text == text
    }

    fn is_sign(&self, text: &str) -> bool {
        self.is(Kind::Sign, text)
    }
}

/// One policy of a file, from its first annotation to its semicolon.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    tokens: Vec<Token<'a>>,
}

/// Splits a file into its policies. Call it on text that Cedar has parsed.
pub(super) fn statements(text: &str) -> Vec<Statement<'_>> {
    let tokens = tokens(text);
    tokens
        .split_inclusive(|token| token.is_sign(";"))
        .map(|tokens| Statement {
            tokens: tokens.to_vec(),
        })
        .collect()
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = scan(rest, first);
        let (word, after) = rest.split_at(length);
        if let Some(kind) = kind {
            let start = text.len() - rest.len();
            let text = if kind == Kind::Text {
                word.trim_matches('"')
            } else {
                word
            };
            found.push(Token {
                kind,
                text,
                start,
                end: start + length,
            });
        }
        rest = after;
    }
    found
}

/// The kind (none for white space and comments) and the length in bytes of what `rest` begins with.
fn scan(rest: &str, first: char) -> (Option<Kind>, usize) {
    let until = |end: fn(char) -> bool| rest.find(end).unwrap_or(rest.len());
    if first.is_whitespace() {
        (None, until(|c| !c.is_whitespace()))
    } else if rest.starts_with("//") {
        (None, until(|c| c == '\n' || c == '\r'))
    } else if first == '"' {
        (Some(Kind::Text), string_length(rest))
    } else if first.is_ascii_digit() {
        (Some(Kind::Number), until(|c| !c.is_ascii_digit()))
    } else if first == '_' || first.is_ascii_alphabetic() {
        (Some(Kind::Name), until(|c| c != '_' && !c.is_ascii_alphanumeric()))
    } else if ["::", "==", "!=", "<=", ">=", "||", "&&"]
        .iter()
        .any(|sign| rest.starts_with(sign))
    {
        (Some(Kind::Sign), 2)
    } else {
        (Some(Kind::Sign), first.len_utf8())
    }
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

impl<'a> Statement<'a> {
    /// The whole statement.
    pub(super) fn span(&self) -> Range<usize> {
        let start = self.tokens.first().map_or(0, |token| token.start);
        start..self.tokens.last().map_or(start, |token| token.end)
    }

    /// The word `permit` or `forbid`.
    pub(super) fn effect(&self) -> Range<usize> {
        let annotated = |at: usize| {
            at.checked_sub(1)
                .and_then(|at| self.tokens.get(at))
                .is_some_and(|t| t.is_sign("@"))
        };
        self.tokens
            .iter()
            .enumerate()
            .find(|(at, token)| (token.is(Kind::Name, "permit") || token.is(Kind::Name, "forbid")) && !annotated(*at))
            .map_or_else(|| self.span(), |(_, token)| token.span())
    }

    /// The value of an annotation.
    pub(super) fn annotation(&self, key: &str) -> Range<usize> {
        self.tokens
            .windows(4)
            .find_map(|window| match window {
                [at, name, open, value] if at.is_sign("@") && name.text == key && open.is_sign("(") => {
                    Some(value.span())
                }
                _ => None,
            })
            .unwrap_or_else(|| self.span())
    }

    /// The `nth` use of `context.approvals`, with the group that follows it.
    pub(super) fn approvals(&self, nth: usize) -> Range<usize> {
        let uses = (0..self.tokens.len()).filter_map(|at| self.approvals_at(at));
        uses.enumerate()
            .find(|(index, _)| *index == nth)
            .map_or_else(|| self.span(), |(_, span)| span)
    }

    fn approvals_at(&self, at: usize) -> Option<Range<usize>> {
        let tokens = self.tokens.get(at..)?;
        let [context, by, name, tail @ ..] = tokens else {
            return None;
        };
        let access = by.is_sign(".") || by.is_sign("[") || by.is(Kind::Name, "has");
        if !context.is(Kind::Name, "context") || !access || name.text != "approvals" {
            return None;
        }
        let tail = match tail {
            [close, rest @ ..] if by.is_sign("[") && close.is_sign("]") => rest,
            rest => rest,
        };
        let end = match tail {
            [dot, group, ..] if dot.is_sign(".") => group.end,
            [open, _, close, ..] if open.is_sign("[") && close.is_sign("]") => close.end,
            _ => name.end,
        };
        Some(context.start..end)
    }

    /// The first `context` that no attribute is taken of.
    pub(super) fn bare_context(&self) -> Range<usize> {
        self.tokens
            .iter()
            .enumerate()
            .find(|(at, token)| token.is(Kind::Name, "context") && !self.tokens.get(at + 1).is_some_and(accesses))
            .map_or_else(|| self.span(), |(_, token)| token.span())
    }

    /// The first `+`, `-` or `*` that is an operator rather than the sign of a number.
    pub(super) fn arithmetic(&self) -> Range<usize> {
        self.tokens
            .iter()
            .enumerate()
            .find(|(at, token)| match token.text {
                "+" | "*" => token.kind == Kind::Sign,
                "-" => token.kind == Kind::Sign && !self.is_sign_of_number(*at),
                _ => false,
            })
            .map_or_else(|| self.span(), |(_, token)| token.span())
    }

    fn is_sign_of_number(&self, at: usize) -> bool {
        let after_operand = at
            .checked_sub(1)
            .and_then(|at| self.tokens.get(at))
            .is_some_and(|token| match token.kind {
                Kind::Number | Kind::Text => true,
                Kind::Name => !["if", "then", "else", "in", "has", "like", "is"].contains(&token.text),
                Kind::Sign => [")", "]", "}"].contains(&token.text),
            });
        !after_operand && self.tokens.get(at + 1).is_some_and(|token| token.kind == Kind::Number)
    }

    /// The entity literals, each as (type, identifier as written, where).
    pub(super) fn entities(&self) -> impl Iterator<Item = (&'a str, &'a str, Range<usize>)> + '_ {
        self.tokens.windows(3).filter_map(|window| match window {
            [name, colons, id] if name.kind == Kind::Name && colons.is_sign("::") && id.kind == Kind::Text => {
                Some((name.text, id.text, name.start..id.end))
            }
            _ => None,
        })
    }
}

fn accesses(next: &Token<'_>) -> bool {
    next.is_sign(".") || next.is_sign("[") || next.is(Kind::Name, "has")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    const TEXT: &str = r#"
// forbid (principal, action, resource); permit
@id("a;b") @hint("say \"no\"; // really")
permit (principal, action == Action::"é", resource)
when { context.x == -1 && context["approvals"].finance >= 2 };
forbid (principal, action, resource) unless { context has approvals || context == {a: 3 - 4} };
"#;

    fn check(span: Range<usize>, expected: &str) {
        assert_eq!(&TEXT[span], expected);
    }

    #[test]
    fn statements_end_at_semicolons_outside_strings_and_comments() {
        let found = statements(TEXT);
        assert_eq!(found.len(), 2);
        check(found[0].effect(), "permit");
        check(found[1].effect(), "forbid");
        check(found[0].annotation("id"), r#""a;b""#);
        check(found[0].annotation("hint"), r#""say \"no\"; // really""#);
        assert!(TEXT[found[0].span()].starts_with("@id") && TEXT[found[0].span()].ends_with("2 };"));
    }

    #[test]
    fn words_are_found() {
        let found = statements(TEXT);
        check(found[0].approvals(0), r#"context["approvals"].finance"#);
        check(found[1].approvals(0), "context has approvals");
        check(found[1].bare_context(), "context");
        check(found[1].arithmetic(), "-");
        assert_eq!(
            found[0].entities().next().map(|(kind, id, _)| (kind, id)),
            Some(("Action", "é"))
        );
    }

    #[test]
    fn what_is_not_there_underlines_the_statement() {
        let found = statements(TEXT);
        assert_eq!(found[0].arithmetic(), found[0].span());
        assert_eq!(found[0].approvals(1), found[0].span());
        assert_eq!(found[0].bare_context(), found[0].span());
    }

    #[test]
    fn unfinished_text_does_not_panic() {
        for text in ["\"", "\"\\", "@", "@id", "é", "//", "permit (", "context", "context."] {
            for statement in statements(text) {
                let _ = (
                    statement.effect(),
                    statement.annotation("id"),
                    statement.approvals(0),
                    statement.bare_context(),
                    statement.arithmetic(),
                );
            }
        }
    }
}
