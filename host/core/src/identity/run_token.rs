//! Tokens of a run: what the home says in one, and what whoever holds one can take away of it, offline, for somebody else.
//!
//! A token is a [Biscuit](https://doc.biscuitsec.org/reference/specifications), version 3 of its format: a first block that the home
//! signs, and behind it blocks that holders append, each of which only takes away. Biscuits can carry any Datalog; these carry what is
//! below and nothing else. No Datalog is evaluated here: a block is read as one of ours, to the letter, or its token is refused. So what a
//! token allows is a [`Narrowing`], as it is of a key, and a program that evaluates Biscuits comes to the same.
//!
//! A first block:
//!
//! ```text
//! ambit_run("r_…");
//! home("ambit-ledger/…");
//! agent("support");
//! user("ada");
//! check if time($time), $time <= 2026-11-22T04:00:00Z;
//! ```
//!
//! And what a holder appends, each line at most once, in this order:
//!
//! ```text
//! check if time($time), $time <= 2026-11-22T03:10:00Z;
//! check if tool($tool), {"mail"}.contains($tool) or function($function), {"refunds/create"}.contains($function);
//! check if connection($connection), {"stripe"}.contains($connection);
//! check if tier($tier), {"read"}.contains($tier);
//! check if money("usd", $minor), $minor <= 1000;
//! ```
//!
//! How the bytes are signed and read is behind the trait `RunTokens` of `ambit-runtime`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::why::{Denied, Why};
use crate::digest::Digest;
use crate::grant::{MoneyCap, Narrowing};
use crate::guard;
use crate::ledger::body::{Amount, RunTokenShown, TokenMoney};
use crate::ledger::{parse_utc, utc};
use crate::money::{Currency, MOST};
use crate::run::{Run, RunError, is_run_id};
use crate::scope::Tier;

/// What each token begins with. No key of the home does: after `ambit_` these have no other `_`.
pub const PREFIX: &str = "ambit_run_";
/// How long a token is good where nobody says, in milliseconds: an hour.
pub const USUAL_MS: u64 = 3_600_000;
/// The longest that a token is good, in milliseconds: a day.
pub const LONGEST_MS: u64 = 24 * 3_600_000;
/// How often a token can be narrowed.
pub const MOST_BLOCKS: usize = 16;
/// The longest token, in characters: all its blocks, and room in a request's head beside it.
pub const LONGEST: usize = 8 << 10;
/// The longest name that can stand in a token, in bytes.
const LONGEST_NAME: usize = 256;
/// The last second of the year 9999: later ones have no text.
const LAST_S: u64 = 253_402_300_799;

/// What cannot be written into a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// A name.
    #[error(
        "the name `{0}` cannot stand in a token: 1 to {LONGEST_NAME} bytes without quotes, backslashes and control characters can"
    )]
    Name(String),
    /// A function that is none, or a tool where one is meant.
    #[error("`{0}` is no function: it is a tool and a function, such as `refunds/create`")]
    Function(String),
    /// A list of nothing.
    #[error("a token with no {0} left would be good for nothing")]
    Empty(&'static str),
    /// An amount.
    #[error("{0} is more money than can be counted")]
    Amount(u64),
    /// A time.
    #[error("the token would be good beyond the year 9999")]
    Time,
    /// Nothing is taken away.
    #[error("nothing is taken away")]
    Nothing,
}

/// What the home says in a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The run that calls with it are part of.
    pub run: String,
    /// The home, by the name of its ledger.
    pub home: String,
    /// The run's agent.
    pub agent: String,
    /// The user it acts for.
    pub user: Option<String>,
    /// The last second that it is good, in seconds since 1970.
    pub expires_s: u64,
}

impl Authority {
    /// It as the block's text.
    ///
    /// # Errors
    /// A name that cannot stand there.
    pub fn to_text(&self) -> Result<String, Unwritable> {
        let mut text = String::new();
        let mut fact = |name: &str, value: &str| -> Result<(), Unwritable> {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}({});", quoted(value)?);
            Ok(())
        };
        fact("ambit_run", &self.run)?;
        fact("home", &self.home)?;
        fact("agent", &self.agent)?;
        if let Some(user) = &self.user {
            fact("user", user)?;
        }
        text.push_str(&time_line(self.expires_s)?);
        Ok(text)
    }

    /// Reads the block's text; none for any other.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut reading = Reading(text);
        let run = reading.fact("ambit_run")?;
        let home = reading.fact("home")?;
        let agent = reading.fact("agent")?;
        let user = reading.begins("user(").then(|| reading.fact("user"));
        let user = match user {
            Some(user) => Some(user?),
            None => None,
        };
        let expires_s = reading.time_line()??;
        let whole = reading.is_over() && is_run_id(&run);
        whole.then_some(Self {
            run,
            home,
            agent,
            user,
            expires_s,
        })
    }
}

