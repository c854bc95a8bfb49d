//! The way to one service: what a connection of the configuration becomes.

use std::fmt;
use std::sync::Arc;

use ambit_core::credential::LONGEST_TOKEN;
use ambit_core::effect::{HttpRequest, Origin, Scheme};
use ambit_core::error::{Code, Refusal};
use ambit_core::guard;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::time::Instant;

use super::line::{Line, most_received};
use super::mask::Masker;
use super::mint::{Living, Minter, Pass};
use super::pause::Pause;
use super::pool::Pool;
use super::request::{Credential, Frame, Presented, build, check_base, wire_bytes};
use super::resolve::{self, Checked, Endpoint, Resolve};
use super::sign::{SharedSecret, SigV4, Signer};
use super::tls::{Authorities, Tls};
use crate::host::now_ms;
use crate::secret::Secret;

/// A segment of a secret base that is this long is covered in answers by itself too.
const SECRET_SEGMENT: usize = 16;

/// The most bytes that what one request shows alone adds to it: a token with its header, or a field with what the home says.
const LARGEST_PASS: u64 = LONGEST_TOKEN as u64 + 256;

/// A path before every path of a connection.
#[derive(Debug)]
pub enum Base {
    /// As it stands in the configuration; empty for none.
    Plain(String),
    /// Holds a secret, as webhooks' paths do.
    Secret(Secret),
}

/// How a service is shown who asks.
#[derive(Debug)]
pub enum Shown {
    /// A secret that stays the same, and where it stands.
    Kept(Presented, Secret),
    /// AWS's signature of each request.
    SigV4(SigV4),
    /// A signature of each request with a shared secret.
    Signed(SharedSecret),
    /// A token that is asked for when it is needed.
    Minted(Box<Minter>),
}

/// What an [`Upstream`] is made of.
#[derive(Debug)]
pub struct UpstreamParts {
    /// The connection's name.
    pub name: String,
    /// Whom requests are for: Host, SNI and certificate.
    pub origin: Origin,
    /// Where the socket goes instead of the origin.
    pub connect_to: Option<Endpoint>,
    /// Who may sign the service's certificate.
    pub authorities: Authorities,
    /// Whether addresses on this machine and its networks may be connected to.
    pub allow_private: bool,
    /// Whether the service learns which trace a request is part of.
    pub trace: bool,
    /// Path before every path.
    pub base: Base,
    /// What the service wants to see, and how.
    pub credential: Option<Shown>,
}

/// The way to one service. Made once for each connection, when the configuration is put to use; another credential or another authority
/// makes another `Upstream`, and with it another pool.
pub struct Upstream {
    name: String,
    origin: Origin,
    endpoint: Endpoint,
    tls: Option<Tls>,
    allow_private: bool,
    trace: bool,
    base: Base,
    credential: Option<Credential>,
    minter: Option<Box<Minter>>,
    /// Whether each request shows something of its own.
    takes_pass: bool,
    masker: Masker,
    /// Tokens of before, where it has none any more.
    before: Option<Arc<Living>>,
    pool: Arc<Pool>,
    pause: Arc<Pause>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("origin", &self.origin)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// # Errors
    /// One sentence for the operator, without any secret: the origin cannot be in a certificate, the base is not a path, the credential
    /// cannot stand where it should.
    pub fn new(parts: UpstreamParts) -> Result<Upstream, String> {
        let UpstreamParts {
            name,
            origin,
            connect_to,
            authorities,
            allow_private,
            trace,
            base,
            credential,
        } = parts;
        let endpoint = match connect_to {
            Some(endpoint) => endpoint,
            None => Endpoint::new(origin.host(), origin.port())
                .map_err(|why| format!("{origin} cannot be connected to: {why}"))?,
        };
        let tls = match origin.scheme() {
            Scheme::Https => Some(Tls::new(origin.host(), &authorities)?),
            Scheme::Http => None,
        };
        let mut masker = Masker::default();
        if let Base::Secret(secret) = &base {
            let path = secret.expose();
            masker.add(path.strip_prefix(b"/").unwrap_or(path));
            path.split(|byte| *byte == b'/')
                .filter(|segment| segment.len() >= SECRET_SEGMENT)
                .for_each(|segment| masker.add(segment));
        }
        check_base(base_text(&base)).map_err(|why| format!("the base {why}"))?;
        let (credential, minter) = match credential {
            None => (None, None),
            Some(Shown::Kept(presented, secret)) => {
                masker.add(secret.expose());
                let credential = Credential::new(&presented, &secret).map_err(|why| format!("the credential {why}"))?;
                (Some(credential), None)
            }
            Some(Shown::SigV4(aws)) => (Some(signed(Signer::Aws(aws), &mut masker)), None),
            Some(Shown::Signed(shared)) => (Some(signed(Signer::Shared(shared), &mut masker)), None),
            Some(Shown::Minted(minter)) => (None, Some(minter)),
        };
        Ok(Upstream {
            name,
            origin,
            endpoint,
            tls,
            allow_private,
            trace,
            base,
            credential,
            takes_pass: minter.is_some(),
            minter,
            masker,
            before: None,
            pool: Arc::default(),
            pause: Arc::default(),
        })
    }

