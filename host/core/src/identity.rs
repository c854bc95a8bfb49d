//! Who asks: an agent of a team of a tenant, for itself or for one of the users it may act for.
//!
//! How that is shown over HTTP is below: [`token`] reads what an issuer signed, [`jwk`] the keys that it signs with, [`claims`] says
//! who a token is about, [`key`] is about the keys that operators give out, and [`run_token`] about the tokens of a run. [`operator`]
//! is about operators, who are no callers. [`spiffe`] reads what a workload is called, and [`svid`] whom a certificate is of. Nothing of it is believed beyond what the
//! configuration says: whoever is identified is a [`Caller`] of a [`Directory`], or refused.

pub mod claims;
pub mod jwk;
pub mod key;
pub mod operator;
pub mod run_token;
pub mod spiffe;
pub mod svid;
pub mod token;
pub mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Refusal, printable};
use crate::guard;

/// The longest name of an agent, team, tenant or user, in bytes.
const LONGEST_NAME: usize = 128;

/// What the configuration says of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// The team it works in. A team belongs to one tenant.
    pub team: String,
    /// The tenant of the team.
    pub tenant: String,
    /// The users it may act for. None, unless they are named.
    #[serde(default)]
    pub users: BTreeSet<String>,
}

/// The agents that this home knows.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    agents: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    agent: Arc<Agent>,
    users: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Agent {
    tenant: String,
    team: String,
    name: String,
}

/// A verified caller. Only a [`Directory`] makes one, so whoever holds it holds an agent of the configuration and, where
/// there is a user, one that this agent may act for. Clones are cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    agent: Arc<Agent>,
    user: Option<Arc<str>>,
}

impl Directory {
    /// Checks the configured agents.
    ///
    /// # Errors
    /// [`Code::Config`]: a name is empty, too long or has control characters, or a team is in two tenants (a rule for
    /// `Team::"x"` would reach into both).
    pub fn new(agents: BTreeMap<String, AgentSpec>) -> Result<Directory, Refusal> {
        let mut tenants: BTreeMap<String, String> = BTreeMap::new();
        let mut entries = BTreeMap::new();
        for (name, spec) in agents {
            check_names(&name, &spec)?;
            let tenant = tenants.entry(spec.team.clone()).or_insert_with(|| spec.tenant.clone());
            if !guard!("policy.team-of-one-tenant", *tenant == spec.tenant) {
                let message = format!(
                    "team `{}` is in two tenants, `{tenant}` and `{}`",
                    spec.team, spec.tenant
                );
                return Err(Refusal::new(Code::Config, message).advise("give the teams different names"));
            }
            let agent = Arc::new(Agent {
                tenant: spec.tenant,
                team: spec.team,
                name: name.clone(),
            });
            entries.insert(
                name,
                Entry {
                    agent,
                    users: spec.users,
                },
            );
        }
        Ok(Directory { agents: entries })
    }

    /// The caller that this agent is, acting for this user.
    ///
    /// # Errors
    /// [`Code::Caller`]: no such agent, or it may not act for the user.
    pub fn caller(&self, agent: &str, user: Option<&str>) -> Result<Caller, Refusal> {
        let Some(entry) = self.agents.get(agent) else {
            let message = format!("agent `{}` is not known here", printable(agent));
            return Err(Refusal::new(Code::Caller, message).advise("name an agent that the configuration has"));
        };
        if let Some(user) = user
            && !guard!("policy.user-of-agent", entry.users.contains(user))
        {
            let message = format!("agent `{agent}` may not act for user `{}`", printable(user));
            let advice = format!("an operator can add the user to `users` of agent `{agent}`");
            return Err(Refusal::new(Code::Caller, message).advise(advice));
        }
        Ok(Caller {
            agent: Arc::clone(&entry.agent),
            user: user.map(Arc::from),
        })
    }

    /// The names of all agents, sorted.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        self.agents.keys().map(String::as_str)
    }
}

fn check_names(agent: &str, spec: &AgentSpec) -> Result<(), Refusal> {
    let users = spec.users.iter().map(|user| ("user", user.as_str()));
    for (what, name) in [("agent", agent), ("team", &spec.team), ("tenant", &spec.tenant)]
        .into_iter()
        .chain(users)
    {
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            let message = format!("`{}` cannot be the name of a {what}", printable(name));
            let advice = format!("use 1 to {LONGEST_NAME} bytes without control characters");
            return Err(Refusal::new(Code::Config, message).advise(advice));
        }
    }
    Ok(())
}

impl Caller {
    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.agent.tenant
    }

    /// The team.
    #[must_use]
    pub fn team(&self) -> &str {
        &self.agent.team
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.agent.name
    }

    /// The user it acts for.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn spec(team: &str, tenant: &str, users: &[&str]) -> AgentSpec {
        AgentSpec {
            team: team.into(),
            tenant: tenant.into(),
            users: users.iter().map(|&u| u.into()).collect(),
        }
    }

    fn directory(agents: &[(&str, AgentSpec)]) -> Result<Directory, Refusal> {
        Directory::new(
            agents
                .iter()
                .map(|(name, spec)| ((*name).to_owned(), spec.clone()))
                .collect(),
        )
    }

    fn check_refused(agent: &str, user: Option<&str>, message: &str) {
        let directory = directory(&[
            ("bot", spec("support", "acme", &["ana"])),
            ("loner", spec("support", "acme", &[])),
        ])
        .unwrap();
        let refusal = directory.caller(agent, user).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (Code::Caller, message));
    }

    #[test]
    fn an_agent_acts_for_itself_and_for_its_users() {
        let directory = directory(&[("bot", spec("support", "acme", &["ana"]))]).unwrap();
        let caller = directory.caller("bot", Some("ana")).unwrap();
        assert_eq!(
            (caller.tenant(), caller.team(), caller.agent(), caller.user()),
            ("acme", "support", "bot", Some("ana"))
        );
        assert_eq!(directory.caller("bot", None).unwrap().user(), None);
        assert_eq!(directory.agents().collect::<Vec<_>>(), ["bot"]);
    }

    #[test]
    fn anyone_else_is_refused() {
        check_refused("eve", None, "agent `eve` is not known here");
        check_refused("", None, "agent `` is not known here");
        check_refused("Bot", None, "agent `Bot` is not known here");
        check_refused("\u{1b}[2J", None, "agent `\\u{1b}[2J` is not known here");
        check_refused("bot", Some("bob"), "agent `bot` may not act for user `bob`");
        check_refused("bot", Some(""), "agent `bot` may not act for user ``");
        check_refused("loner", Some("ana"), "agent `loner` may not act for user `ana`");
    }

    #[test]
    fn a_team_is_in_one_tenant() {
        let refusal = directory(&[
            ("a", spec("support", "acme", &[])),
            ("b", spec("support", "other", &[])),
        ])
        .unwrap_err();
        assert_eq!(refusal.message, "team `support` is in two tenants, `acme` and `other`");
    }

    #[test]
    fn names_are_short_and_printable() {
        for name in ["", "a\nb", &"x".repeat(129)] {
            for bad in [
                spec(name, "acme", &[]),
                spec("support", name, &[]),
                spec("support", "acme", &[name]),
            ] {
                assert_eq!(directory(&[("bot", bad)]).unwrap_err().code, Code::Config);
            }
            assert!(directory(&[(name, spec("support", "acme", &[]))]).is_err());
        }
    }
}
