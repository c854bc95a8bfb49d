use super::body::Body;
use super::{GuestBody, GuestRequest, Method, Origin, header, pairs, path};
use crate::digest::Digest;
use crate::error::{Code, Refusal, printable};
use crate::guard;
use crate::json::{Json, Object};

/// How large a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes of the path, as given and as written.
    pub path_bytes: usize,
    /// Bytes of the query's names and values.
    pub query_bytes: usize,
    /// Pairs in a query, pairs in a form, and values in a JSON body.
    pub parameters: usize,
    /// Headers.
    pub headers: usize,
    /// Bytes of the headers' names and values.
    pub header_bytes: usize,
    /// Bytes of the body, as given and as written.
    pub body_bytes: usize,
    /// Levels of a JSON body.
    pub json_depth: usize,
}

impl WireLimits {
    /// More than any request within these limits, in bytes. What is larger is refused before it is looked at.
    #[must_use]
    pub const fn most(&self) -> usize {
        // As given, a path may be three times as long as written, and a pair has a little of its own.
        self.path_bytes
            .saturating_mul(3)
            .saturating_add(self.query_bytes)
            .saturating_add(self.header_bytes)
            .saturating_add(self.body_bytes)
            .saturating_add(self.parameters.saturating_mul(2 * 16))
            .saturating_add(self.headers.saturating_mul(16))
    }
}

/// A URL that common servers take (8 KiB), and the design's limits for bodies.
impl Default for WireLimits {
    fn default() -> Self {
        Self {
            path_bytes: 2048,
            query_bytes: 6144,
            parameters: 1024,
            headers: 32,
            header_bytes: 8192,
            body_bytes: 1 << 20,
            json_depth: 64,
        }
    }
}

/// A request below a connection's base, in the one form in which the host writes it.
///
/// It is made in two steps. The guest's words are checked and written as bytes: a target, headers, a body. Then those
/// bytes are read back, and everything that is asked of this value later (its segments, its parameters, its fields)
/// was read from them. So no rule is applied to anything but what is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    origin: Origin,
    method: Method,
    /// What was written.
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Body>,
    /// What was read back.
    segments: Vec<String>,
    query: Vec<(String, String)>,
    parameters: Json,
    fields: Json,
}

impl HttpRequest {
    /// Checks what a guest asks for, for a connection to `origin`.
    ///
    /// # Errors
    /// Whatever the host would not write, whatever two services could read differently, and what is beyond `limits`.
    pub fn parse(origin: &Origin, guest: &GuestRequest, limits: &WireLimits) -> Result<Self, Refusal> {
        let target = write_target(guest, limits)?;
        let headers = header::check(&guest.headers, limits.headers, limits.header_bytes)?;
        let body = Body::write(&guest.body, limits)?;
        Self::read(origin.clone(), guest.method, target, headers, body, limits)
    }

    /// Reads back what was written.
    fn read(
        origin: Origin,
        method: Method,
        target: String,
        headers: Vec<(String, String)>,
        body: Option<Body>,
        limits: &WireLimits,
    ) -> Result<Self, Refusal> {
        let (segments, query) = read_target(&target)?;
        let parameters = pairs::tree(&query).map_err(|why| query_refusal(&why))?;
        let fields = body
            .as_ref()
            .map_or_else(|| Ok(Object::new().into()), |body| body.read(limits))?;
        let request = Self {
            origin,
            method,
            target,
            headers,
            body,
            segments,
            query,
            parameters,
            fields,
        };
        request.check_parts_agree()?;
        Ok(request)
    }

