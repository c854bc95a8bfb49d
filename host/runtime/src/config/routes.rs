//! `[connection.*.route.*]`: what of a service can be used.

use std::collections::BTreeMap;
use std::ops::Range;

use ambit_core::error::printable;
use ambit_core::field::FieldPath;
use ambit_core::flow::RetrySpec;
use ambit_core::guard;
use ambit_core::route::{Connection, Object, OfAllRoutes, RouteSpec, UndoSpec};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

use super::connection::{Way, checked};
use super::reader::{Located, Source, Table, nearest};

/// Routes as they stand in the file, and where.
#[derive(Default)]
pub(super) struct Specs {
    specs: BTreeMap<String, RouteSpec>,
    places: BTreeMap<String, Range<usize>>,
}

/// Reads the routes of a connection, without looking at what they mean together.
pub(super) fn specs(table: &Table<'_>) -> Specs {
    let mut specs = Specs::default();
    let of_connection = OfAllRoutes {
        retries: checked(table, "retries", RetrySpec::check),
        dead_letter: table.bool("dead_letter"),
    };
    for (name, route) in table.named("route", "route") {
        check_name(route.source(), &name);
        if let Some(spec) = spec(&route) {
            let spec = RouteSpec { of_connection, ..spec };
            specs.specs.insert(name.value.clone(), spec);
        }
        specs.places.insert(name.value, name.span);
    }
    specs
}

/// serde stops at the first mistake; the key that it is in is taken away until there is none.
fn spec(route: &Table<'_>) -> Option<RouteSpec> {
    let mut entries = route.entries().clone();
    let mut wrong = Vec::new();
    loop {
        let value = Spanned::new(route.span(), DeValue::Table(entries.clone()));
        let error = match RouteSpec::deserialize(ValueDeserializer::from(value)) {
            Ok(spec) => return wrong.is_empty().then_some(spec),
            Err(error) => error,
        };
        if quoted(error.message(), "missing field ").is_some_and(|key| wrong.iter().any(|wrong| wrong == key)) {
            return None;
        }
        report(route, &error);
        let key = holder(&entries, error.span())?;
        entries.remove(key.as_str());
        wrong.push(key);
    }
}

/// A table of fixed keys below `key` that serde reads.
pub(super) fn small<T: DeserializeOwned>(table: &Table<'_>, key: &str) -> Option<T> {
    let inner = table.table(key, format!("`{key}` of {}", table.what()))?;
    let value = Spanned::new(inner.span(), DeValue::Table(inner.entries().clone()));
    T::deserialize(ValueDeserializer::from(value))
        .map_err(|error| report(&inner, &error))
        .ok()
}

/// The key whose name or value is at `span`.
fn holder(entries: &DeTable<'_>, span: Option<Range<usize>>) -> Option<String> {
    let at = span?.start;
    entries
        .iter()
        .find(|(key, value)| key.span().contains(&at) || value.span().contains(&at))
        .map(|(key, _)| key.get_ref().clone().into_owned())
}

fn report(route: &Table<'_>, error: &Error) {
    let message = error.message();
    let span = error.span().filter(|span| !span.is_empty()).unwrap_or(route.span());
    if let Some(key) = quoted(message, "unknown field ") {
        let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        let help = match nearest(key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        let message = format!("unknown key `{}` in {}", printable(key), route.what());
        route.source().problem(span, message, "not known", Some(help));
    } else if let Some(key) = quoted(message, "missing field ") {
        let message = format!("{} has no `{key}`", route.what());
        route.source().problem(span, message, "missing here", None);
    } else if message.contains("TierSpec") {
        // Of a choice between forms serde only says that none fits.
        let message = format!("`tier` of {} is not a tier", route.what());
        let help =
            "\"read\", \"draft\", \"commit\", or { if = \"draft == true\", then = \"draft\", else = \"commit\" }";
        route
            .source()
            .problem(span, message, "not known", Some(help.to_owned()));
    } else if message.contains("UndoSpec") {
        let message = format!("`undo` of {} is no way to undo", route.what());
        let help = "\"write-back\", or { route = \"refunds.cancel\" }";
        route
            .source()
            .problem(span, message, "not known", Some(help.to_owned()));
    } else {
        let message = format!("{} cannot be read: {message}", route.what());
        route.source().problem(span, message, "here", None);
    }
}

/// What serde puts between backquotes after `start`.
fn quoted<'m>(message: &'m str, start: &str) -> Option<&'m str> {
    message.strip_prefix(start)?.strip_prefix('`')?.split('`').next()
}

