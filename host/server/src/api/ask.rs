//! What a request says, held against what its route takes: no parameter that there is not, none twice, nothing that is not of its kind.

use ambit_core::error::printable;
use ambit_core::guard;
use ambit_core::json::{Json, Limits};
use ambit_core::ledger::parse_utc;
use ambit_core::trace::Parent;
use ambit_runtime::config::nearest;
use axum::body::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use crate::identity::unescaped;
use crate::mcp::parent_in;

use super::give::Problem;
use super::routes::{Param, Route, What};

/// The longest value of a parameter, in bytes.
const LONGEST: usize = 256;
/// How deep a body may be: arguments of 64 levels by the usual limits, and what is around them.
const DEEPEST: usize = 120;
/// The longest word of a caller that a call is made once for.
const LONGEST_WORD: usize = 200;

/// What is asked for, as far as it can be checked without doing it.
#[derive(Debug)]
pub(super) struct Asked {
    path: Vec<(&'static str, String)>,
    query: Vec<(&'static str, Said)>,
    body: Option<(Bytes, Json)>,
    /// The word of its caller that a call is made, or a run started, once for (`Idempotency-Key`).
    pub(super) word: Option<String>,
    /// What the request is part of (`traceparent`).
    pub(super) parent: Option<Parent>,
    /// Whether a page of HTML is asked for rather than one of Markdown (`Accept`).
    pub(super) html: bool,
}

#[derive(Debug)]
enum Said {
    Text(String),
    Number(u64),
    Time(i64),
    Flag(bool),
}

impl Asked {
    /// Reads a request of a route; `body` is its whole body, where the route takes one.
    pub(super) fn read(
        route: &Route,
        path: Vec<(&'static str, String)>,
        parts: &Parts,
        body: Option<Bytes>,
    ) -> Result<Asked, Problem> {
        let body = body.map(|body| -> Result<_, Problem> {
            is_json(&parts.headers)?;
            let json = strict(&body)?;
            Ok((body, json))
        });
        let word = word(&parts.headers)?;
        if !guard!("api.word-kept", word.is_none() || route.keeps_word()) {
            return Err(Problem::wrong(
                "Idempotency-Key is kept for POST /v1/calls and POST /v1/operators/runs alone: leave it out here, as it would keep nothing \
                 from being done twice",
            ));
        }
        Ok(Asked {
            path,
            query: query(route.query, parts.uri.query().unwrap_or_default())?,
            body: body.transpose()?,
            word,
            parent: parent_in(&parts.headers),
            html: wants_html(&parts.headers),
        })
    }

    /// What stands in the path for this name of the route's.
    pub(super) fn named(&self, name: &str) -> &str {
        let found = self.path.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.said(name)? {
            Said::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.said(name)? {
            Said::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Milliseconds since 1970.
    pub(super) fn time(&self, name: &str) -> Option<i64> {
        match self.said(name)? {
            Said::Time(time) => Some(*time),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.said(name), Some(Said::Flag(true)))
    }

    /// At most so many on a page, where the route has `limit`.
    pub(super) fn limit(&self) -> usize {
        let limit = self.number("limit").unwrap_or(50);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    fn said(&self, name: &str) -> Option<&Said> {
        let found = self.query.iter().find(|(known, _)| *known == name);
        found.map(|(_, said)| said)
    }

    /// The body as this type.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // The canonical text has one spelling of each number: `2.0` and `2e0` are the whole number that they are.
        let text = self.body.as_ref().map(|(_, json)| json.to_canonical());
        serde_json::from_str(&text.unwrap_or_default()).map_err(|error| {
            Problem::wrong(format!(
                "the body is not what this takes: {}",
                printable(&error.to_string())
            ))
        })
    }

    /// The body as it was written: exact numbers, and each member once.
    pub(super) fn json(&self) -> Option<&Json> {
        self.body.as_ref().map(|(_, json)| json)
    }
}

fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let plain = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    match plain.as_deref() {
        Some("application/json") => Ok(()),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body is JSON: Content-Type: application/json",
        )),
    }
}

/// Who would as soon have either has Markdown.
fn wants_html(headers: &HeaderMap) -> bool {
    let all = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let accept = all.collect::<Vec<_>>().join(",");
    // The narrowest range that it names counts.
    let weight = |kind: &str| [kind, "text/*", "*/*"].iter().find_map(|range| weight(&accept, range));
    weight("text/html").unwrap_or_default() > weight("text/markdown").unwrap_or_default()
}

/// The weight that an `Accept` gives to a range of types (RFC 9110, section 12.5.1); none where it does not name it.
fn weight(accept: &str, range: &str) -> Option<f32> {
    let named = accept.split(',').find_map(|one| {
        let (name, params) = one.split_once(';').unwrap_or((one, ""));
        name.trim().eq_ignore_ascii_case(range).then_some(params)
    })?;
    let of = |param: &str| {
        let (name, value) = param.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().ok())
    };
    let said: Option<Option<f32>> = named.split(';').find_map(of);
    let weight = said.unwrap_or(Some(1.0)).unwrap_or_default();
    Some(if (0.0..=1.0).contains(&weight) { weight } else { 0.0 })
}

/// Strictly: a member that comes twice would be one thing here and another there.
fn strict(body: &Bytes) -> Result<Json, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::wrong("the body is not UTF-8"))?;
    let limits = Limits {
        depth: DEEPEST,
        // Whoever read it has kept it within bounds. Few bytes may stand for more: as many as arguments have in all.
        bytes: body.len().max(Limits::default().bytes),
    };
    match Json::parse(text, limits) {
        Ok(json @ Json::Object(_)) => Ok(json),
        Ok(_) => Err(Problem::wrong("the body is a JSON object")),
        Err(_) if guard!("api.strict-json", false) => Ok(serde_json::from_str::<serde_json::Value>(text)
            .map(Json::from)
            .unwrap_or(Json::Null)),
        Err(error) => Err(Problem::wrong(format!(
            "the body is not JSON: {}",
            printable(&error.to_string())
        ))),
    }
}