/// What a holder takes away. What is none takes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attenuation {
    /// Only these functions, as `tool/function`, or `tool/*` for all of a tool.
    pub functions: Option<BTreeSet<String>>,
    /// Only these connections.
    pub connections: Option<BTreeSet<String>>,
    /// Effects up to this tier.
    pub max_tier: Option<Tier>,
    /// No more money than this, in minor units, of all calls with this token and those that come of it together; none of a currency that
    /// is not there.
    pub money: Option<BTreeMap<Currency, u64>>,
    /// The last second that it is good, in seconds since 1970.
    pub expires_s: Option<u64>,
}

impl Attenuation {
    /// It as the block's text. There is one text for each.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn to_text(&self) -> Result<String, Unwritable> {
        if *self == Self::default() {
            return Err(Unwritable::Nothing);
        }
        let mut text = String::new();
        if let Some(expires_s) = self.expires_s {
            text.push_str(&time_line(expires_s)?);
        }
        if let Some(functions) = &self.functions {
            text.push_str(&functions_line(functions)?);
        }
        if let Some(connections) = &self.connections {
            let names = set("connection", connections.iter().map(String::as_str))?;
            let _ = writeln!(text, "check if connection($connection), {names}.contains($connection);");
        }
        if let Some(most) = self.max_tier {
            let names = set("tier", tiers_up_to(most))?;
            let _ = writeln!(text, "check if tier($tier), {names}.contains($tier);");
        }
        if let Some(money) = &self.money {
            let amounts = money.iter().map(|(currency, minor)| match *minor {
                0..=MOST => Ok(format!("money(\"{currency}\", $minor), $minor <= {minor}")),
                more => Err(Unwritable::Amount(more)),
            });
            let amounts: Vec<String> = amounts.collect::<Result<_, _>>()?;
            if amounts.is_empty() {
                return Err(Unwritable::Empty("currency"));
            }
            let _ = writeln!(text, "check if {};", amounts.join(" or "));
        }
        Ok(text)
    }

    /// Reads the block's text; none for any other.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut reading = Reading(text);
        let found = Self {
            expires_s: reading.time_line()?,
            functions: reading.functions_line()?,
            connections: reading.connections_line()?,
            max_tier: reading.tier_line()?,
            money: reading.money_line()?,
        };
        (reading.is_over() && found != Self::default()).then_some(found)
    }

    /// What it leaves of what a caller could do; `token` names the block that says it, of which money is counted.
    #[must_use]
    pub fn narrowing(&self, token: Digest) -> Narrowing {
        Narrowing {
            functions: self.functions.clone(),
            connections: self.connections.clone(),
            max_tier: self.max_tier,
            money: self
                .money
                .iter()
                .map(|most| MoneyCap {
                    most: most.clone(),
                    token,
                })
                .collect(),
            ..Narrowing::default()
        }
    }
}

/// A token that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What the home says.
    pub authority: Authority,
    /// What holders took away, in their order, each with the digest of its block's revocation id.
    pub blocks: Vec<(Digest, Attenuation)>,
    /// Which token it is: the digest of all its revocation ids.
    pub id: Digest,
}

impl Opened {
    /// What it leaves of what its run's caller could do.
    #[must_use]
    pub fn narrowing(&self) -> Narrowing {
        let blocks = self.blocks.iter();
        blocks.fold(Narrowing::default(), |left, (id, block)| {
            left.and(&block.narrowing(*id))
        })
    }

    /// The last second that it is good, in seconds since 1970: the earliest that any of its blocks says.
    #[must_use]
    pub fn expires_s(&self) -> u64 {
        let said = self.blocks.iter().filter_map(|(_, block)| block.expires_s);
        said.fold(self.authority.expires_s, u64::min)
    }

    /// What of it is on the ledger.
    #[must_use]
    pub fn shown(&self) -> RunTokenShown {
        let money = self.narrowing().money.into_iter().map(|cap| TokenMoney {
            most: cap
                .most
                .into_iter()
                .map(|(currency, minor)| Amount { currency, minor })
                .collect(),
            token: cap.token,
        });
        RunTokenShown {
            expires: self.over_ms(),
            money: money.collect(),
            token: self.id,
        }
    }

