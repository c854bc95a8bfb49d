//! What a caller may call: for whoever has to show it before anything is called.

use ambit_core::error::Refusal;
use ambit_core::ledger::{CallStory, Principal};
use ambit_core::manifest::Function;
use ambit_core::policy::{CallFacts, Mode};

use crate::host::Host;
use crate::store::StoreError;

/// A function of a loaded tool.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'h> {
    /// The tool's name in the home.
    pub tool: &'h str,
    /// The function.
    pub function: &'h Function,
    /// Whether policy permits the caller to call it now. Its effects are decided one by one.
    pub permitted: bool,
}

impl Host {
    /// All functions of the loaded tools, by tool and then in the component's order, with what policy says to a call of each now.
    /// Nothing of it is recorded, and a call is decided anew.
    ///
    /// # Errors
    /// [`Code::Caller`](ambit_core::error::Code::Caller): no such agent, or it may not act for the user.
    pub fn offers(&self, agent: &str, user: Option<&str>, mode: Mode) -> Result<Vec<Offered<'_>>, Refusal> {
        let shared = &self.shared;
        let caller = shared.directory.caller(agent, user)?;
        let mut offers = Vec::new();
        for (name, tool) in &shared.tools {
            for function in &tool.loaded.manifest().functions {
                let decision = shared.policy.decide_call(&CallFacts {
                    caller: &caller,
                    run: None,
                    mode,
                    tool: name,
                    tool_digest: tool.digest,
                    function: &function.id,
                });
                offers.push(Offered {
                    tool: name,
                    function,
                    permitted: decision.refusal().is_none(),
                });
            }
        }
        Ok(offers)
    }

    /// Who a caller is to the ledger.
    ///
    /// # Errors
    /// As [`Host::offers`].
    pub fn principal(&self, agent: &str, user: Option<&str>) -> Result<Principal, Refusal> {
        let caller = self.shared.directory.caller(agent, user)?;
        Ok(Principal::from(&caller))
    }

    /// A caller's own call, and whether it runs right now; none where there is no such call, or it is somebody else's: which of the two
    /// nobody is told.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn own_call(&self, call: &str, principal: &Principal) -> Result<Option<(CallStory, bool)>, StoreError> {
        let reader = self.reader()?;
        if !reader.calls_like(call, 1)?.iter().any(|known| known == call) {
            return Ok(None);
        }
        let story = reader.story(call)?;
        let own = ambit_core::guard!("mcp.own-call", story.principal.as_ref() == Some(principal));
        Ok(own.then(|| (story, self.shared.is_running(call))))
    }
}
