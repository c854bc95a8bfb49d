//! How much a request spends, read from the body that will be sent.

use std::collections::BTreeMap;

use super::condition::is_form;
use super::spec::{CurrencySpec, MoneySpec, one_field};
use super::{Connection, Route};
use crate::effect::HttpRequest;
use crate::error::{Code, Refusal, printable};
use crate::field::{FieldPath, FieldSet};
use crate::guard;
use crate::json::Json;
use crate::money::{Currency, Spend};

/// Where a route's requests say what they spend.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Money {
    amount: FieldPath,
    currency: From,
    cap: Option<BTreeMap<Currency, u64>>,
}

#[derive(Clone, Debug, PartialEq)]
enum From {
    Constant(Currency),
    Field(FieldPath),
    Lookup {
        route: String,
        from: FieldPath,
        read: FieldPath,
    },
}

/// A question of the host's own to the service, before the money of a request is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The route of the same connection that it goes through.
    pub route: String,
    /// The one object to read.
    pub object: String,
    /// The member of the answer that is wanted; nothing else of it is looked at.
    pub read: FieldPath,
}

impl Lookup {
    /// The request, and the route it takes.
    ///
    /// # Errors
    /// [`Code::Money`] where the object's name cannot stand in a path, or the path leads to another route.
    pub fn request<'c>(&self, connection: &'c Connection) -> Result<(HttpRequest, &'c Route), Refusal> {
        let refuse = || {
            Refusal::new(
                Code::Money,
                format!("the currency cannot be looked up for `{}`", printable(&self.object)),
            )
        };
        let route = connection.route(&self.route).ok_or_else(refuse)?;
        let request = route.one_object(connection, &self.object).ok_or_else(refuse)?;
        // The object's name is the guest's: it must not make the path one of another route.
        let found = connection.find(&request).map_err(|_| refuse())?;
        if !guard!("money.lookup-route", found.route.name() == self.route) {
            return Err(refuse());
        }
        Ok((request, route))
    }

    /// The currency in the service's answer.
    ///
    /// # Errors
    /// [`Code::Money`] where it has none.
    pub fn currency(&self, answer: &Json) -> Result<String, Refusal> {
        match self.read.select(answer).as_slice() {
            [Json::String(text)] => Ok(text.clone()),
            _ => Err(Refusal::new(
                Code::Money,
                format!(
                    "`{}` answered without `{}`, so the currency is not known",
                    self.route, self.read
                ),
            )),
        }
    }
}

impl Money {
    pub(super) fn check(spec: MoneySpec, fields: &FieldSet) -> Result<Money, String> {
        let amount = one_field("money.amount", &spec.amount)?;
        let currency = From::check(spec.currency)?;
        let sent = [Some(&amount), currency.field()].into_iter().flatten();
        for field in sent {
            if !fields.covers(field) {
                return Err(format!("`money` reads `{field}`, which `fields` does not allow"));
            }
        }
        let cap = spec.cap.map(cap).transpose()?;
        Ok(Money { amount, currency, cap })
    }

    /// The currencies that stand in the route itself.
    pub(super) fn named(&self) -> impl Iterator<Item = Currency> {
        let constant = match &self.currency {
            From::Constant(currency) => Some(*currency),
            From::Field(_) | From::Lookup { .. } => None,
        };
        let capped = self.cap.iter().flat_map(BTreeMap::keys).copied();
        constant.into_iter().chain(capped)
    }

    pub(super) fn lookup_route(&self) -> Option<&str> {
        match &self.currency {
            From::Lookup { route, .. } => Some(route),
            _ => None,
        }
    }

    pub(super) fn lookup(&self, request: &HttpRequest) -> Result<Option<Lookup>, Refusal> {
        let From::Lookup { route, from, read } = &self.currency else {
            return Ok(None);
        };
        // No question is worth asking for an amount that cannot be read.
        self.amount(request)?;
        match from.select(request.fields()).as_slice() {
            [Json::String(object)] if !object.is_empty() => Ok(Some(Lookup {
                route: route.clone(),
                object: object.clone(),
                read: read.clone(),
            })),
            _ => Err(Refusal::new(
                Code::Money,
                format!("the field `{from}`, which the currency is looked up with, is not one text"),
            )),
        }
    }

    pub(super) fn spend(&self, request: &HttpRequest, looked_up: Option<&str>) -> Result<Spend, Refusal> {
        let minor = self.amount(request)?;
        let currency = self.currency(request, looked_up)?;
        self.within_cap(currency, minor)?;
        Ok(Spend::Known { currency, minor })
    }

