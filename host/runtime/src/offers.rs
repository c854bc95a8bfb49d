//! What a caller may call, and its own calls: for whoever shows an agent what there is for it.
//!
//! Nothing here decides or records anything: a call is decided anew when it is made.

use ambit_core::digest::Digest;
use ambit_core::error::Refusal;
use ambit_core::grant::Narrowing;
use ambit_core::json::Json;
use ambit_core::ledger::body::{CallAccepted, ShownBy};
use ambit_core::ledger::story::Opening;
use ambit_core::ledger::{CallStory, Principal};
use ambit_core::manifest::{Function, Manifest};
use ambit_core::policy::{CallFacts, Mode};

use crate::home;
use crate::host::Host;
use crate::ids::CallId;
use crate::store::{Committed, Reader, StoreError};
use crate::transcript::{Record, Start, Unreadable};

/// A function of a loaded tool.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'h> {
    /// The tool's name in the home.
    pub tool: &'h str,
    /// What the tool's component declares.
    pub manifest: &'h Manifest,
    /// The function.
    pub function: &'h Function,
    /// Whether policy permits the caller to call it now. Its effects are decided one by one.
    pub permitted: bool,
}

impl Offered<'_> {
    /// For a caller who can do less than policy permits it: what that leaves out is not offered, and neither is a function that is there
    /// to do more than the caller may.
    pub fn narrow(&mut self, narrowing: &Narrowing) {
        let kept = narrowing.keeps_function(self.tool, &self.function.id);
        self.permitted &= ambit_core::guard!("mcp.narrowed", kept);
        let tier = self.function.declared.tier;
        let fits = narrowing.max_tier.is_none_or(|most| tier <= most);
        self.permitted &= ambit_core::guard!("mcp.narrowed-tier", fits);
    }
}

/// Whose calls may be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'o> {
    /// Whose.
    pub principal: &'o Principal,
    /// Only those of functions that this keeps, and that could reach nothing that this leaves out: who may not do it is not told what
    /// it came to.
    pub narrowing: &'o Narrowing,
    /// What they show of themselves: what was called with a key, or a token of a run, can be looked at with it.
    pub by: Option<&'o ShownBy>,
    /// Only those of this run, where what they show is for one.
    pub run: Option<&'o str>,
}

impl Owner<'_> {
    fn owns(&self, story: &CallStory, reader: &Reader) -> Result<bool, StoreError> {
        let own = ambit_core::guard!("mcp.own-call", story.principal.as_ref() == Some(self.principal));
        let named = match &story.opening.what {
            Opening::Accepted(accepted) => Some((accepted.asked.tool.as_str(), accepted.asked.function.as_str())),
            Opening::Denied(denied) => denied.tool.as_deref().zip(denied.function.as_deref()),
        };
        let kept = match named {
            Some((tool, function)) => self.narrowing.keeps_function(tool, function),
            // It named no function that there is, so there is nothing of it but that.
            None => true,
        };
        let in_run = self.run.is_none_or(|run| story.run() == Some(run));
        if !own || !ambit_core::guard!("mcp.own-run", in_run) || !ambit_core::guard!("mcp.narrowed-call", kept) {
            return Ok(false);
        }
        match &story.opening.what {
            Opening::Accepted(accepted) => {
                let within = self.reaches_all_of(accepted, story, reader)?;
                Ok(ambit_core::guard!("mcp.narrowed-result", within))
            }
            // It reached nothing.
            Opening::Denied(_) => Ok(true),
        }
    }

    /// Whether a call could reach nothing that its owner cannot.
    fn reaches_all_of(&self, accepted: &CallAccepted, story: &CallStory, reader: &Reader) -> Result<bool, StoreError> {
        let itself = matches!(self.by, Some(ShownBy::Key(_) | ShownBy::RunToken(_))) && accepted.by.as_ref() == self.by;
        let tier = accepted.asked.tier;
        if itself || Narrowing::default().reaches_within(tier, self.narrowing) {
            return Ok(true);
        }
        match Record::new(reader, story).read::<Start>("start") {
            Ok(Some(start)) => Ok(start.narrowing.reaches_within(tier, self.narrowing)),
            // What it was narrowed to nobody knows any more.
            Ok(None) | Err(Unreadable::Value(_) | Unreadable::Store(StoreError::Erased { .. })) => Ok(false),
            Err(Unreadable::Tampered(what)) => Err(StoreError::Damaged { what }),
            Err(Unreadable::Store(error)) => Err(error),
        }
    }
}

