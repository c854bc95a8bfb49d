//! The bytes of a request, beyond what was checked: the connection's base, the host's headers, and the credential, last.

use ambit_core::effect::{BodyKind, HeaderSet, HttpRequest, NotAHeader};
use ambit_core::error::{Code, Refusal};
use ambit_core::guard;
use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use http_body_util::Full;
use hyper::body::Body as _;
use zeroize::Zeroizing;

use super::sign::Signer;
use crate::secret::Secret;

/// What the service sees of us.
pub(super) const AGENT: &str = concat!("ambit/", env!("CARGO_PKG_VERSION"));

/// How a credential is shown to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// `Authorization: Bearer …`
    Bearer,
    /// A header of its own, whole.
    Header(HeaderName),
    /// `Authorization: Basic …` with this user name; the secret is the password.
    Basic(String),
    /// A query parameter of this name.
    Query(String),
    /// A field of this name of the form that the host sends to whoever gives out tokens.
    Form(String),
}

/// A credential, ready to be put on requests.
pub(super) enum Credential {
    Header(HeaderName, HeaderValue),
    /// `name=value`, encoded.
    Query(String, Zeroizing<String>),
    /// `name=value`, encoded, after the last field of a form.
    Form(Zeroizing<String>),
    /// What is made of the request itself.
    Signed(Signer),
}

impl Credential {
    /// # Errors
    /// One clause: the value cannot stand where it should.
    pub(super) fn new(presented: &Presented, secret: &Secret) -> Result<Credential, String> {
        let value = match presented {
            Presented::Query(name) => return Ok(Credential::Query(name.clone(), pair(name, secret))),
            Presented::Form(name) => return Ok(Credential::Form(pair(name, secret))),
            Presented::Bearer => Zeroizing::new([b"Bearer ", secret.expose()].concat()),
            Presented::Header(_) => Zeroizing::new(secret.expose().to_vec()),
            Presented::Basic(user) => {
                let pair = Zeroizing::new([user.as_bytes(), b":", secret.expose()].concat());
                let encoded = Zeroizing::new(BASE64.encode(&pair));
                Zeroizing::new([b"Basic ", encoded.as_bytes()].concat())
            }
        };
        let name = match presented {
            Presented::Header(name) => name.clone(),
            _ => AUTHORIZATION,
        };
        if !value.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err("has a character that cannot stand in a header".into());
        }
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| "cannot stand in a header".to_string())?;
        value.set_sensitive(true);
        Ok(Credential::Header(name, value))
    }

    /// Whether it sets a header of this name.
    fn sets(&self, name: &HeaderName) -> bool {
        match self {
            Credential::Header(own, _) => own == name,
            Credential::Signed(signer) => signer.sets(name.as_str()),
            Credential::Query(..) | Credential::Form(_) => false,
        }
    }
}

fn pair(name: &str, secret: &Secret) -> Zeroizing<String> {
    let mut pair = Zeroizing::new(encode(name.as_bytes()));
    pair.push('=');
    pair.push_str(&Zeroizing::new(encode(secret.expose())));
    pair
}

/// What one connection adds to every request.
pub(super) struct Frame<'a> {
    /// As in `Host`.
    pub(super) authority: &'a str,
    /// Path before the guest's, without a `/` at its end. May be secret.
    pub(super) base: &'a str,
    pub(super) credential: Option<&'a Credential>,
    /// What this one request shows beside that.
    pub(super) pass: Option<&'a Credential>,
    /// The moment, in seconds since 1970, for what is signed.
    pub(super) time_s: u64,
}

impl Frame<'_> {
    fn credentials(&self) -> impl Iterator<Item = &Credential> {
        [self.credential, self.pass].into_iter().flatten()
    }
}

/// Builds the request as it is sent.
///
/// # Errors
/// [`Code::Header`] or [`Code::Query`] where the request names what is the host's to say. No message holds the base or the credential.
pub(super) fn build(
    frame: &Frame<'_>,
    request: &HttpRequest,
    own: &[(&str, &str)],
) -> Result<Request<Full<Bytes>>, Refusal> {
    let method = Method::from_bytes(request.method().as_str().as_bytes())
        .map_err(|_| Refusal::new(Code::Internal, "the method cannot be sent"))?;
    let body = body(frame, request)?;
    let mut built = Request::builder()
        .method(method.clone())
        .uri(target(frame, request)?)
        .body(Full::new(body.clone().unwrap_or_default()))
        .map_err(|_| Refusal::new(Code::Internal, "the request cannot be put together"))?;

    let mut put = |name: HeaderName, value: &str| {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Refusal::new(Code::Header, format!("the value of `{name}` cannot stand in a header")))?;
        built.headers_mut().append(name, value);
        Ok::<(), Refusal>(())
    };
    put(HOST, frame.authority)?;
    put(USER_AGENT, AGENT)?;
    put(ACCEPT_ENCODING, "identity")?;
    for (name, value) in request.headers() {
        put(guest_header(frame, name, own)?, value)?;
    }
    if let Some(kind) = request.content_type() {
        put(CONTENT_TYPE, kind)?;
    }
    let sends_body = matches!(method, Method::POST | Method::PUT | Method::PATCH);
    if body.is_some() || sends_body {
        put(CONTENT_LENGTH, &body.as_ref().map_or(0, Bytes::len).to_string())?;
    }
    for (name, value) in own {
        put(header_name(name)?, value)?;
    }
    for credential in frame.credentials() {
        match credential {
            Credential::Header(name, value) => {
                built.headers_mut().append(name.clone(), value.clone());
            }
            // Over all that is sent: nothing but its own headers comes after it.
            Credential::Signed(signer) => signer.sign(&mut built, body.as_deref().unwrap_or_default(), frame.time_s)?,
            Credential::Query(..) | Credential::Form(_) => {}
        }
    }
    Ok(built)
}