    /// From then on it is over, in milliseconds since 1970.
    fn over_ms(&self) -> u64 {
        self.expires_s().saturating_add(1).saturating_mul(1_000)
    }

    /// Whether it is of this home, and good at a time in milliseconds since 1970.
    ///
    /// # Errors
    /// [`Why::Audience`], [`Why::Expired`]
    pub fn check(&self, home: &str, now_ms: u64) -> Result<(), Denied> {
        if !guard!("token.home", self.authority.home == home) {
            return Err(Denied::new(Why::Audience, "the token is of another home"));
        }
        if !guard!("token.expired", now_ms < self.over_ms()) {
            return Err(Denied::new(Why::Expired, "the token is over"));
        }
        Ok(())
    }

    /// Whether it is of this run, which goes on at a time in milliseconds since 1970.
    ///
    /// # Errors
    /// [`Why::Revoked`] where an operator ended the run, [`Why::Expired`] where its time is over, [`Why::Agent`] where it is another's.
    pub fn check_run(&self, run: &Run, now_ms: i64) -> Result<(), Denied> {
        let Authority {
            run: id, agent, user, ..
        } = &self.authority;
        let of = &run.started.principal;
        let own = run.id() == id && of.agent == *agent && of.user == *user;
        if !guard!("token.principal", own) {
            return Err(Denied::new(Why::Agent, "the token's run is another's"));
        }
        match run.is_open(now_ms) {
            Err(_) if guard!("token.run-open", false) => Ok(()),
            Err(RunError::Expired) => Err(Denied::new(Why::Expired, "the token's run is over")),
            Err(_) => Err(Denied::new(Why::Revoked, "the token's run was ended")),
            Ok(()) => Ok(()),
        }
    }
}

/// Refused as no token, or not a whole one.
#[must_use]
pub fn malformed() -> Denied {
    Denied::new(Why::Malformed, "the run token is not one, or is not whole")
}

/// Refused for a block that is none of ours.
#[must_use]
pub fn unknown_block() -> Denied {
    let message =
        "the run token has a block with something else in it than a narrowing: narrow it with `ambit token narrow`";
    Denied::new(Why::Claims, message)
}

fn quoted(name: &str) -> Result<String, Unwritable> {
    if is_name(name) {
        Ok(format!("\"{name}\""))
    } else {
        Err(Unwritable::Name(crate::error::printable(name)))
    }
}

/// Whether a name can stand between quotes: the library that prints blocks puts no escapes there.
fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(plain)
}

/// Whether this is one function of one tool.
fn is_function(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(tool, function)| !tool.is_empty() && !function.is_empty() && function != "*")
}

fn set<'n>(what: &'static str, names: impl IntoIterator<Item = &'n str>) -> Result<String, Unwritable> {
    let names: Vec<String> = names.into_iter().map(quoted).collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Err(Unwritable::Empty(what));
    }
    Ok(format!("{{{}}}", names.join(", ")))
}

fn tiers_up_to(most: Tier) -> impl Iterator<Item = &'static str> {
    Tier::ALL
        .iter()
        .filter(move |tier| **tier <= most)
        .map(|tier| tier.as_str())
}

fn time_line(expires_s: u64) -> Result<String, Unwritable> {
    Ok(format!(
        "check if time($time), $time <= {};\n",
        time(expires_s).ok_or(Unwritable::Time)?
    ))
}

/// A second as a date of Datalog.
fn time(seconds: u64) -> Option<String> {
    let ms = i64::try_from(seconds.checked_mul(1_000)?).ok()?;
    let text = (seconds <= LAST_S).then(|| utc(ms))?;
    Some(format!("{}Z", text.strip_suffix(".000Z")?))
}

fn functions_line(functions: &BTreeSet<String>) -> Result<String, Unwritable> {
    let tools: Vec<&str> = functions.iter().filter_map(|name| name.strip_suffix("/*")).collect();
    let others: Vec<&str> = functions
        .iter()
        .filter(|name| !name.ends_with("/*"))
        .map(String::as_str)
        .collect();
    if let Some(other) = others.iter().find(|name| !is_function(name)) {
        return Err(Unwritable::Function(crate::error::printable(other)));
    }
    if let Some(tool) = tools.iter().find(|name| name.contains('/')) {
        return Err(Unwritable::Name(crate::error::printable(tool)));
    }
    let mut ways = Vec::new();
    if !tools.is_empty() {
        ways.push(format!("tool($tool), {}.contains($tool)", set("tool", tools)?));
    }
    if !others.is_empty() {
        let names = set("function", others)?;
        ways.push(format!("function($function), {names}.contains($function)"));
    }
    if ways.is_empty() {
        return Err(Unwritable::Empty("function"));
    }
    Ok(format!("check if {};\n", ways.join(" or ")))
}