/// One word of printable characters, or none.
fn word(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut all = headers.get_all("idempotency-key").iter();
    let Some(value) = all.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let plain = (1..=LONGEST_WORD).contains(&text.len()) && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    if !guard!("api.word", plain && all.next().is_none()) {
        return Err(Problem::wrong(
            "Idempotency-Key is one word of 1 to 200 printable characters, without a space",
        ));
    }
    Ok(Some(text.to_owned()))
}

fn query(params: &'static [Param], text: &str) -> Result<Vec<(&'static str, Said)>, Problem> {
    let mut all: Vec<(&'static str, Said)> = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (plain(name)?, plain(value)?);
        let Some(param) = params.iter().find(|param| param.name == name) else {
            if guard!("api.unknown-parameter", false) {
                continue;
            }
            return Err(unknown(params, &name));
        };
        if all.iter().any(|(known, _)| *known == param.name) && !guard!("api.parameter-once", false) {
            return Err(Problem::wrong(format!("`{}` comes twice", param.name)));
        }
        all.push((param.name, said(param, &value)?));
    }
    let given = |param: &Param| all.iter().any(|(known, _)| *known == param.name);
    match params.iter().find(|param| param.needed && !given(param)) {
        Some(param) => Err(Problem::wrong(format!("`{}` is missing: {}", param.name, param.about))),
        None => Ok(all),
    }
}

/// What a text of a query stands for.
fn plain(text: &str) -> Result<String, Problem> {
    String::from_utf8(unescaped(&text.replace('+', " "))).map_err(|_| Problem::wrong("the query is not UTF-8"))
}

fn unknown(params: &[Param], name: &str) -> Problem {
    let known = || params.iter().map(|param| param.name);
    let shown = printable(name);
    match nearest(name, known()) {
        Some(near) => Problem::wrong(format!("there is no parameter `{shown}`: did you mean `{near}`?")),
        None if params.is_empty() => Problem::wrong(format!("there is no parameter `{shown}`: this takes none")),
        None => {
            let known: Vec<&str> = known().collect();
            Problem::wrong(format!(
                "there is no parameter `{shown}`: there are {}",
                known.join(", ")
            ))
        }
    }
}