    /// Exactly one integer above zero: a JSON number, or in a form its decimal digits.
    fn amount(&self, request: &HttpRequest) -> Result<i64, Refusal> {
        let field = &self.amount;
        let read = match field.select(request.fields()).as_slice() {
            [Json::Number(number)] => number.as_i64(),
            [Json::String(text)] if guard!("money.text", is_form(request)) => digits(text),
            [] => {
                return Err(Refusal::new(
                    Code::Money,
                    format!("the amount (`{field}`) is missing, so what it spends is not known"),
                )
                .advise("name the amount: a request without one may move everything"));
            }
            _ => None,
        };
        let minor = read.ok_or_else(|| {
            Refusal::new(
                Code::Money,
                format!("the amount (`{field}`) is not one whole number of minor units"),
            )
        })?;
        // Zero is no small amount: there are services that read it as no amount, and move everything.
        if !guard!("money.positive", minor > 0) {
            return Err(Refusal::new(
                Code::Money,
                format!("the amount (`{field}`) is {minor}, which moves nothing, or to some services everything"),
            )
            .advise("name an amount of at least 1 minor unit"));
        }
        Ok(minor)
    }

    fn currency(&self, request: &HttpRequest, looked_up: Option<&str>) -> Result<Currency, Refusal> {
        let unknown = |text: &str| Refusal::new(Code::Money, format!("`{}` is no currency", printable(text)));
        match (&self.currency, looked_up) {
            (From::Constant(currency), _) => Ok(*currency),
            (From::Field(field), _) => match field.select(request.fields()).as_slice() {
                [Json::String(text)] => Currency::from_any_case(text).map_err(|_| unknown(text)),
                _ => Err(Refusal::new(
                    Code::Money,
                    format!("the currency (`{field}`) is missing, or is not one text"),
                )),
            },
            (From::Lookup { .. }, Some(text)) => Currency::from_any_case(text).map_err(|_| unknown(text)),
            (From::Lookup { .. }, None) => Err(Refusal::new(Code::Money, "the currency was not looked up")),
        }
    }

    fn within_cap(&self, currency: Currency, minor: i64) -> Result<(), Refusal> {
        let Some(cap) = &self.cap else { return Ok(()) };
        let most = cap.get(&currency).copied();
        let within = most.is_some_and(|most| u64::try_from(minor).is_ok_and(|minor| minor <= most));
        if !guard!("money.cap", within) {
            let message = match most {
                Some(most) => format!(
                    "{minor} {currency} is more than {most} {currency}, the most that one effect may move (minor units)"
                ),
                None => format!("the route has no cap for {currency}, so it moves none"),
            };
            return Err(Refusal::new(Code::Money, message));
        }
        Ok(())
    }
}

impl From {
    fn check(spec: CurrencySpec) -> Result<From, String> {
        let help = "`currency` takes { constant = \"usd\" }, { field = \"…\" } or { lookup = \"ROUTE\", from = \"…\", read = \"…\" }";
        match (spec.constant, spec.field, spec.lookup, spec.from, spec.read) {
            (Some(code), None, None, None, None) => Ok(From::Constant(currency(&code)?)),
            (None, Some(field), None, None, None) => Ok(From::Field(one_field("money.currency.field", &field)?)),
            (None, None, Some(route), Some(from), Some(read)) => Ok(From::Lookup {
                route,
                from: one_field("money.currency.from", &from)?,
                read: one_field("money.currency.read", &read)?,
            }),
            _ => Err(help.to_owned()),
        }
    }

    /// The field of the request that it is read from.
    const fn field(&self) -> Option<&FieldPath> {
        match self {
            From::Constant(_) => None,
            From::Field(field) => Some(field),
            From::Lookup { from, .. } => Some(from),
        }
    }
}

fn currency(text: &str) -> Result<Currency, String> {
    text.parse().map_err(|e| format!("`{text}`: {e}"))
}

fn cap(spec: BTreeMap<String, u64>) -> Result<BTreeMap<Currency, u64>, String> {
    spec.into_iter()
        .map(|(code, most)| Ok((currency(&code)?, most)))
        .collect()
}

/// Decimal digits as a service reads them in any base it likes: no sign, no leading zero, no space.
fn digits(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !guard!("money.digits", plain) {
        return None;
    }
    text.parse().ok()
}