/// Where a call's end stands on the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndEntry {
    /// The entry's index.
    pub index: u64,
    /// The digest of the entry's bytes: a receipt of the call proves just these, against whatever checkpoint.
    pub digest: Digest,
}

impl EndEntry {
    /// What was written last is the end.
    pub(crate) fn of(committed: &Committed) -> Option<EndEntry> {
        committed.last.map(|(index, digest)| EndEntry { index, digest })
    }
}

impl Host {
    /// All functions of the loaded tools, by tool and then in the component's order, with what policy says to a call of each now. Whether
    /// the run is open, and has room, it does not say.
    ///
    /// # Errors
    /// [`Code::Caller`](ambit_core::error::Code::Caller): no such agent, or it may not act for the user.
    pub fn offers(
        &self,
        agent: &str,
        user: Option<&str>,
        mode: Mode,
        run: Option<&str>,
    ) -> Result<Vec<Offered<'_>>, Refusal> {
        let shared = &self.shared;
        let caller = shared.directory.caller(agent, user)?;
        let mut offers = Vec::new();
        for (name, tool) in &shared.tools {
            for function in &tool.manifest().functions {
                let decision = shared.policy.decide_call(&CallFacts {
                    caller: &caller,
                    run,
                    mode,
                    tool: name,
                    tool_digest: tool.digest,
                    function: &function.id,
                });
                offers.push(Offered {
                    tool: name,
                    manifest: tool.manifest(),
                    function,
                    permitted: ambit_core::guard!("mcp.offered", decision.refusal().is_none()),
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
    pub fn own_call(&self, call: &str, owner: Owner<'_>) -> Result<Option<(CallStory, bool)>, StoreError> {
        if call.parse::<CallId>().is_err() {
            return Ok(None);
        }
        let reader = self.reader()?;
        if !reader.calls_like(call, 1)?.iter().any(|known| known == call) {
            return Ok(None);
        }
        // Asked first: a call that ends meanwhile has its end in what is read then, and never looks as if its host had left it.
        let runs = self.shared.is_running(call);
        let story = reader.story(call)?;
        let own = owner.owns(&story, &reader)?;
        Ok(own.then_some((story, runs)))
    }

    /// The schema of what the function of a call returns, in the component that the call ran in, whichever its tool has by now; none
    /// where there was no such function, or the component is there no more.
    #[must_use]
    pub fn returns(&self, story: &CallStory) -> Option<Json> {
        let Opening::Accepted(accepted) = &story.opening.what else {
            return None;
        };
        let (asked, digest) = (&accepted.asked, story.tool?);
        let schema = |manifest: &Manifest| {
            let function = manifest.function(&asked.function).ok()?;
            Some(function.output_schema.clone())
        };
        let loaded = self.shared.tools.get(&asked.tool);
        if let Some(tool) = loaded.filter(|tool| ambit_core::guard!("mcp.own-component", tool.digest == digest)) {
            return schema(tool.manifest());
        }
        let known = |(known, manifest): &(Digest, Manifest)| (*known == digest).then(|| schema(manifest));
        if let Some(schema) = self.live.past.lock().as_ref().and_then(known) {
            return schema;
        }
        // Nobody else waits for the file.
        let component = home::read_component_of(self.shared.config.home(), &asked.tool, &digest).ok()?;
        let manifest = Manifest::read(&component).ok()?;
        let schema = schema(&manifest);
        *self.live.past.lock() = Some((digest, manifest));
        schema
    }

    /// Where a call's end stands on the ledger, for whoever is to recognise its receipt.
    ///
    /// # Errors
    /// Where the call has not ended, or the ledger cannot be read.
    pub fn end_entry(&self, call: &str) -> Result<EndEntry, StoreError> {
        let receipt = self.reader()?.receipt(call, self.shared.store.verifier())?;
        let entry = receipt.entry();
        Ok(EndEntry {
            index: entry.index(),
            digest: Digest::of(entry.bytes()),
        })
    }
}
