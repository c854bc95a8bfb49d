//! Who is on the other side of a request over HTTP.
//!
//! A request shows one credential, in `Authorization: Bearer …`: a token that a configured issuer signed for this host, a key that its
//! operator gave out, or a token of a run ([`ambit_runtime::run_tokens`]). Where it has no such header, its connection's certificate
//! counts, if the client showed one in its handshake; with such a header that certificate means nothing, so that a refused token is
//! refused. [`Authenticator::authenticate`] makes of either a [`Caller`] of the configuration, with what the credential leaves of what
//! that caller could do, or says what the request is to be answered with. Nothing else of a request says who its caller is.
//!
//! A token is looked at in this order: its form, its issuer, its algorithm, the issuer's key of its name, the signature, and then what
//! it says ([`Issuer::identify`](ambit_core::identity::claims::Issuer::identify)). Before the signature nothing of it is believed but
//! which of the configured issuers to ask.

mod challenge;
mod keys;
mod operators;
mod signature;
#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "an issuer on loopback")]
pub(crate) mod tests;
mod workload;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Narrowing;
use ambit_core::guard;
use ambit_core::identity::Caller;
use ambit_core::identity::key;
use ambit_core::identity::run_token;
use ambit_core::identity::token::Token;
use ambit_core::identity::why::{Denied, Why};
use ambit_core::ledger::body::{ShownBy, TokenShown};
use ambit_core::run::Run;
use ambit_runtime::clock::clock;
use ambit_runtime::host::Host;
use ambit_runtime::refused_callers::{MINUTE, RefusedCallers};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustls::server::danger::ClientCertVerifier;
use serde_json::Value;
use zeroize::Zeroizing;

pub use challenge::Unauthenticated;
pub(crate) use operators::{Operator, Operators};
pub use workload::Peer;

use challenge::Challenge;
use keys::{BETWEEN_MS, Provider};
use workload::Workloads;

/// Who makes a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Authenticated {
    /// The caller.
    pub caller: Caller,
    /// What its credential leaves of what the caller could do. A call is made with this and what the request itself gives up:
    /// [`Narrowing::and`].
    pub narrowing: Narrowing,
    /// What it showed: for [`Host::call_shown`].
    pub by: ShownBy,
    /// The run that all its calls are part of, where it showed a token of one.
    pub run: Option<Run>,
    /// The scopes of its token; none of a key, of a token of a run, or of a certificate.
    scopes: BTreeSet<String>,
}

/// Credentials that are refused, and the scopes that others would need: those of the token's own issuer, where it is of one.
struct Refused {
    denied: Denied,
    needs: Option<BTreeSet<String>>,
}

impl Refused {
    /// Of a token of this issuer's.
    fn of(provider: &Provider, denied: Denied) -> Refused {
        Refused {
            denied,
            needs: Some(provider.rules().required.clone()),
        }
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Refused {
        Refused { denied, needs: None }
    }
}

/// Knows who makes requests to one host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: Host,
    providers: Vec<Provider>,
    workloads: Workloads,
    challenge: Challenge,
    refused: RefusedCallers,
    /// Between two fetches of an issuer's keys, in milliseconds.
    between_ms: u64,
}

impl Authenticator {
    /// For a host whose configuration has a `[server]`.
    ///
    /// # Errors
    /// [`Code::Config`] where it has none.
    pub fn new(host: &Host) -> Result<Authenticator, Refusal> {
        Authenticator::with_times(host, MINUTE, BETWEEN_MS)
    }

    /// With other times than the usual ones: for how long refusals are counted, and between two fetches of an issuer's keys.
    fn with_times(host: &Host, minute: Duration, between_ms: u64) -> Result<Authenticator, Refusal> {
        let Some(config) = host.config().server() else {
            return Err(Refusal::new(Code::Config, "the configuration has no [server]")
                .advise("add it to ambit.toml: where to listen, and who may say who an agent is"));
        };
        Ok(Authenticator(Arc::new(Inner {
            host: host.clone(),
            providers: Provider::all(&[], host, &config.issuers, between_ms),
            workloads: Workloads::new(&config.spiffe),
            challenge: Challenge::new(config),
            refused: RefusedCallers::new(host, minute),
            between_ms,
        })))
    }