    /// What each part alone cannot tell.
    fn check_parts_agree(&self) -> Result<(), Refusal> {
        if !guard!("wire.body-method", self.body.is_none() || !self.method.is_safe()) {
            return Err(Refusal::new(
                Code::Body,
                format!("a {} request has no body", self.method),
            ));
        }
        let roots = || [&self.parameters, &self.fields].into_iter().filter_map(Json::as_object);
        let overrides = roots()
            .flat_map(Object::keys)
            .find(|name| name.eq_ignore_ascii_case("_method"));
        if !guard!("wire.method-override", overrides.is_none()) {
            let message = "the parameter `_method` asks services for another method than the one that was checked";
            return Err(Refusal::new(Code::Field, message));
        }
        let twice = self
            .parameters
            .as_object()
            .and_then(|query| query.keys().find(|name| self.fields.get(name).is_some()));
        if !guard!("wire.query-and-body", twice.is_none()) {
            let name = printable(twice.unwrap_or_default());
            return Err(Refusal::new(
                Code::Query,
                format!("`{name}` is in the query and in the body"),
            ));
        }
        Ok(())
    }

    /// Whom it is for.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The method.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// The decoded segments of the path below the base; none for the base itself.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Path below the base, and query, as written: `/v1/refunds?limit=3`. The base itself is `/`.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.target
    }

    /// The query's decoded pairs, sorted by name.
    #[must_use]
    pub fn query(&self) -> &[(String, String)] {
        &self.query
    }

    /// The query as a tree: `created[gte]` is the member `gte` of `created`. Values are strings.
    #[must_use]
    pub const fn parameters(&self) -> &Json {
        &self.parameters
    }

    /// The guest's headers: names in lower case, sorted. The host's own are added by the gate.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The body as written.
    #[must_use]
    pub fn body_bytes(&self) -> Option<&[u8]> {
        self.body.as_ref().map(Body::bytes)
    }

    /// The body's media type.
    #[must_use]
    pub fn content_type(&self) -> Option<&'static str> {
        self.body.as_ref().map(|body| body.kind().media_type())
    }

    /// Whether the body is a form, whose values are strings.
    #[must_use]
    pub fn body_kind(&self) -> Option<BodyKind> {
        self.body.as_ref().map(Body::kind)
    }

    /// The body's fields, read from its bytes. Without a body, an object without members.
    #[must_use]
    pub const fn fields(&self) -> &Json {
        &self.fields
    }

    /// The whole request as one value, for the encrypted payload and the transcript.
    #[must_use]
    pub fn wire(&self) -> Json {
        let body = self.body.as_ref().map(Body::text);
        Object::from([
            ("body", Json::from(body)),
            ("content-type", self.content_type().into()),
            ("headers", pairs::to_json(&self.headers)),
            ("method", self.method.as_str().into()),
            ("origin", self.origin.to_string().into()),
            ("target", self.target.as_str().into()),
        ])
        .into()
    }

    /// The fields of the body in what [`wire`](Self::wire) made, and whether they are a form's; none where it is nothing of the kind.
    /// For people who are shown what a held effect would send.
    #[must_use]
    pub fn fields_of_wire(wire: &Json) -> Option<(Json, bool)> {
        let kind = match wire.get("content-type")?.as_str() {
            None => return Some((Object::new().into(), false)),
            Some(text) => [BodyKind::Json, BodyKind::Form]
                .into_iter()
                .find(|kind| kind.media_type() == text)?,
        };
        let limits = WireLimits {
            parameters: usize::MAX,
            body_bytes: usize::MAX,
            json_depth: usize::from(u16::MAX),
            ..WireLimits::default()
        };
        let fields = Body::of(kind, wire.get("body")?.as_str()?.to_owned())
            .read(&limits)
            .ok()?;
        Some((fields, kind == BodyKind::Form))
    }

    /// The digest of the whole request: two requests have the same one if the same bytes would be sent.
    ///
    /// Whoever can guess the request can check the guess, so the ledger has a salted commitment instead.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let headers: Vec<u8> = self
            .headers
            .iter()
            .flat_map(|(name, value)| [name, ":", value, "\n"].map(str::as_bytes).concat())
            .collect();
        Digest::domain(
            "ambit/http-request/v1",
            &[
                self.method.as_str().as_bytes(),
                self.origin.to_string().as_bytes(),
                self.target.as_bytes(),
                &headers,
                self.content_type().unwrap_or("").as_bytes(),
                self.body_bytes().unwrap_or(&[]),
            ],
        )
    }
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyKind {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
}