/// What is left of a block's text. Each step takes what it knows, or says that the text is another's.
struct Reading<'t>(&'t str);

impl Reading<'_> {
    fn begins(&self, text: &str) -> bool {
        self.0.starts_with(text)
    }

    /// Takes `text` where it comes next.
    fn takes(&mut self, text: &str) -> bool {
        match self.0.strip_prefix(text) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn must(&mut self, text: &str) -> Option<()> {
        self.takes(text).then_some(())
    }

    const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn name(&mut self) -> Option<String> {
        let (name, rest) = self.0.strip_prefix('"')?.split_once('"')?;
        self.0 = rest;
        is_name(name).then(|| name.to_owned())
    }

    fn fact(&mut self, name: &str) -> Option<String> {
        self.must(name)?;
        self.must("(")?;
        let value = self.name()?;
        self.must(");\n")?;
        Some(value)
    }

    /// Names in braces, each once: in which order the library prints them is its own.
    fn set(&mut self) -> Option<BTreeSet<String>> {
        self.must("{")?;
        let mut names = BTreeSet::new();
        loop {
            if !names.insert(self.name()?) {
                return None;
            }
            if self.takes("}") {
                return Some(names);
            }
            self.must(", ")?;
        }
    }

    fn number(&mut self) -> Option<u64> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        let number: u64 = digits.parse().ok()?;
        (number <= MOST && number.to_string() == digits).then_some(number)
    }

    fn time_line(&mut self) -> Option<Option<u64>> {
        if !self.takes("check if time($time), $time <= ") {
            return Some(None);
        }
        let (text, rest) = self.0.split_once(";\n")?;
        self.0 = rest;
        let seconds = u64::try_from(parse_utc(text)?).ok()? / 1_000;
        (time(seconds)? == text).then_some(Some(seconds))
    }

    fn functions_line(&mut self) -> Option<Option<BTreeSet<String>>> {
        let mut functions = BTreeSet::new();
        let with_tools = self.takes("check if tool($tool), ");
        if with_tools {
            let tools = self.set()?;
            self.must(".contains($tool)")?;
            for tool in tools {
                if tool.contains('/') {
                    return None;
                }
                functions.insert(format!("{tool}/*"));
            }
        }
        let others = if with_tools {
            " or function($function), "
        } else {
            "check if function($function), "
        };
        let with_others = self.takes(others);
        if with_others {
            let names = self.set()?;
            self.must(".contains($function)")?;
            if !names.iter().all(|name| is_function(name)) {
                return None;
            }
            functions.extend(names);
        }
        if !with_tools && !with_others {
            return Some(None);
        }
        self.must(";\n")?;
        Some(Some(functions))
    }

    fn connections_line(&mut self) -> Option<Option<BTreeSet<String>>> {
        if !self.takes("check if connection($connection), ") {
            return Some(None);
        }
        let names = self.set()?;
        self.must(".contains($connection);\n")?;
        Some(Some(names))
    }

    fn tier_line(&mut self) -> Option<Option<Tier>> {
        if !self.takes("check if tier($tier), ") {
            return Some(None);
        }
        let names = self.set()?;
        self.must(".contains($tier);\n")?;
        let same = |most: &&Tier| tiers_up_to(**most).map(str::to_owned).collect::<BTreeSet<_>>() == names;
        Some(Some(*Tier::ALL.iter().find(same)?))
    }

    fn money_line(&mut self) -> Option<Option<BTreeMap<Currency, u64>>> {
        if !self.takes("check if money(") {
            return Some(None);
        }
        let mut money = BTreeMap::new();
        loop {
            let currency: Currency = self.name()?.parse().ok()?;
            self.must(", $minor), $minor <= ")?;
            let minor = self.number()?;
            // In their order, each once.
            let last = money.last_key_value().is_some_and(|(last, _)| *last >= currency);
            if last {
                return None;
            }
            money.insert(currency, minor);
            if self.takes(";\n") {
                return Some(Some(money));
            }
            self.must(" or money(")?;
        }
    }
}

#[cfg(test)]
mod tests;