    /// That each request over it shows something of its own, beside what all show.
    pub(super) fn taking_passes(mut self) -> Upstream {
        self.takes_pass = true;
        self
    }

    /// Has a value covered that is none of its own settings.
    pub(super) fn hide(&mut self, secret: &[u8]) {
        self.masker.add(secret);
    }

    /// Where the tokens of its requests come from, where they have some.
    pub(crate) fn minter(&self) -> Option<&Minter> {
        self.minter.as_deref()
    }

    /// The connection's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whom requests over it are for.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether its service learns which trace a request is part of: a `traceparent` is one of the headers that the host sets.
    pub(crate) const fn is_traced(&self) -> bool {
        self.trace
    }

    /// Whether the service takes requests now, as far as it has said. Asked before an intent is written, so that the ledger does not fill
    /// with what will not be sent; [`Wire::send`](super::Wire::send) asks again.
    ///
    /// # Errors
    /// [`Code::Rate`]: an earlier answer asked for time.
    pub fn ready(&self) -> Result<(), Refusal> {
        self.pause.check(&self.name)
    }

    /// Goes on where an older reading of the connection was: what the service asked for is for both, and a token that was given out is good
    /// for as long as it was.
    pub(crate) fn goes_on_as(&mut self, older: &Upstream) {
        self.rest_as(older);
        match (&mut self.minter, &older.minter) {
            (Some(minter), Some(older)) => minter.goes_on_as(older),
            (None, Some(older)) => self.before = Some(Arc::clone(older.living())),
            (_, None) => self.before.clone_from(&older.before),
        }
    }

    /// Leaves the service alone as long as another way to it does.
    pub(crate) fn rest_as(&mut self, older: &Upstream) {
        if older.origin == self.origin {
            self.pause = Arc::clone(&older.pause);
        }
    }

    /// Leaves the service alone for so long, as an answer before this process asked.
    pub(crate) fn rest(&self, time: std::time::Duration) {
        self.pause.rest(time);
    }

    /// The most bytes of HTTP, in both directions and above TLS, that sending this request and reading its answer can come to. Asked
    /// before an intent is written, for what budgets set aside.
    ///
    /// # Errors
    /// Where the request cannot be sent over this connection.
    pub fn most_bytes(&self, request: &HttpRequest, own: &[(&str, &str)], answer_bytes: usize) -> Result<u64, Refusal> {
        let request = self.framed(request, own, None)?;
        // What is shown with one request alone is not known yet.
        let pass = if self.takes_pass { LARGEST_PASS } else { 0 };
        Ok(wire_bytes(&request)
            .saturating_add(pass)
            .saturating_add(most_received(answer_bytes)))
    }

