use std::fmt;

use super::ScopeError;
use super::reader::{Piece, Reader};
use crate::effect::{HeaderSet, HttpRequest, Methods, Origin, PathPattern, is_free};
use crate::error::{Code, Refusal, printable};
use crate::field::{ConcretePath, FieldSet};
use crate::guard;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest text of a scope, in bytes, and the most rules.
const LONGEST: usize = 16 << 10;
const MOST_RULES: usize = 64;

/// What a component declares that it needs of an HTTP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpScope {
    rules: Vec<HttpRule>,
}

/// One rule: requests, and what may be read of their answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    methods: Methods,
    origin: Origin,
    path: PathPattern,
    query: FieldSet,
    fields: FieldSet,
    reads: FieldSet,
    headers: HeaderSet,
}

impl HttpScope {
    /// Reads the text of a scope.
    ///
    /// # Errors
    /// See [`Scope::parse`](super::Scope::parse).
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text.len() > LONGEST {
            return Err(ScopeError::new(
                LONGEST,
                format!("the scope is longer than {LONGEST} bytes"),
            ));
        }
        let mut reader = Reader::new(text);
        let mut rules = Vec::new();
        loop {
            rules.push(HttpRule::read(&mut reader)?);
            if reader.is_at_end() {
                return Ok(Self { rules });
            }
            if rules.len() >= MOST_RULES {
                return Err(ScopeError::new(
                    reader.at,
                    format!("the scope has more than {MOST_RULES} rules"),
                ));
            }
            reader.take(';');
        }
    }

    /// The rules, in the order of the text.
    #[must_use]
    pub fn rules(&self) -> &[HttpRule] {
        &self.rules
    }

    /// The place of the first rule that covers all of `request`.
    ///
    /// # Errors
    /// [`Code::Scope`], or the code of the part that is not covered, with the rule that comes nearest.
    pub fn covers(&self, request: &HttpRequest) -> Result<usize, Refusal> {
        let mut nearest: Option<(Miss<'_>, &HttpRule)> = None;
        for (index, rule) in self.rules.iter().enumerate() {
            let Some(miss) = rule.miss(request) else {
                return Ok(index);
            };
            if nearest.as_ref().is_none_or(|(other, _)| other.stage() < miss.stage()) {
                nearest = Some((miss, rule));
            }
        }
        Err(match nearest {
            Some((miss, rule)) => miss.refusal(request, rule),
            None => Refusal::new(Code::Scope, "the scope covers nothing"),
        })
    }

    /// What both cover: exactly the requests, and of the answers to each only what a rule of either lets read.
    ///
    /// May be empty; such a scope prints as `nothing`, which is not a text that a component can declare.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut rules: Vec<HttpRule> = Vec::new();
        for rule in self
            .rules
            .iter()
            .flat_map(|a| other.rules.iter().filter_map(|b| a.intersect(b)))
        {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        Self { rules }
    }
}

impl HttpRule {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ScopeError> {
        reader.space();
        let methods = read_methods(reader.until(is_break))?;
        reader.space();
        let (origin, path) = read_target(reader.until(is_break))?;
        let empty = FieldSet::new;
        let mut rule = Self {
            methods,
            origin,
            path,
            query: empty(),
            fields: empty(),
            reads: empty(),
            headers: HeaderSet::new(),
        };
        let mut seen = Vec::new();
        loop {
            reader.space();
            if reader.is_at_end() || reader.is_at(';') {
                return Ok(rule);
            }
            let name = reader.until(|c| c == '(' || is_break(c));
            if seen.contains(&name.text) {
                return Err(ScopeError::new(name.at, format!("`{}` comes twice", name.text)));
            }
            seen.push(name.text);
            rule.read_list(name, reader)?;
        }
    }