    /// The same by what the host has taken anew. Keys are kept of issuers of which the configuration says the same, and else fetched again.
    #[must_use]
    pub fn of_reading(&self, host: &Host) -> Authenticator {
        let Some(config) = host.config().server() else {
            return self.clone();
        };
        let between_ms = self.0.between_ms;
        Authenticator(Arc::new(Inner {
            host: host.clone(),
            providers: Provider::all(&self.0.providers, host, &config.issuers, between_ms),
            workloads: Workloads::new(&config.spiffe),
            challenge: Challenge::new(config),
            refused: self.0.refused.clone(),
            between_ms,
        }))
    }

    /// Whoever looks at clients' certificates in handshakes.
    pub(crate) fn in_handshakes(&self) -> Arc<dyn ClientCertVerifier> {
        self.0.workloads.in_handshakes()
    }

    /// Says who makes a request with these headers, and with this query in its target; `peer` is what its client showed in the
    /// connection's handshake, if anything.
    ///
    /// # Errors
    /// What it is to be answered with. That it was refused is counted, and goes to the ledger by the minute.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        peer: Option<&Peer>,
    ) -> Result<Authenticated, Unauthenticated> {
        let found = match credential(headers, query) {
            // Before keys: what it begins with begins with what keys do.
            Ok(word) if word.starts_with(run_token::PREFIX) => self.by_run_token(word).await.map_err(Refused::from),
            Ok(word) if word.starts_with(key::PREFIX) => self.by_key(word).map_err(Refused::from),
            Ok(word) => self.by_token(word).await,
            Err(denied) => Err(denied.into()),
        };
        let found = match (found, peer) {
            // Who shows a credential is whom that one is of, or nobody.
            (Err(refused), Some(peer)) if guard!("identity.spiffe-alone", refused.denied.why == Why::Missing) => {
                self.by_certificate(peer).map_err(Refused::from)
            }
            (found, _) => found,
        };
        found.map_err(|Refused { denied, needs }| {
            self.0.refused.note(denied.why);
            tracing::debug!(why = denied.why.as_str(), "credentials are refused");
            let needs = needs.unwrap_or_else(|| required(&self.0.providers));
            self.0.challenge.of(&denied, &needs)
        })
    }

    /// What a call of a function is to be answered with that the caller's scopes are not for, where others would be: which ones they
    /// are, with all that it has. None where its scopes are for it, or none would be. Whether policy would permit the call it does not
    /// ask: who would not be permitted it with whatever scopes is not to be told of them.
    #[must_use]
    pub fn step_up(&self, who: &Authenticated, tool: &str, function: &str) -> Option<Unauthenticated> {
        let ShownBy::Token(token) = &who.by else { return None };
        let provider = self
            .0
            .providers
            .iter()
            .find(|known| known.rules().name == token.issuer)?;
        let needed = provider.rules().step_up(&who.scopes, tool, function)?;
        let denied = Denied::new(Why::Scope, "the token has no scope for this function");
        Some(self.0.challenge.of(&denied, &needed))
    }

    /// The path at which the metadata of this resource is to be served, and the metadata (RFC 9728); none where the home has no resource.
    #[must_use]
    pub fn metadata(&self) -> Option<(&str, &Value)> {
        self.0.challenge.metadata()
    }

    fn by_key(&self, word: &str) -> Result<Authenticated, Denied> {
        let (caller, key) = self.0.host.known_key(&key::parse(word)?)?;
        Ok(Authenticated {
            caller,
            narrowing: key.narrowing().clone(),
            by: ShownBy::Key(key.id().to_owned()),
            run: None,
            scopes: BTreeSet::new(),
        })
    }

    fn by_certificate(&self, peer: &Peer) -> Result<Authenticated, Denied> {
        let (agent, shown) = self.0.workloads.identify(peer)?;
        // The configuration has the agent, or it would not have been read.
        let caller = self
            .0
            .host
            .directory()
            .caller(agent, None)
            .map_err(|_| Denied::new(Why::Agent, "the certificate is of nobody who is known here"))?;
        Ok(Authenticated {
            caller,
            narrowing: Narrowing::default(),
            by: ShownBy::Certificate(shown),
            run: None,
            scopes: BTreeSet::new(),
        })
    }

    async fn by_run_token(&self, word: &str) -> Result<Authenticated, Denied> {
        // The run is read from the ledger.
        let (host, word) = (self.0.host.clone(), Zeroizing::new(word.to_owned()));
        let known = tokio::task::spawn_blocking(move || host.known_run_token(&word)).await;
        let found = known.unwrap_or_else(|panic| {
            tracing::error!(%panic, "looking at a run token ended in a panic");
            Err(run_token::malformed())
        })?;
        Ok(Authenticated {
            caller: found.caller,
            narrowing: found.narrowing,
            by: found.by,
            run: Some(found.run),
            scopes: BTreeSet::new(),
        })
    }

    /// Counts a request that is refused for what it is, and not for what it shows: it goes to the ledger by the minute, as the others do.
    pub(crate) fn note(&self, why: Why) {
        self.0.refused.note(why);
    }

    async fn by_token(&self, word: &str) -> Result<Authenticated, Refused> {
        let (token, provider) = signed(&self.0.providers, word).await?;
        let rules = provider.rules();
        let found = rules
            .identify(&token.claims, self.0.host.directory(), now_s())
            .map_err(|denied| Refused::of(provider, denied))?;
        Ok(Authenticated {
            caller: found.caller,
            narrowing: found.narrowing,
            by: ShownBy::Token(TokenShown::new(&rules.name, found.jti.as_deref())),
            run: None,
            scopes: found.scopes,
        })
    }
}