/// The body as it was checked; of a form that asks for a token, with the fields that say who asks.
fn body(frame: &Frame<'_>, request: &HttpRequest) -> Result<Option<Bytes>, Refusal> {
    let mut fields = frame.credentials().filter_map(|credential| match credential {
        Credential::Form(pair) => Some(pair),
        _ => None,
    });
    let Some(first) = fields.next() else {
        return Ok(request.body_bytes().map(Bytes::copy_from_slice));
    };
    if request.body_kind() != Some(BodyKind::Form) {
        return Err(Refusal::new(
            Code::Internal,
            "a credential stands in a form, and there is none",
        ));
    }
    let mut form = Zeroizing::new(request.body_bytes().unwrap_or_default().to_vec());
    for pair in std::iter::once(first).chain(fields) {
        form.push(b'&');
        form.extend_from_slice(pair.as_bytes());
    }
    Ok(Some(Bytes::copy_from_slice(&form)))
}

/// The bytes of a request as HTTP/1.1 writes it: its line, its headers, its body.
pub(super) fn wire_bytes(request: &Request<Full<Bytes>>) -> u64 {
    const LINE: usize = "  HTTP/1.1\r\n".len();
    const HEADER: usize = ": \r\n".len();
    const END: usize = "\r\n".len();
    let headers: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + HEADER)
        .sum();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let head = request.method().as_str().len() + target + LINE + headers + END;
    let body = request.body().size_hint().exact().unwrap_or_default();
    (head as u64).saturating_add(body)
}

/// Base, path and query in origin form.
fn target(frame: &Frame<'_>, request: &HttpRequest) -> Result<Uri, Refusal> {
    let below = request.path_and_query();
    // A request for the base itself is written `/`, and a webhook's path has no `/` at its end.
    let below = match below.strip_prefix('/') {
        Some(query) if !frame.base.is_empty() && request.segments().is_empty() => query,
        _ => below,
    };
    let mut text = Zeroizing::new(format!("{}{below}", frame.base));
    for credential in frame.credentials() {
        let Credential::Query(name, pair) = credential else {
            continue;
        };
        let clash = request.query().iter().any(|(given, _)| given == name);
        if !guard!("gate.credential-query", !clash) {
            return Err(Refusal::new(
                Code::Query,
                format!("`{name}` is the credential's parameter and cannot be given"),
            ));
        }
        let joint = if text.contains('?') { '&' } else { '?' };
        text.push(joint);
        text.push_str(pair);
    }
    let unsendable = || Refusal::new(Code::Path, "the path and query cannot be sent as they are");
    let target: PathAndQuery = text.as_str().try_into().map_err(|_| unsendable())?;
    // What http does not take over as it is (a fragment) was never checked.
    if target.as_str() != text.as_str() {
        return Err(unsendable());
    }
    Ok(Uri::from(target))
}

/// Whether a header frames the message or is the same on every request: neither a credential nor an idempotency key can stand in it.
pub fn is_framing(name: &str) -> bool {
    const NAMES: [&str; 11] = [
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ];
    NAMES.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// Whether a header is the host's alone, on every connection: it frames the message, routes it, or says who sends it.
pub fn is_hosts_own(name: &str) -> bool {
    matches!(HeaderSet::new().insert(name), Err(NotAHeader::Host(_)))
}

fn guest_header(frame: &Frame<'_>, name: &str, own: &[(&str, &str)]) -> Result<HeaderName, Refusal> {
    let header = header_name(name)?;
    let credentials = frame.credentials().any(|credential| credential.sets(&header));
    let keys = own.iter().any(|(own, _)| header.as_str().eq_ignore_ascii_case(own));
    if guard!("gate.header", !credentials && !keys && !is_hosts_own(header.as_str())) {
        Ok(header)
    } else {
        Err(Refusal::new(
            Code::Header,
            format!("`{header}` is set by the host and cannot be given"),
        ))
    }
}

fn header_name(name: &str) -> Result<HeaderName, Refusal> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal::new(Code::Header, "a header's name is not a name"))
}

/// Percent-encodes all but what RFC 3986 calls unreserved.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            text.push_str(&data_encoding::HEXUPPER.encode(&[*byte]));
        }
    }
    text
}

/// Checks a connection's base: empty, or an absolute path as it stands on a request line, without a `/` at its end.
///
/// # Errors
/// One clause that does not repeat the base, which may be secret.
pub fn check_base(base: &str) -> Result<(), &'static str> {
    if base.is_empty() {
        return Ok(());
    }
    let Some(segments) = base.strip_prefix('/') else {
        return Err("does not begin with `/`");
    };
    if base.ends_with('/') {
        return Err("ends with `/`; the paths below it begin with one");
    }
    if segments.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err("has an empty or dotted segment");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    if !base.bytes().all(allowed) {
        return Err("has a character that a path cannot have; percent-encode it");
    }
    let escapes = base.split('%').skip(1).all(|rest| {
        rest.get(..2)
            .is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    });
    if !escapes {
        return Err("has a `%` without two hexadecimal digits");
    }
    Ok(())
}