    fn read_list(&mut self, name: Piece<'_>, reader: &mut Reader<'_>) -> Result<(), ScopeError> {
        match name.text {
            "query" => self.query = read_fields(reader.parenthesised()?)?,
            "fields" => self.fields = read_fields(reader.parenthesised()?)?,
            "reads" => self.reads = read_fields(reader.parenthesised()?)?,
            "headers" => self.headers = read_headers(reader.parenthesised()?)?,
            other => {
                let message = format!("`{}` is not a part of a rule", printable(other));
                let help = "after the path come `query(…)`, `fields(…)`, `reads(…)` and `headers(…)`; \
                            rules are separated by `;`";
                return Err(ScopeError::new(name.at, message).help(help));
            }
        }
        Ok(())
    }

    /// The methods.
    #[must_use]
    pub const fn methods(&self) -> Methods {
        self.methods
    }

    /// The origin.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The paths below the connection's base.
    #[must_use]
    pub const fn path(&self) -> &PathPattern {
        &self.path
    }

    /// The query parameters that may be given.
    #[must_use]
    pub const fn query(&self) -> &FieldSet {
        &self.query
    }

    /// The body fields that may be given.
    #[must_use]
    pub const fn fields(&self) -> &FieldSet {
        &self.fields
    }

    /// What may be read of an answer's body.
    #[must_use]
    pub const fn reads(&self) -> &FieldSet {
        &self.reads
    }

    /// The headers that may be given, and read of an answer.
    #[must_use]
    pub const fn headers(&self) -> &HeaderSet {
        &self.headers
    }

    /// What both cover, if that is anything.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let methods = self.methods.intersect(other.methods);
        if methods.is_empty() || self.origin != other.origin {
            return None;
        }
        Some(Self {
            methods,
            origin: self.origin.clone(),
            path: self.path.intersect(&other.path)?,
            query: self.query.intersect(&other.query),
            fields: self.fields.intersect(&other.fields),
            reads: self.reads.intersect(&other.reads),
            headers: self.headers.intersect(&other.headers),
        })
    }

    /// The first part of `request` that the rule does not cover.
    fn miss<'r>(&self, request: &'r HttpRequest) -> Option<Miss<'r>> {
        if !guard!("scope.origin", self.origin == *request.origin()) {
            return Some(Miss::Origin);
        }
        if !guard!("scope.path", self.path.matches(request.segments())) {
            return Some(Miss::Path);
        }
        if !guard!("scope.method", self.methods.contains(request.method())) {
            return Some(Miss::Method);
        }
        let parameter = self.query.uncovered(request.parameters());
        if !guard!("scope.query", parameter.is_none()) {
            return parameter.map(Miss::Parameter);
        }
        let field = self.fields.uncovered(request.fields());
        if !guard!("scope.fields", field.is_none()) {
            return field.map(Miss::Field);
        }
        let header = request
            .headers()
            .iter()
            .find(|(name, value)| !is_free(name, value) && !self.headers.contains(name))
            .map(|(name, _)| name.as_str());
        if !guard!("scope.headers", header.is_none()) {
            return header.map(Miss::Header);
        }
        None
    }
}

