//! Tokens of a run: made by the operator, narrowed offline by whoever holds one, and looked at when one is shown.
//!
//! What a token says, and what it comes to, is in [`ambit_core::identity::run_token`]. [`RunTokens`] is how it is written down and signed,
//! and [`Biscuits`] the one way to do that. The home's key is made with its first token, in a file of its own: it signs nothing but these.

mod biscuit;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Narrowing;
use ambit_core::identity::Caller;
use ambit_core::identity::run_token::{Attenuation, Authority, LONGEST_MS, Opened, Unwritable};
use ambit_core::identity::why::{Denied, Why};
use ambit_core::ledger::body::ShownBy;
use ambit_core::run::Run;
use zeroize::Zeroizing;

pub use biscuit::Biscuits;

use crate::clock::{clock, now_ms};
use crate::host::{Host, OpenError};
use crate::store::{self, StoreError};

/// A token as it is shown. Whoever has it can do what it says, so it prints nothing of itself, and is wiped when dropped.
pub struct Token(Zeroizing<String>);

impl Token {
    /// The word, for whoever is to have it.
    #[must_use]
    pub fn word(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How tokens of runs are written down, signed, narrowed and read.
pub trait RunTokens: fmt::Debug + Send + Sync {
    /// Makes a token. Only who has the home's key can.
    ///
    /// # Errors
    /// Where it cannot be written, or there is no randomness.
    fn mint(&self, authority: &Authority) -> Result<Token, TokenError>;

    /// Reads a token that the home's key signed, and that holders did nothing to but narrow it. When it is over, and which run it is of,
    /// is for whoever asks.
    ///
    /// # Errors
    /// [`Why::Malformed`], [`Why::Signature`], and [`Why::Claims`] for a block with anything else in it.
    fn open(&self, word: &str) -> Result<Opened, Denied>;

    /// Takes something away from a token. Nothing but the token is needed, and it is not verified: what comes of a forged one is forged.
    ///
    /// # Errors
    /// Where it is no token, was sealed, was narrowed as often as it can be, or would be too long.
    fn narrow(word: &str, by: &Attenuation) -> Result<Token, TokenError>
    where
        Self: Sized;

    /// Makes a token that cannot be narrowed any more.
    ///
    /// # Errors
    /// Where it is no token, or is sealed already.
    fn seal(word: &str) -> Result<Token, TokenError>
    where
        Self: Sized;

    /// Reads what a token says, without verifying any of it: for whoever holds it.
    ///
    /// # Errors
    /// As [`RunTokens::open`], but for signatures.
    fn read(word: &str) -> Result<Opened, Denied>
    where
        Self: Sized;
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// What was given is none.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// What it is to say cannot be written.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    /// It takes no more.
    #[error("{0}")]
    Full(&'static str),
    /// It was sealed.
    #[error("the token is sealed: it cannot be narrowed or sealed again")]
    Sealed,
    /// The operating system gives no randomness, or the library failed.
    #[error("a token cannot be made: {0}")]
    Failed(String),
}

/// Who shows a token of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCaller {
    /// The run's caller.
    pub caller: Caller,
    /// The run, which is open.
    pub run: Run,
    /// What the token leaves of what the caller could do.
    pub narrowing: Narrowing,
    /// What of it is on the ledger.
    pub by: ShownBy,
}

/// The home's key of these tokens, once there is one. Read again with all else that a host takes anew. Until there is one each word that is
/// shown looks whether its file is there by now: another process may have made the first token.
#[derive(Debug, Default)]
pub(crate) struct HomeTokens(OnceLock<Arc<dyn RunTokens>>);

impl HomeTokens {
    fn get(&self, home: &Path) -> Result<Arc<dyn RunTokens>, Denied> {
        if let Some(known) = self.0.get() {
            return Ok(Arc::clone(known));
        }
        let read = store::run_token_key(home).and_then(|key| key.map(|key| biscuits(&key)).transpose());
        match read {
            Ok(Some(tokens)) => Ok(Arc::clone(self.0.get_or_init(|| Arc::new(tokens)))),
            Ok(None) => Err(Denied::new(Why::UnknownKey, "no run token was ever made here")),
            Err(error) => {
                tracing::error!(%error, "the key of run tokens cannot be read");
                Err(Denied::new(Why::Unavailable, "run tokens cannot be looked at now"))
            }
        }
    }
}

fn biscuits(key: &[u8; 32]) -> Result<Biscuits, StoreError> {
    Biscuits::new(key).map_err(|error| StoreError::Failed {
        cause: error.to_string(),
    })
}

/// Makes a token of a run for its caller, good for so many milliseconds, and no longer than the run. The home's key is made where it has
/// none yet. The run's own entry is what stands on the ledger: a token gives nothing that its run does not have.
///
/// # Errors
/// Where the run is over, the time is none or more than a day, or the home's key cannot be read or made.
pub fn mint(home: &Path, run: &Run, good_for_ms: u64) -> Result<(Token, Authority), OpenError> {
    if !ambit_core::guard!("token.longest", (1_000..=LONGEST_MS).contains(&good_for_ms)) {
        return Err(Refusal::new(
            Code::Arguments,
            "a run token is good for a second at least, and for 24h at most",
        )
        .advise("say for how long: --expires 1h")
        .into());
    }
    run.is_open(now_ms()).map_err(|why| why.refusal(run.id()))?;
    let until_ms = clock().saturating_add(good_for_ms).min(run.started.expires);
    let principal = &run.started.principal;
    let authority = Authority {
        run: run.id().to_owned(),
        home: store::verifier(home)?.name().to_owned(),
        agent: principal.agent.clone(),
        user: principal.user.clone(),
        // The last whole second of it.
        expires_s: (until_ms / 1_000).saturating_sub(1),
    };
    let key = store::made_run_token_key(home)?;
    let tokens = biscuits(&key)?;
    let made = tokens.mint(&authority);
    let token = made.map_err(|error| Refusal::new(Code::Arguments, error.to_string()))?;
    Ok((token, authority))
}

/// Reads a token that this home's key signed, and that is good now as far as itself says.
///
/// # Errors
/// As [`RunTokens::open`] and [`Opened::check`].
pub fn verified(home: &Path, word: &str) -> Result<Opened, Denied> {
    let opened = HomeTokens::default().get(home)?.open(word)?;
    let name = store::verifier(home).map_err(|_| Denied::new(Why::Unavailable, "the home cannot be read"))?;
    opened.check(name.name(), clock())?;
    Ok(opened)
}

impl Host {
    /// Whose token of a run is shown, where it is good now: the caller of the run, the run, and what the token leaves.
    ///
    /// # Errors
    /// For what is no token of this home, is over, has something else in it than narrowings, or is of a run that is not open.
    pub fn known_run_token(&self, word: &str) -> Result<RunCaller, Denied> {
        let shared = &self.shared;
        let opened = shared.run_tokens.get(shared.config.home())?.open(word)?;
        opened.check(shared.store.verifier().name(), clock())?;
        // Only now is the ledger looked at: a flood of strangers' tokens reaches no more of the disk than whether there is a key.
        let run = self
            .known_run(&opened.authority.run)
            .map_err(|_| Denied::new(Why::Unavailable, "the token's run cannot be looked at now"))?
            .ok_or_else(|| Denied::new(Why::Revoked, "the token's run is not known"))?;
        opened.check_run(&run, now_ms())?;
        let principal = &run.started.principal;
        let caller = shared
            .directory
            .caller(&principal.agent, principal.user.as_deref())
            .map_err(|_| Denied::new(Why::Agent, "the run's agent is not known any more"))?;
        Ok(RunCaller {
            caller,
            narrowing: opened.narrowing(),
            by: ShownBy::RunToken(opened.shown()),
            run,
        })
    }
}

#[cfg(test)]
mod tests;
