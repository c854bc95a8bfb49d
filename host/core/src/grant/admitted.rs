//! An effect that scope, route, tier and narrowing let pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::effect::{GuestResponse, HeaderSet, HttpRequest, answer};
use crate::error::{Code, Refusal};
use crate::field::FieldSet;
use crate::guard;
use crate::json::{self, Json};
use crate::money::Spend;
use crate::object::{Image, Sent};
use crate::policy::FieldFacts;
use crate::route::{Connection, Lookup, ObjectQuestion, Route};
use crate::scope::Tier;

/// A request that scope, route, tier and narrowing let pass. Only [`Grant::admit`](super::Grant::admit) makes one for a guest,
/// [`Admitted::currency_lookup`] one for the host's own question,
/// [`TokenEndpoint`](crate::credential::TokenEndpoint) one for a token, and [`Grant::admit_inverse`](super::Grant::admit_inverse) one for what an
/// operator has taken back.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub(super) connection: Arc<Connection>,
    pub(super) route: Route,
    pub(super) tier: Tier,
    pub(super) captures: BTreeMap<String, String>,
    pub(super) request: HttpRequest,
    pub(super) reads: FieldSet,
    pub(super) headers: HeaderSet,
    pub(super) limits: json::Limits,
}

impl Admitted {
    /// A request of the host's own that no guest's words are in, and of whose answer nothing is kept: for a token.
    pub(crate) fn of_host(
        connection: &Arc<Connection>,
        route: &Route,
        request: HttpRequest,
        limits: json::Limits,
    ) -> Admitted {
        Admitted {
            connection: Arc::clone(connection),
            route: route.clone(),
            tier: Tier::Read,
            captures: BTreeMap::new(),
            request,
            reads: FieldSet::new(),
            headers: HeaderSet::new(),
            limits,
        }
    }

    /// The connection that it goes to.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The route that it takes.
    #[must_use]
    pub const fn route(&self) -> &Route {
        &self.route
    }

    /// How much it changes: the action that policy decides on.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// The named segments of the route's path.
    #[must_use]
    pub const fn captures(&self) -> &BTreeMap<String, String> {
        &self.captures
    }

    /// What is sent.
    #[must_use]
    pub const fn request(&self) -> &HttpRequest {
        &self.request
    }

    /// What of an answer's body is read: no more than scope, route and narrowing each allow.
    #[must_use]
    pub const fn reads(&self) -> &FieldSet {
        &self.reads
    }

    /// Which of an answer's headers are read, beside `content-type`.
    #[must_use]
    pub const fn headers(&self) -> &HeaderSet {
        &self.headers
    }

    /// Its fields as policies see them.
    #[must_use]
    pub fn field_facts(&self) -> FieldFacts {
        FieldFacts::of(&self.request)
    }

    /// The header that the service knows a repeated request by.
    #[must_use]
    pub fn idempotency_header(&self) -> Option<&str> {
        self.route.idempotency().map(|idempotency| idempotency.header.as_str())
    }

    /// What it spends; `looked_up` is the currency that [`currency_lookup`](Self::currency_lookup) found.
    ///
    /// # Errors
    /// [`Code::Money`], as [`Route::spend`].
    pub fn spend(&self, looked_up: Option<&str>) -> Result<Spend, Refusal> {
        self.route.spend(&self.request, looked_up)
    }

    /// The host's own question to the service that must be answered before [`spend`](Self::spend), where there is one.
    ///
    /// The operator's route asks for it, so the tool's scope, its function's tier and the caller's narrowing do not apply: of
    /// the answer only the host sees anything, and only the one member.
    ///
    /// # Errors
    /// [`Code::Money`] where it cannot be asked.
    pub fn currency_lookup(&self) -> Result<Option<CurrencyLookup>, Refusal> {
        let Some(lookup) = self.route.lookup(&self.request)? else {
            return Ok(None);
        };
        let (request, route) = lookup.request(&self.connection)?;
        let matched = self.connection.find(&request)?;
        let mut reads = FieldSet::new();
        reads.insert(&lookup.read);
        let admitted = Admitted {
            connection: Arc::clone(&self.connection),
            route: route.clone(),
            tier: matched.tier,
            captures: matched.captures,
            request,
            reads,
            headers: HeaderSet::new(),
            limits: self.limits,
        };
        Ok(Some(CurrencyLookup { admitted, lookup }))
    }

