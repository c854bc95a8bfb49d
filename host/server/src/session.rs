//! One connection over which a door is used: what may be asked when.
//!
//! Up to version 2025-11-25 of the protocol a connection begins with `initialize`; since 2026-07-28 each request says its version itself.
//! Both are served, and a request that does neither is told so.

use std::borrow::Cow;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use rmcp::model::{
    ClientNotification, ClientRequest, ErrorData, ProtocolVersion, RequestId, ServerConfig, ServerResult,
};
use rmcp::service::{NotificationContext, RequestContext, RoleServer, Service};

use crate::http::work::let_go;
use crate::mcp::{Door, needs_no_session};
use crate::owed::Owed;

/// A door, used over a connection.
pub(crate) struct Session {
    /// Into what its host had taken when something was last asked.
    door: Mutex<Door>,
    owed: Arc<Owed>,
}

impl Session {
    pub(crate) fn new(door: Door, owed: Arc<Owed>) -> Session {
        Session {
            door: Mutex::new(door),
            owed,
        }
    }

    fn door(&self) -> Door {
        let (now, before) = {
            let mut door = self.door.lock();
            let now = door.now();
            (now.clone(), mem::replace(&mut *door, now))
        };
        if !now.host().is_as_read(before.host()) {
            let_go(before);
        }
        now
    }
}

/// Says that what was asked is done, when dropped.
struct Ends<'a>(&'a Owed, RequestId);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end(&self.1);
    }
}

impl Service<RoleServer> for Session {
    async fn handle_request(
        &self,
        request: ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        let _ends = Ends(&self.owed, context.id.clone());
        in_order(&request, &context)?;
        self.door().handle_request(request, context).await
    }

    async fn handle_notification(
        &self,
        notification: ClientNotification,
        context: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.door().handle_notification(notification, context).await
    }

    fn get_info(&self) -> ServerConfig {
        Service::get_info(&*self.door.lock())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Service::supported_protocol_versions(&*self.door.lock())
    }
}

fn in_order(request: &ClientRequest, context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    let begun = context.peer.peer_info().is_some();
    if begun && matches!(request, ClientRequest::InitializeRequest(_)) {
        return Err(ErrorData::invalid_request("the session was initialized before", None));
    }
    if begun || needs_no_session(request) || context.meta.protocol_version().is_some() {
        return Ok(());
    }
    Err(ErrorData::invalid_request(
        "the session was not initialized: begin with `initialize`, or say the protocol's version in the request's `_meta`",
        None,
    ))
}