/// The scopes that tokens of these issuers must have: of who shows none it is not known whose it would be.
fn required(providers: &[Provider]) -> BTreeSet<String> {
    let rules = providers.iter().map(|provider| provider.rules());
    rules.flat_map(|rules| rules.required.iter().cloned()).collect()
}

/// A token that one of these issuers signed. Nothing else of it is believed by that.
async fn signed<'p, 't>(providers: &'p [Provider], word: &'t str) -> Result<(Token<'t>, &'p Provider), Refused> {
    let token = Token::parse(word)?;
    let provider = token
        .issuer()
        .and_then(|issuer| providers.iter().find(|known| known.rules().issuer == issuer))
        .ok_or_else(|| Denied::new(Why::Issuer, "the token is of an issuer that is not known here"))?;
    let of_issuer = async {
        provider.rules().check_algorithm(token.algorithm)?;
        let key = provider.key(token.algorithm, token.kid.as_deref()).await?;
        signature::verify(&token, &key)
    };
    match of_issuer.await {
        Ok(()) => Ok((token, provider)),
        Err(denied) => Err(Refused::of(provider, denied)),
    }
}

fn now_s() -> u64 {
    clock() / 1_000
}

/// The one credential of a request.
fn credential<'h>(headers: &'h HeaderMap, query: Option<&str>) -> Result<&'h str, Denied> {
    if !guard!("identity.query", !query.is_some_and(has_token)) {
        // It is in logs by now, of whoever stands between.
        return Err(Denied::new(
            Why::Header,
            "a token does not go into a query: it goes into Authorization, and this one should be revoked",
        ));
    }
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = all.next() else {
        return Err(Denied::new(Why::Missing, "the request does not show who makes it"));
    };
    // Two readers could take one each.
    if !guard!("identity.one-header", all.next().is_none()) {
        return Err(Denied::new(Why::Header, "the request has more than one Authorization"));
    }
    let wrong = || Denied::new(Why::Header, "Authorization is `Bearer` and a token or a key");
    let text = value.to_str().map_err(|_| wrong())?;
    let (scheme, word) = text.split_once(' ').ok_or_else(wrong)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !scheme.eq_ignore_ascii_case("bearer") || word.is_empty() || !word.bytes().all(plain) {
        return Err(wrong());
    }
    Ok(word)
}

/// Whether a query has a token in it (RFC 6750, section 2.3), however its name is written.
fn has_token(query: &str) -> bool {
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    names.into_iter().any(|name| {
        let plain = unescaped(name);
        plain.eq_ignore_ascii_case(b"access_token")
    })
}

/// What stands for the bytes of a query's text.
pub(crate) fn unescaped(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let [byte, tail @ ..] = rest {
        let digits = tail.first_chunk::<2>().filter(|_| *byte == b'%');
        let value = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(value.unwrap_or(*byte));
        rest = match value {
            Some(_) => tail.get(2..).unwrap_or_default(),
            None => tail,
        };
    }
    plain
}