/// What a rule does not cover, in the order in which it is looked at.
enum Miss<'r> {
    Origin,
    Path,
    Method,
    Parameter(ConcretePath<'r>),
    Field(ConcretePath<'r>),
    Header(&'r str),
}

impl Miss<'_> {
    /// How far the rule went along.
    const fn stage(&self) -> u8 {
        match self {
            Self::Origin => 0,
            Self::Path => 1,
            Self::Method => 2,
            Self::Parameter(_) => 3,
            Self::Field(_) => 4,
            Self::Header(_) => 5,
        }
    }

    fn refusal(&self, request: &HttpRequest, rule: &HttpRule) -> Refusal {
        let path = request.path_and_query().split('?').next().unwrap_or("");
        let path = printable(path);
        let (method, origin) = (request.method(), request.origin());
        let (code, what, missing) = match self {
            Self::Origin => (Code::Scope, format!("requests to `{origin}`"), None),
            Self::Path => (Code::Scope, format!("the path `{path}` at `{origin}`"), None),
            Self::Method => (Code::Scope, format!("{method} of `{path}`"), None),
            Self::Parameter(at) => {
                let what = format!(
                    "the query parameter `{}` of {method} `{path}`",
                    printable(&at.to_string())
                );
                (
                    Code::Query,
                    what,
                    Some(format!("query({})", printable(&at.to_field().to_string()))),
                )
            }
            Self::Field(at) => {
                let what = format!("the field `{}` of {method} `{path}`", printable(&at.to_string()));
                (
                    Code::Field,
                    what,
                    Some(format!("fields({})", printable(&at.to_field().to_string()))),
                )
            }
            Self::Header(name) => (
                Code::Header,
                format!("the header `{name}` of {method} `{path}`"),
                Some(format!("headers({name})")),
            ),
        };
        let nearest = match missing {
            Some(missing) => format!("its nearest rule is `{rule}`, which would need `{missing}`"),
            None => format!("its nearest rule is `{rule}`"),
        };
        Refusal::new(code, format!("the tool does not declare {what}")).advise(nearest)
    }
}

const fn is_break(c: char) -> bool {
    c == ';' || c.is_ascii_whitespace()
}

fn read_methods(word: Piece<'_>) -> Result<Methods, ScopeError> {
    if word.text.is_empty() {
        let help = "a rule is `METHOD origin/path`, as in `GET https://api.example.com/v1/things/{id} reads(name)`";
        return Err(ScopeError::new(word.at, "expected a rule").help(help));
    }
    word.text.parse().map_err(|error: crate::effect::UnknownMethod| {
        ScopeError::new(word.at, error.to_string()).help("methods are in capitals and joined by `,` without spaces")
    })
}

fn read_target(word: Piece<'_>) -> Result<(Origin, PathPattern), ScopeError> {
    let authority = word.text.find("://").map_or(0, |at| at + 3);
    let slash = word
        .text
        .get(authority..)
        .and_then(|rest| rest.find('/'))
        .map(|at| authority + at);
    let end = slash.unwrap_or(word.text.len());
    let (origin, path) = word.text.split_at_checked(end).unwrap_or((word.text, ""));
    let origin = origin
        .parse()
        .map_err(|error: crate::effect::NotAnOrigin| ScopeError::new(word.at, error.to_string()))?;
    if path.is_empty() {
        let message = "expected a path after the origin";
        return Err(ScopeError::new(word.at + end, message).help("`/` alone is the connection's base"));
    }
    let path = path.parse().map_err(|error: crate::effect::PatternFault| {
        let help = "segments are percent-encoded, `{name}` is any one segment, `**` at the end one or more; \
                    a query is declared as `query(…)`";
        ScopeError::new(word.at + end, error.to_string()).help(help)
    })?;
    Ok((origin, path))
}

fn read_fields(list: Piece<'_>) -> Result<FieldSet, ScopeError> {
    refuse_empty(list)?;
    list.text
        .parse()
        .map_err(|error: crate::field::FieldError| ScopeError::new(list.at + error.offset, error.message))
}

fn read_headers(list: Piece<'_>) -> Result<HeaderSet, ScopeError> {
    refuse_empty(list)?;
    list.text.parse().map_err(|error: crate::effect::NotAHeader| {
        ScopeError::new(list.at, error.to_string())
            .help("`accept` may be set to a common type and `content-type` be read, both undeclared")
    })
}

fn refuse_empty(list: Piece<'_>) -> Result<(), ScopeError> {
    if list.text.trim_ascii().is_empty() {
        return Err(ScopeError::new(list.at, "the list is empty").help("leave it out: an absent list means none"));
    }
    Ok(())
}

impl fmt::Display for HttpScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rules.is_empty() {
            return f.write_str("nothing");
        }
        for (i, rule) in self.rules.iter().enumerate() {
            write!(f, "{}{rule}", if i > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// As its text. A scope of nothing, which no text declares, is `nothing`.
impl Serialize for HttpScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HttpScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "nothing" {
            return Ok(Self { rules: Vec::new() });
        }
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl fmt::Display for HttpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.methods, self.origin, self.path)?;
        for (name, fields) in [("query", &self.query), ("fields", &self.fields), ("reads", &self.reads)] {
            if !fields.is_empty() {
                write!(f, " {name}({fields})")?;
            }
        }
        if self.headers.is_empty() {
            Ok(())
        } else {
            write!(f, " headers({})", self.headers)
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
pub(crate) mod tests;
