//! Which operator is on the other side of a request: by another audience, other names and other keys than agents'.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_core::guard;
use ambit_core::identity::key;
use ambit_core::identity::operator::Scope;
use ambit_core::identity::why::{Denied, Why};
use ambit_core::ledger::body::{OperatorShown, ShownBy, TokenShown};
use ambit_runtime::host::Host;
use ambit_runtime::refused_callers::{MINUTE, RefusedCallers};
use http::HeaderMap;
use serde_json::Value;

use super::challenge::{Challenge, Unauthenticated};
use super::keys::{BETWEEN_MS, Provider};
use super::{Refused, credential, now_s, required, signed};

/// An operator who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    /// For the ledger: the name, and what was shown.
    pub(crate) shown: OperatorShown,
    /// What they may do.
    scopes: BTreeSet<Scope>,
}

impl Operator {
    /// Whether they may do that.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        guard!("operator.may", self.scopes.contains(&scope))
    }
}

/// Knows who operators are. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Operators(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: Host,
    providers: Vec<Provider>,
    challenge: Challenge,
    refused: RefusedCallers,
}

impl Operators {
    /// By what a host has taken; none where its configuration has no `[server.operators]`. Of `before`, what was by an earlier reading,
    /// keys are kept of issuers of which the configuration says the same, and so is the count of who was refused.
    pub(crate) fn of_reading(before: Option<&Operators>, host: &Host) -> Option<Operators> {
        let server = host.config().server()?;
        let config = server.operators.as_ref()?;
        let before = before.map(|Operators(before)| before);
        let known = before.map_or(&[][..], |before| &before.providers);
        Some(Operators(Arc::new(Inner {
            host: host.clone(),
            providers: Provider::all(known, host, &config.issuers, BETWEEN_MS),
            challenge: Challenge::of_operators(server, config),
            refused: before.map_or_else(|| RefusedCallers::new(host, MINUTE), |before| before.refused.clone()),
        })))
    }

    /// Looks once more at what an operator showed, right before what they ask for is done.
    ///
    /// # Errors
    /// What it is to be answered with, where a key is good no more.
    pub(crate) fn check(&self, operator: &Operator) -> Result<(), Unauthenticated> {
        let good = self.0.host.check_operator(&operator.shown);
        good.map_err(|denied| self.refused(&denied, &BTreeSet::new()))
    }

    /// The path at which the metadata of what operators' tokens are for is to be served, and the metadata (RFC 9728); none where that is no
    /// URL of this server's.
    pub(crate) fn metadata(&self) -> Option<(&str, &Value)> {
        self.0.challenge.metadata()
    }

    /// Says which operator makes a request with these headers, and with this query in its target, for something that takes this scope.
    ///
    /// # Errors
    /// What it is to be answered with. That it was refused is counted, and goes to the ledger by the minute.
    pub(crate) async fn authenticate(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        scope: Scope,
    ) -> Result<Operator, Unauthenticated> {
        let found = match credential(headers, query) {
            Ok(word) if word.starts_with(key::PREFIX) => self.by_key(word).map_err(Refused::from),
            Ok(word) => self.by_token(word).await,
            Err(denied) => Err(denied.into()),
        };
        found.map_err(|Refused { denied, needs }| {
            // Who is not told where tokens come from has no use for what they should say.
            let needs = self.metadata().map(|_| {
                let mut needs = needs.unwrap_or_else(|| required(&self.0.providers));
                needs.insert(scope.as_str().to_owned());
                needs
            });
            self.refused(&denied, &needs.unwrap_or_default())
        })
    }

    /// What an operator is answered who may not do that.
    pub(crate) fn lacking(&self, scope: Scope) -> Unauthenticated {
        let denied = Denied::new(Why::Scope, format!("that takes the scope {scope}"));
        self.refused(&denied, &BTreeSet::from([scope.as_str().to_owned()]))
    }

    fn refused(&self, denied: &Denied, scopes: &BTreeSet<String>) -> Unauthenticated {
        self.0.refused.note(denied.why);
        tracing::debug!(why = denied.why.as_str(), "credentials of an operator are refused");
        self.0.challenge.of(denied, scopes)
    }

    fn by_key(&self, word: &str) -> Result<Operator, Denied> {
        let shown = key::parse(word)?;
        let operator = self.0.host.known_operator(&shown)?;
        Ok(Operator {
            shown: OperatorShown {
                name: operator.name,
                shown: ShownBy::Key(shown.id),
            },
            scopes: operator.scopes,
        })
    }

    async fn by_token(&self, word: &str) -> Result<Operator, Refused> {
        let (token, provider) = signed(&self.0.providers, word).await?;
        let rules = provider.rules();
        let found = rules
            .identify_operator(&token.claims, now_s())
            .map_err(|denied| Refused::of(provider, denied))?;
        Ok(Operator {
            shown: OperatorShown {
                name: found.name,
                shown: ShownBy::Token(TokenShown::new(&rules.name, found.jti.as_deref())),
            },
            scopes: found.scopes,
        })
    }
}