fn said(param: &Param, value: &str) -> Result<Said, Problem> {
    let wrong = |takes: &str| {
        let value = printable(value);
        Problem::wrong(format!("`{}` is `{value}`: it takes {takes}", param.name))
    };
    match param.what {
        What::Text if (1..=LONGEST).contains(&value.len()) => Ok(Said::Text(value.to_owned())),
        What::Text => Err(Problem::wrong(format!("`{}` takes 1 to {LONGEST} bytes", param.name))),
        What::Word(words) if words.contains(&value) => Ok(Said::Text(value.to_owned())),
        What::Word(words) => Err(match nearest(value, words.iter().copied()) {
            Some(near) => wrong(&format!("other words: did you mean `{near}`?")),
            None => wrong(&format!("one of {}", words.join(", "))),
        }),
        What::Number(least, most) => {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let number = value.parse::<u64>().ok().filter(|_| digits);
            number
                .filter(|number| guard!("api.page", (least..=most).contains(number)))
                .map(Said::Number)
                .ok_or_else(|| wrong(&format!("a whole number from {least} to {most}")))
        }
        What::Time => parse_utc(value)
            .map(Said::Time)
            .ok_or_else(|| wrong("a time in UTC, such as 2026-11-21T08:30:00Z or 2026-11-21")),
        What::Flag => match value {
            "true" => Ok(Said::Flag(true)),
            "false" => Ok(Said::Flag(false)),
            _ => Err(wrong("true or false")),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use serde_json::Value;

    use super::*;

    const PARAMS: &[Param] = &[
        Param {
            name: "limit",
            what: What::Number(1, 200),
            needed: false,
            about: "",
        },
        Param {
            name: "since",
            what: What::Time,
            needed: false,
            about: "",
        },
        Param {
            name: "tool",
            what: What::Text,
            needed: false,
            about: "",
        },
        Param {
            name: "decision",
            what: What::Word(&["denied"]),
            needed: false,
            about: "",
        },
    ];

    const NEEDED: &[Param] = &[Param {
        name: "index",
        what: What::Number(0, 9),
        needed: true,
        about: "",
    }];

    fn refused(text: &str) -> String {
        let response = query(PARAMS, text).unwrap_err().boxed();
        assert_eq!(response.status(), 400, "{text}");
        let body = futures_body(*response);
        body["detail"].as_str().unwrap().to_owned()
    }

    fn futures_body(response: axum::response::Response) -> Value {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime
            .block_on(http_body_util::BodyExt::collect(response.into_body()))
            .unwrap();
        serde_json::from_slice(&bytes.to_bytes()).unwrap()
    }

    #[test]
    fn parameters_are_those_that_there_are_each_once_and_of_its_kind() {
        let said = query(PARAMS, "limit=5&tool=a%20b&since=2026-11-21&decision=denied").unwrap();
        assert!(matches!(said[0], ("limit", Said::Number(5))), "{said:?}");
        assert!(
            matches!(&said[1], ("tool", Said::Text(text)) if text == "a b"),
            "{said:?}"
        );
        assert!(query(PARAMS, "").unwrap().is_empty());
        for (text, part) in [
            ("limt=5", "did you mean `limit`"),
            ("Limit=5", "did you mean `limit`"),
            ("limit=5&limit=6", "comes twice"),
            ("l%69mit=5&limit=6", "comes twice"),
            ("limit=0", "1 to 200"),
            ("limit=201", "1 to 200"),
            ("limit=99999999999999999999999", "1 to 200"),
            ("limit=-1", "1 to 200"),
            ("limit=%2B5", "1 to 200"),
            ("limit", "1 to 200"),
            ("tool=", "1 to 256"),
            ("since=yesterday", "a time in UTC"),
            ("decision=allow", "one of denied"),
            ("tool=%ff", "UTF-8"),
        ] {
            let why = refused(text);
            assert!(why.contains(part), "{text}: {why}");
        }
        assert!(refused(&format!("tool={}", "x".repeat(257))).contains("256"));
        assert!(query(NEEDED, "index=5").is_ok());
        assert!(query(NEEDED, "").is_err());
    }

    #[test]
    fn a_word_is_one_and_plain() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("idempotency-key", value.parse().unwrap());
            }
            word(&headers).map_err(|_| ())
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&["a-1"]), Ok(Some("a-1".to_owned())));
        for wrong in [&[""][..], &["a b"], &["a", "a"], &[&"x".repeat(201)]] {
            assert_eq!(with(wrong), Err(()), "{wrong:?}");
        }
    }

    #[test]
    fn html_is_for_who_would_rather_have_it() {
        let wants = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(ACCEPT, accept.parse().unwrap());
            wants_html(&headers)
        };
        assert!(!wants_html(&HeaderMap::new()));
        for html in [
            "text/html",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/markdown;q=0.5, TEXT/HTML;charset=utf-8;q=0.6",
            "text/markdown;q=0, */*",
            "text/*;q=0.3, text/html",
        ] {
            assert!(wants(html), "{html}");
        }
        for markdown in [
            "*/*",
            "text/*",
            "text/markdown",
            "text/markdown, text/html",
            "text/html;q=0.5, */*",
            "text/html;q=0",
            "text/html;q=nan",
            "text/html;q=7",
            "text/html;q=-1",
            "text/html;q=",
            "application/json",
            "",
        ] {
            assert!(!wants(markdown), "{markdown}");
        }
    }

    #[test]
    fn a_body_has_each_member_once() {
        assert!(strict(&Bytes::from_static(b"{\"a\":1}")).is_ok());
        // Few bytes may stand for many, and not for any number.
        assert!(strict(&Bytes::from_static(b"{\"a\":1e-300}")).is_ok());
        let many = format!("{{\"a\":[{}1]}}", "1e390,".repeat(3_000));
        assert!(strict(&Bytes::from(many)).is_err());
        for wrong in [&b"{\"a\":1,\"a\":2}"[..], b"{", b"", b"\xff", b"{} {}", b"[]", b"7"] {
            assert!(strict(&Bytes::copy_from_slice(wrong)).is_err());
        }
    }
}
