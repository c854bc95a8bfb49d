//! What a client is told when its host has taken its files anew: that it may call other functions, or read other resources.
//!
//! Over standard input and output a client of a version up to 2025-11-25 is told unasked, as the protocol has it, once its session is
//! initialized. A client of 2026-07-28 asks for it with `subscriptions/listen`, over a pipe as over HTTP. Over HTTP earlier versions have
//! a stream for it that belongs to a session; there are no sessions here, so they are promised nothing.

use rmcp::ErrorData;
use rmcp::model::{Resource, Tool};
use rmcp::service::{Peer, RoleServer, SubscriptionContext};

use crate::mcp::Door;

/// What a caller finds behind its door: nothing, where it is let in no more.
#[derive(PartialEq)]
pub(crate) struct Behind {
    tools: Option<Vec<Tool>>,
    resources: Option<Vec<Resource>>,
}

impl Behind {
    pub(crate) fn of(door: &Door) -> Behind {
        let (tools, resources) = door.lists().ok().unzip();
        Behind { tools, resources }
    }
}

/// Tells the other side of a pipe of each change that is one to its caller, for as long as both live.
pub(crate) async fn tell(door: Door, peer: Peer<RoleServer>) {
    let mut changes = door.host().changes();
    let mut behind = Behind::of(&door.now());
    while changes.changed().await.is_ok() {
        let now = Behind::of(&door.now());
        // Who has not begun has seen no list; who says its version with each request asks for it.
        if peer.peer_info().is_some() {
            let tools = async { now.tools == behind.tools || peer.notify_tool_list_changed().await.is_ok() };
            let resources =
                async { now.resources == behind.resources || peer.notify_resource_list_changed().await.is_ok() };
            if !(tools.await && resources.await) {
                return;
            }
        }
        behind = now;
    }
}

/// The same for who asked to be told, until they take that back, or the host ends.
pub(crate) async fn listen(door: &Door, asked: &SubscriptionContext) -> Result<(), ErrorData> {
    let mut changes = door.host().changes();
    let mut behind = Behind::of(&door.now());
    let ends = door.host().ends();
    tokio::pin!(ends);
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return Ok(());
            },
            () = asked.cancelled() => return Ok(()),
            () = door.calls().stopped() => return Ok(()),
            () = &mut ends => return Ok(()),
        }
        let now = Behind::of(&door.now());
        let accepted = asked.accepted();
        let mut told = Ok(());
        if now.tools != behind.tools && accepted.tools_list_changed == Some(true) {
            told = asked.sink().notify_tool_list_changed().await;
        }
        if told.is_ok() && now.resources != behind.resources && accepted.resources_list_changed == Some(true) {
            told = asked.sink().notify_resource_list_changed().await;
        }
        if told.is_err() {
            // Nobody is there any more.
            return Ok(());
        }
        behind = now;
    }
}