    /// What to ask about the object that it changes, where its route says how, and where there can be one before.
    ///
    /// # Errors
    /// [`Code::Object`] where the request does not name one object.
    pub fn object(&self) -> Result<Option<ObjectQuestion>, Refusal> {
        match self.changed_object() {
            Some(object) => object.question(&self.route, &self.request),
            None => Ok(None),
        }
    }

    /// What to ask about the object that it created, by the service's answer; none where that names none. Only the host looks at that
    /// member, so neither scope nor narrowing apply. Call it after secrets were masked in `body`.
    #[must_use]
    pub fn created_object(&self, body: &[u8]) -> Option<ObjectQuestion> {
        let object = self.changed_object()?;
        let answer = std::str::from_utf8(body)
            .ok()
            .map(|text| Json::parse(text, self.limits));
        object.question_of_answer(&answer.and_then(Result::ok)?)
    }

    /// How to read what it changes, where it changes something.
    #[must_use]
    pub fn changed_object(&self) -> Option<&crate::route::Object> {
        self.route.object().filter(|_| self.tier != Tier::Read)
    }

    /// The host's own question about an object, through the route that reads it. As with [`currency_lookup`](Self::currency_lookup) it
    /// is the operator's route that asks for it, and only the host sees the answer.
    ///
    /// # Errors
    /// [`Code::Object`] where it cannot be asked.
    pub fn object_read(&self, question: &ObjectQuestion) -> Result<ObjectRead, Refusal> {
        let (request, route) = question.request(&self.connection)?;
        let matched = self.connection.find(&request)?;
        let mut headers = HeaderSet::new();
        if question.with_etag {
            headers
                .insert("etag")
                .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        }
        let admitted = Admitted {
            connection: Arc::clone(&self.connection),
            route: route.clone(),
            tier: matched.tier,
            captures: matched.captures,
            request,
            reads: route.reads().clone(),
            headers,
            limits: self.limits,
        };
        Ok(ObjectRead {
            admitted,
            with_etag: question.with_etag,
        })
    }

    /// What its body sends.
    #[must_use]
    pub fn sent(&self) -> Sent<'_> {
        Sent::of(&self.request)
    }

    /// What of the service's answer may be seen. Call it after secrets were masked in `headers` and `body`.
    #[must_use]
    pub fn answer(&self, status: u16, headers: &[(String, String)], body: &[u8]) -> GuestResponse {
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        answer(status, headers, body, &self.reads, &self.headers, self.limits)
    }
}

/// The host's own question about an object.
#[derive(Clone, Debug)]
pub struct ObjectRead {
    admitted: Admitted,
    with_etag: bool,
}

impl ObjectRead {
    /// The question, as an effect.
    #[must_use]
    pub const fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// The object in the answer.
    ///
    /// # Errors
    /// [`Code::Object`] where the answer neither has it nor says that there is none.
    pub fn image(&self, answer: &GuestResponse) -> Result<Image, Refusal> {
        Image::of(answer, self.with_etag, self.admitted.limits).map_err(|refusal| Refusal {
            message: format!("`{}`: {}", self.admitted.route.name(), refusal.message),
            ..refusal
        })
    }
}

/// The host's own question about a currency.
#[derive(Clone, Debug)]
pub struct CurrencyLookup {
    admitted: Admitted,
    lookup: Lookup,
}

impl CurrencyLookup {
    /// The question, as an effect.
    #[must_use]
    pub const fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// The currency in the answer.
    ///
    /// # Errors
    /// [`Code::Money`] where the answer is no success, or has none.
    pub fn read(&self, answer: &GuestResponse) -> Result<String, Refusal> {
        if !guard!("money.lookup-status", (200..300).contains(&answer.status)) {
            let message = format!(
                "`{}` answered with status {}, so the currency is not known",
                self.lookup.route, answer.status
            );
            return Err(Refusal::new(Code::Money, message));
        }
        let body = answer
            .body
            .as_deref()
            .map(|body| Json::parse(body, self.admitted.limits));
        self.lookup.currency(&body.and_then(Result::ok).unwrap_or_default())
    }
}
