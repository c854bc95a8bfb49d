//! A collector that the host tells what happens: telemetry.
//!
//! It goes the way of every request, to a checked address and with TLS as its origin, and is no effect: the operator's configuration says
//! where it goes, no caller and no guest has a say in when, and what is told is on the ledger already, or counted from it. So there is no
//! intent to commit: an entry about each telling would be one more to tell.

use ambit_core::effect::{GuestBody, GuestRequest, HttpRequest, Method, WireLimits};
use ambit_core::error::Refusal;

use super::send::{Bounds, SendError, Sent, Wire};
use super::upstream::Upstream;

/// Most bytes of a request: what tells makes them smaller.
const LARGEST: usize = 8 << 20;
/// Most values in one: of those bytes, none has less than four.
const MOST_VALUES: usize = LARGEST / 4;

/// Where telemetry goes.
#[derive(Debug)]
pub struct Collector {
    up: Upstream,
    headers: Vec<(String, String)>,
}

impl Collector {
    /// A collector at the end of this way, with these headers on each request.
    ///
    /// # Errors
    /// One clause: a request with these headers cannot be sent there.
    pub fn new(up: Upstream, headers: Vec<(String, String)>) -> Result<Collector, String> {
        let collector = Collector { up, headers };
        let request = collector
            .request("/", "{}".to_owned())
            .and_then(|request| collector.up.request(&request, &[], None));
        request.map_err(|refusal| refusal.message)?;
        Ok(collector)
    }

    fn request(&self, path: &str, json: String) -> Result<HttpRequest, Refusal> {
        let words = GuestRequest {
            method: Method::Post,
            path: path.to_owned(),
            query: Vec::new(),
            headers: self.headers.clone(),
            body: GuestBody::Json(json),
        };
        let limits = WireLimits {
            body_bytes: LARGEST,
            parameters: MOST_VALUES,
            ..WireLimits::default()
        };
        HttpRequest::parse(self.up.origin(), &words, &limits)
    }
}

impl Wire {
    /// Tells a collector something, once, in JSON.
    ///
    /// # Errors
    /// As [`Wire::send`].
    pub async fn tell(&self, to: &Collector, path: &str, json: String, bounds: Bounds) -> Result<Sent, SendError> {
        let request = to.request(path, json).map_err(SendError::NotSent)?;
        self.exchange(&to.up, &request, (&[], None), bounds, None).await
    }
}
