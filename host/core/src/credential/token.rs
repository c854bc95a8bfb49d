//! Asking for a token, and what of the answer is believed (RFC 6749, RFC 6750, RFC 8693).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::effect::{GuestBody, GuestRequest, HttpRequest, Method, Origin, WireLimits};
use crate::error::{Code, Refusal};
use crate::grant::Admitted;
use crate::guard;
use crate::json::{Json, Limits};
use crate::route::{Connection, RouteSpec};

/// The route that requests for tokens have in entries, breakers and budgets. No route of a configuration can be called so.
pub const ROUTE: &str = "@token";

/// The longest token, in bytes: it has to stand in one header.
pub const LONGEST_TOKEN: usize = 8 << 10;
/// The largest answer that is read, in bytes.
pub const LARGEST_ANSWER: usize = 64 << 10;
/// How long a token is used at most, in seconds, whatever its issuer says.
pub const LONGEST_KEPT_S: u64 = 300;
/// How long a token may be good for, in seconds: one that lives longer is not taken, as nobody can take it back.
pub const LONGEST_LIFETIME_S: u64 = 3_600;

/// The words of RFC 6749 and RFC 8693 for what is wrong. Only these are repeated: the rest of an answer is its service's own words.
const ERRORS: [&str; 8] = [
    "access_denied",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "unauthorized_client",
    "unsupported_grant_type",
];

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A scope of OAuth 2.0: visible ASCII without `"` and `\`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeWord(String);

impl ScopeWord {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScopeWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ScopeWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const LONGEST: usize = 256;
        let plain = |byte: u8| (b'!'..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a scope is 1 to {LONGEST} visible characters of ASCII, without quotation marks, backslashes and spaces"
            ))
        }
    }
}

/// How a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For the host's own client (RFC 6749, 4.4).
    ClientCredentials,
    /// In exchange for what the home says about the caller (RFC 8693).
    Exchange,
}

/// What the configuration says of a place that gives out tokens.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// How it is asked.
    pub kind: Kind,
    /// Whom requests are for.
    pub origin: Origin,
    /// The path there.
    pub path: String,
    /// What every token is asked for, beside what a route needs.
    pub scopes: BTreeSet<ScopeWord>,
    /// For which service, by a name that the issuer knows.
    pub audience: Option<String>,
    /// For which service, by its address (RFC 8707).
    pub resource: Option<String>,
    /// The client's name, where it stands in the request and not in a header.
    pub client_id: Option<String>,
}

/// Who gives out tokens for a connection, and how they are asked.
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    kind: Kind,
    connection: Arc<Connection>,
    path: String,
    fixed: Vec<(String, String)>,
    scopes: BTreeSet<ScopeWord>,
}

/// A token that was given out.
pub struct Granted {
    /// The token itself.
    pub token: Zeroizing<String>,
    /// How long it is good for, in seconds: 1 to [`LONGEST_LIFETIME_S`].
    pub lifetime_s: u64,
}

impl Granted {
    /// How long it is used, in seconds: no longer than it is good for, but for a while at its end in which it could run out on the way, and
    /// never longer than [`LONGEST_KEPT_S`].
    #[must_use]
    pub fn kept_s(&self) -> u64 {
        const MARGIN_S: u64 = 30;
        let most = self.lifetime_s.min(LONGEST_KEPT_S);
        most - (most / 4).min(MARGIN_S)
    }
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Granted(for {} s)", self.lifetime_s)
    }
}

impl TokenEndpoint {
    /// Of the connection `name`. Called when the configuration is read.
    ///
    /// # Errors
    /// One clause: the request cannot be made.
    pub fn new(name: &str, spec: TokenSpec) -> Result<Self, String> {
        // It changes nothing: whatever becomes of it, nothing is in doubt that somebody would have to look for.
        let route = serde_json::json!({ "match": "POST /**", "tier": "read" });
        let route: RouteSpec = serde_json::from_value(route).map_err(|error| error.to_string())?;
        let connection = Connection::new(name, spec.origin, BTreeMap::from([(ROUTE.to_owned(), route)]))
            .map_err(|error| error.message)?;
        let grant = match spec.kind {
            Kind::ClientCredentials => "client_credentials",
            Kind::Exchange => EXCHANGE,
        };
        let exchange = matches!(spec.kind, Kind::Exchange);
        let said = [
            ("grant_type", Some(grant.to_owned())),
            ("audience", spec.audience),
            ("resource", spec.resource),
            ("client_id", spec.client_id),
            ("subject_token_type", exchange.then(|| JWT.to_owned())),
            ("requested_token_type", exchange.then(|| ACCESS_TOKEN.to_owned())),
        ];
        let fixed = said
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let endpoint = Self {
            kind: spec.kind,
            connection: Arc::new(connection),
            path: spec.path,
            fixed: fixed.collect(),
            scopes: spec.scopes,
        };
        endpoint
            .admitted(&endpoint.scopes, Limits::default())
            .map_err(|refusal| refusal.message)?;
        Ok(endpoint)
    }

    /// Whom its requests are for.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        self.connection.origin()
    }

    /// How it is asked.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The scopes of a token for one route: those of every token, and the route's own. No other route's.
    #[must_use]
    pub fn scopes(&self, route: &BTreeSet<ScopeWord>) -> BTreeSet<ScopeWord> {
        self.scopes.union(route).cloned().collect()
    }

    /// The request for a token with these scopes, as an effect. It has no secret in it: the gate puts on it who asks, and for whom. Nothing
    /// of its answer is for a guest, and nothing of it is kept.
    ///
    /// # Errors
    /// Where the request cannot be made.
    pub fn admitted(&self, scopes: &BTreeSet<ScopeWord>, limits: Limits) -> Result<Admitted, Refusal> {
        let mut form = self.fixed.clone();
        if !scopes.is_empty() {
            form.push(("scope".to_owned(), joined(scopes)));
        }
        let words = GuestRequest {
            method: Method::Post,
            path: self.path.clone(),
            query: Vec::new(),
            headers: vec![("accept".to_owned(), "application/json".to_owned())],
            body: GuestBody::Form(form),
        };
        let request = HttpRequest::parse(self.connection.origin(), &words, &WireLimits::default())?;
        let route = self.connection.route(ROUTE).ok_or_else(|| {
            // It was made with it.
            Refusal::new(Code::Internal, "the token endpoint has no route")
        })?;
        Ok(Admitted::of_host(&self.connection, route, request, limits))
    }

    /// The token in an answer to a request with these scopes, exactly as RFC 6749 has it.
    ///
    /// # Errors
    /// One clause for people. Of the answer's own words only the codes of the RFCs are in it, and nothing of a token.
    pub fn granted(&self, status: u16, body: &[u8], scopes: &BTreeSet<ScopeWord>) -> Result<Granted, String> {
        if (300..400).contains(&status) {
            return Err(format!("it answered with {status}, and a redirect is not followed"));
        }
        let limits = Limits {
            depth: 8,
            bytes: LARGEST_ANSWER,
        };
        let answer = std::str::from_utf8(body)
            .ok()
            .and_then(|text| Json::parse(text, limits).ok());
        if !guard!("credential.status", status == 200) {
            let said = answer.as_ref().and_then(|answer| answer.get("error")?.as_str());
            let known = said.and_then(|said| ERRORS.into_iter().find(|known| *known == said));
            let why = known.map_or_else(String::new, |known| format!(": {known}"));
            return Err(format!("it answered with {status}{why}"));
        }
        let answer = answer.ok_or("its answer is no JSON")?;
        let text = |name: &str| answer.get(name).and_then(Json::as_str);
        let bearer = text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if !guard!("credential.token-type", bearer) {
            return Err("its `token_type` is not Bearer".to_owned());
        }
        if matches!(self.kind, Kind::Exchange)
            && !guard!(
                "credential.issued-type",
                matches!(text("issued_token_type"), Some(ACCESS_TOKEN | JWT))
            )
        {
            return Err("its `issued_token_type` is no access token".to_owned());
        }
        let lifetime_s = answer.get("expires_in").and_then(Json::as_u64);
        let lifetime_s = lifetime_s.ok_or("its `expires_in` is no number of seconds")?;
        if !guard!("credential.lifetime", (1..=LONGEST_LIFETIME_S).contains(&lifetime_s)) {
            return Err(format!(
                "its token is for {lifetime_s} s, and one is taken that is for 1 to {LONGEST_LIFETIME_S} s"
            ));
        }
        if let Some(said) = text("scope") {
            let wider = |word: &str| !scopes.iter().any(|asked| asked.as_str() == word);
            let wider = !scopes.is_empty() && said.split(' ').filter(|word| !word.is_empty()).any(wider);
            if !guard!("credential.wider", !wider) {
                return Err("its token is for more scopes than were asked for".to_owned());
            }
        }
        let token = text("access_token").ok_or("its answer has no `access_token`")?;
        let plain = token.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        if !plain || !(8..=LONGEST_TOKEN).contains(&token.len()) {
            return Err(format!("its token is not 8 to {LONGEST_TOKEN} visible characters"));
        }
        Ok(Granted {
            token: Zeroizing::new(token.to_owned()),
            lifetime_s,
        })
    }
}

/// Scopes as a request has them: separated by spaces, in one order.
fn joined(scopes: &BTreeSet<ScopeWord>) -> String {
    let words: Vec<&str> = scopes.iter().map(ScopeWord::as_str).collect();
    words.join(" ")
}