/// Puts a connection's routes together. What is wrong with one is reported, and the others are looked at without it.
pub(super) fn check(name: &Located<String>, way: &Way, specs: Specs, source: &Source) -> Option<Connection> {
    let Specs { mut specs, places } = specs;
    loop {
        let error = match Connection::new(&name.value, way.origin.clone(), specs.clone()) {
            Ok(connection) => {
                check_hosts_own(&connection, way, &places, source);
                return Some(connection);
            }
            Err(error) => error,
        };
        let first = error.names.first()?;
        let place = places.get(first).cloned().unwrap_or(name.span.clone());
        let message = match error.names.len() {
            1 => format!("route `{first}` of connection `{}`: {}", name.value, error.message),
            _ => format!("connection `{}`: {}", name.value, error.message),
        };
        source.problem(place, message, "this route", None);
        specs.remove(first)?;
        specs.retain(|_, spec| !looks_up_through(spec, first) && !undoes_through(spec, first));
    }
}

fn looks_up_through(spec: &RouteSpec, route: &str) -> bool {
    let money = spec.money.as_ref();
    let object = spec.object.as_ref();
    money.is_some_and(|money| money.currency.lookup.as_deref() == Some(route))
        || object.is_some_and(|object| object.read == route)
}

fn undoes_through(spec: &RouteSpec, route: &str) -> bool {
    matches!(&spec.undo, Some(UndoSpec::Route(through)) if through.route == route)
}

/// What the host sets on every request of a connection cannot be what a route lets a guest set.
fn check_hosts_own(connection: &Connection, way: &Way, places: &BTreeMap<String, Range<usize>>, source: &Source) {
    for route in connection.routes() {
        let header = route.headers().iter().find(|name| way.sets_header(name));
        let key = route.idempotency().map(|key| key.header.as_str());
        let key = key.filter(|name| way.cannot_hold_key(name));
        let with_version = route.object().is_some_and(Object::if_match);
        let version = with_version
            .then_some("if-match")
            .filter(|name| way.cannot_hold_key(name));
        let query = way.query_name().filter(|name| {
            let field = name.parse::<FieldPath>();
            field.is_ok_and(|field| route.query().covers(&field))
        });
        let clash = [
            ("header", header),
            ("idempotency header", key),
            ("version header", version),
            ("query parameter", query),
        ];
        // Asked for none, a service gives what it thinks best: mostly all that the client may have.
        let some = way.has_scopes() || !connection.routes().any(|other| !other.scopes().is_empty());
        if !guard!("config.scopes-all", some || !route.scopes().is_empty()) {
            let place = places.get(route.name()).cloned().unwrap_or_default();
            let message = format!(
                "route `{}` of connection `{}` has no `scopes`, as others have: its tokens could do whatever the service likes",
                route.name(),
                connection.name()
            );
            let help = "say which it needs, or `scopes` of the credential, for all of them".to_owned();
            source.problem(place, message, "this route", Some(help));
        }
        let scoped = route.scopes().is_empty() || way.takes_scopes();
        if !guard!("config.scopes", scoped) {
            let place = places.get(route.name()).cloned().unwrap_or_default();
            let message = format!(
                "route `{}` of connection `{}` has `scopes`, and no token is asked for there",
                route.name(),
                connection.name()
            );
            let help = "scopes are of the tokens of `credential = { oauth2 = … }` and `{ exchange = … }`".to_owned();
            source.problem(place, message, "this route", Some(help));
        }
        for (kind, name) in clash {
            if let Some(name) = name
                && !guard!("config.hosts-own", false)
            {
                let place = places.get(route.name()).cloned().unwrap_or_default();
                let message = format!(
                    "route `{}` of connection `{}` has the {kind} `{name}`, which is the host's",
                    route.name(),
                    connection.name()
                );
                let help = "leave it out of the route: only the host sets it".to_owned();
                source.problem(place, message, "this route", Some(help));
            }
        }
    }
}

fn check_name(source: &Source, name: &Located<String>) {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let usable = (1..=64).contains(&name.value.len()) && name.value.bytes().all(inside);
    if !guard!("config.route-name", usable) {
        let message = format!("`{}` cannot be the name of a route", printable(&name.value));
        let help = "1 to 64 letters, digits, `-`, `_` and `.`".to_owned();
        source.problem(name.span.clone(), message, "not a name", Some(help));
    }
}