impl BodyKind {
    /// The value of `Content-Type`.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Form => "application/x-www-form-urlencoded",
        }
    }
}

fn write_target(guest: &GuestRequest, limits: &WireLimits) -> Result<String, Refusal> {
    let segments = path::parse(&guest.path, limits.path_bytes).map_err(|why| path_refusal(&guest.path, why))?;
    let mut target = path::write(&segments);
    if guest.query.is_empty() {
        return Ok(target);
    }
    pairs::check_size(&guest.query, limits.parameters, limits.query_bytes)
        .and_then(|()| pairs::check_values(&guest.query))
        .map_err(|why| query_refusal(&why))?;
    target.push('?');
    target.push_str(&pairs::write(&guest.query));
    Ok(target)
}

type Pairs = Vec<(String, String)>;

fn read_target(target: &str) -> Result<(Vec<String>, Pairs), Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // Written from a path that was short enough, and at most three times as long.
    let segments = path::parse(path, usize::MAX).map_err(|why| path_refusal(path, why))?;
    let query = pairs::read(query).map_err(|why| query_refusal(&why))?;
    Ok((segments, query))
}

fn path_refusal(path: &str, why: path::PathFault) -> Refusal {
    Refusal::new(Code::Path, format!("the path `{}` is refused: {why}", printable(path)))
        .advise("give the percent-encoded path below the connection's base, such as `/v1/refunds`")
}

fn query_refusal(why: &pairs::PairFault) -> Refusal {
    Refusal::new(Code::Query, format!("the query is refused: {why}"))
}

pub(super) mod fuzz {
    use super::{BodyKind, GuestBody, GuestRequest, HttpRequest, Method, WireLimits, pairs};

    /// Takes `bytes` for a request: a line with method and path, then a line for each query pair and header, then a
    /// body. What is accepted is written as it would be written again.
    ///
    /// # Errors
    /// Why it was refused.
    ///
    /// # Panics
    /// Where that does not hold.
    pub fn http(bytes: &[u8]) -> Result<(), String> {
        let origin = "https://example.com"
            .parse()
            .map_err(|error: super::super::NotAnOrigin| error.to_string())?;
        let guest = guest(&String::from_utf8_lossy(bytes));
        let limits = WireLimits::default();
        let request = HttpRequest::parse(&origin, &guest, &limits).map_err(|refusal| refusal.message)?;
        // Written, a path can be three times as long as it was given.
        let limits = WireLimits {
            path_bytes: usize::MAX,
            ..limits
        };
        assert_eq!(HttpRequest::parse(&origin, &again(&request), &limits), Ok(request));
        Ok(())
    }

    /// The request that a text of lines stands for.
    #[must_use]
    pub fn guest(text: &str) -> GuestRequest {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.split('\n');
        let first = lines.next().unwrap_or("");
        let (method, path) = first.split_once(' ').unwrap_or(("GET", first));
        let pairs = |text: &str, between: char| {
            text.split_once(between)
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        GuestRequest {
            method: method.parse().unwrap_or(Method::Post),
            path: path.to_owned(),
            query: lines.clone().filter_map(|line| pairs(line, '=')).collect(),
            headers: lines.filter_map(|line| pairs(line, ':')).collect(),
            body: match body.chars().next() {
                None => GuestBody::None,
                Some('[' | '{') => GuestBody::Json(body.to_owned()),
                Some(_) => GuestBody::Form(body.split('&').filter_map(|pair| pairs(pair, '=')).collect()),
            },
        }
    }

    /// The guest's request that asks for exactly what `request` is.
    pub(crate) fn again(request: &HttpRequest) -> GuestRequest {
        let (path, _) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let text = request
            .body
            .as_ref()
            .map(|body| body.text().to_owned())
            .unwrap_or_default();
        GuestRequest {
            method: request.method,
            path: path.to_owned(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            body: match request.body_kind() {
                None => GuestBody::None,
                Some(BodyKind::Json) => GuestBody::Json(text),
                Some(BodyKind::Form) => GuestBody::Form(pairs::read(&text).unwrap_or_default()),
            },
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