    /// The request as it is sent.
    ///
    /// # Errors
    /// Where it cannot be; [`Code::Credential`] without what it has to show.
    pub(super) fn request(
        &self,
        request: &HttpRequest,
        own: &[(&str, &str)],
        pass: Option<&Pass>,
    ) -> Result<Request<Full<Bytes>>, Refusal> {
        if !guard!("gate.token", self.takes_pass == pass.is_some()) {
            let message = format!("a request over connection `{}` has no token", self.name);
            return Err(Refusal::new(Code::Credential, message));
        }
        self.framed(request, own, pass)
    }

    fn framed(
        &self,
        request: &HttpRequest,
        own: &[(&str, &str)],
        pass: Option<&Pass>,
    ) -> Result<Request<Full<Bytes>>, Refusal> {
        if !guard!("gate.origin", *request.origin() == self.origin) {
            let message = format!(
                "a request for {} is not sent over connection `{}`",
                request.origin(),
                self.name
            );
            return Err(Refusal::new(Code::Route, message));
        }
        let frame = Frame {
            authority: &self.origin.authority(),
            base: base_text(&self.base),
            credential: self.credential.as_ref(),
            pass: pass.map(Pass::credential),
            time_s: u64::try_from(now_ms() / 1_000).unwrap_or_default(),
        };
        build(&frame, request, own)
    }

    /// A connection to an address that was judged just now: a kept one, or a new one to the first address that answers.
    pub(super) async fn line(&self, resolver: &dyn Resolve, deadline: Instant) -> Result<Line, Refusal> {
        let addresses = tokio::time::timeout_at(deadline, self.addresses(resolver))
            .await
            .map_err(|_| Refusal::new(Code::Limit, format!("{} did not resolve in time", self.endpoint)))??;
        if let Some(line) = self.pool.take(&addresses).await {
            return Ok(line);
        }
        let mut last = None;
        for address in addresses {
            match Line::open(address, self.tls.as_ref(), deadline).await {
                Ok(line) => return Ok(line),
                Err(refusal) => last = Some(refusal),
            }
        }
        Err(last.unwrap_or_else(|| Refusal::new(Code::Address, format!("{} has no address", self.endpoint))))
    }

    async fn addresses(&self, resolver: &dyn Resolve) -> Result<Vec<Checked>, Refusal> {
        let addresses = resolve::checked(resolver, &self.endpoint, self.allow_private).await?;
        let public = addresses.iter().any(|address| address.is_public());
        if !guard!("gate.plaintext", self.tls.is_some() || !public) {
            return Err(Refusal::new(
                Code::Tls,
                format!("{} would be sent to in the clear, over the Internet", self.endpoint),
            )
            .advise("use an https origin; plain http is for services on this machine or network"));
        }
        Ok(addresses)
    }

    /// The bytes with what must not be seen of this connection covered: its own secrets, and every token that is good for it.
    pub(super) fn mask(&self, bytes: Bytes) -> Bytes {
        let masked = self.masker.mask(bytes);
        let masked = match &self.before {
            Some(before) => before.mask(masked),
            None => masked,
        };
        match &self.minter {
            Some(minter) => minter.mask(masked),
            None => masked,
        }
    }

    /// The same of a text.
    pub(super) fn mask_str(&self, text: &str) -> String {
        let masked = self.mask(Bytes::copy_from_slice(text.as_bytes()));
        String::from_utf8_lossy(&masked).into_owned()
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(super) fn pause(&self) -> &Pause {
        &self.pause
    }
}

fn signed(signer: Signer, masker: &mut Masker) -> Credential {
    signer.mask(masker);
    Credential::Signed(signer)
}

fn base_text(base: &Base) -> &str {
    match base {
        Base::Plain(text) => text,
        // A secret is UTF-8, or it would not be one.
        Base::Secret(secret) => std::str::from_utf8(secret.expose()).unwrap_or_default(),
    }
}
