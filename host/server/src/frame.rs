//! A line of the protocol: one JSON-RPC message, strictly read.
//!
//! Libraries take what they can of a malformed message and drop the rest, or end the connection. Here it gets the error that it is, and
//! the connection stays.

use std::borrow::Cow;
use std::sync::Arc;

use ambit_core::error::printable;
use ambit_core::guard;
use ambit_core::json::{Json, Limits};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, JsonRpcMessage, RequestId};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest line, in bytes.
pub(crate) const LONGEST: usize = 4 << 20;
/// Arguments may be 64 levels deep by the usual limits, and are in an envelope; what reads them again takes 128.
const DEEPEST: usize = 120;

/// What a line is.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A request or a notification.
    Message(Box<ClientJsonRpcMessage>),
    /// Nothing that anybody waits for: an empty line, an answer to what was never asked, a notification that says nothing.
    Nothing,
    /// No message, and the error that says why, to the request that it would have been.
    Wrong(Option<RequestId>, ErrorData),
}

/// The arguments of a `tools/call` as they were sent, to the letter: what is on the ledger, and what the function gets. The library's own
/// reading of them has no integers beyond 64 bits and no decimals. It goes with the message, among its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments(Arc<str>);

impl Arguments {
    /// The JSON text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Those that came with a message; none where it calls nothing.
    pub(crate) fn of(message: &ClientJsonRpcMessage) -> Option<&Arguments> {
        match message {
            JsonRpcMessage::Request(request) => match &request.request {
                ClientRequest::CallToolRequest(call) => call.extensions.get(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Puts those of a line with its message.
    fn put(message: &mut ClientJsonRpcMessage, line: &[u8]) -> serde_json::Result<()> {
        #[derive(Deserialize)]
        struct Whole<'l> {
            #[serde(borrow)]
            params: Option<Params<'l>>,
        }
        #[derive(Deserialize)]
        struct Params<'l> {
            #[serde(borrow)]
            arguments: Option<&'l RawValue>,
        }
        let JsonRpcMessage::Request(request) = message else {
            return Ok(());
        };
        if let ClientRequest::CallToolRequest(call) = &mut request.request {
            let whole: Whole<'_> = serde_json::from_slice(line)?;
            let said = whole.params.and_then(|params| params.arguments).map(RawValue::get);
            call.extensions.insert(Arguments(said.unwrap_or("{}").into()));
        }
        Ok(())
    }
}

/// Reads a line, with or without its end.
pub(crate) fn read(line: &[u8]) -> Frame {
    match message(line) {
        Ok(frame) => frame,
        Err(Wrong { id, error }) => Frame::Wrong(id, error),
    }
}

/// What a line that is longer than [`LONGEST`] gets for an answer. Which request it would have been nobody read.
pub(crate) fn too_long() -> ErrorData {
    ErrorData::invalid_request(
        format!("a line is at most {LONGEST} bytes; this one is longer, and was dropped"),
        None,
    )
}

struct Wrong {
    id: Option<RequestId>,
    error: ErrorData,
}

fn invalid(id: Option<&RequestId>, why: impl Into<Cow<'static, str>>) -> Wrong {
    Wrong {
        id: id.cloned(),
        error: ErrorData::invalid_request(why, None),
    }
}

fn message(line: &[u8]) -> Result<Frame, Wrong> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return Ok(Frame::Nothing);
    }
    let json = parse(line)?;
    if !matches!(json, Json::Object(_)) {
        let batch = matches!(json, Json::Array(_));
        let why = if batch {
            "there are no batches in this protocol: send one message a line"
        } else {
            "a message is a JSON object"
        };
        return Err(invalid(None, why));
    }
    // An answer, or what looks like one: nothing is ever asked of the other side.
    if json.get("method").is_none() && (json.get("result").is_some() || json.get("error").is_some()) {
        return Ok(Frame::Nothing);
    }
    let id = json.get("id").map(request_id).transpose()?;
    match envelope(&json, id.as_ref()) {
        Ok(()) => {}
        // Nobody waits for an answer to a notification, so none is given.
        Err(_) if id.is_none() && json.get("method").is_some() => return Ok(Frame::Nothing),
        Err(wrong) => return Err(wrong),
    }
    let read =
        serde_json::from_slice(line).and_then(|mut message| Arguments::put(&mut message, line).map(|()| message));
    match read {
        Ok(message) => Ok(Frame::Message(Box::new(message))),
        Err(_) if id.is_none() => Ok(Frame::Nothing),
        Err(error) => Err(invalid(
            id.as_ref(),
            format!("not a request of this protocol: {}", printable(&error.to_string())),
        )),
    }
}

/// Strictly: a member that comes twice would be one thing here and another there.
fn parse(line: &[u8]) -> Result<Json, Wrong> {
    let wrong = |why: String| Wrong {
        id: None,
        error: ErrorData::parse_error(why, None),
    };
    let text = std::str::from_utf8(line).map_err(|error| wrong(format!("a line is UTF-8: {error}")))?;
    let limits = Limits {
        depth: DEEPEST,
        // Whoever read it has kept it within bounds: those of a line, or of a request's body. Few bytes may stand for more.
        bytes: line.len().max(Limits::default().bytes),
    };
    match Json::parse(text, limits) {
        Err(error) if !guard!("mcp.strict-json", false) => Err(wrong(format!(
            "a line is one JSON message: {}",
            printable(&error.to_string())
        ))),
        Err(_) => serde_json::from_slice::<serde_json::Value>(line)
            .map(Json::from)
            .map_err(|error| wrong(error.to_string())),
        Ok(json) => Ok(json),
    }
}

fn request_id(id: &Json) -> Result<RequestId, Wrong> {
    match (id.as_str(), id.as_i64()) {
        (Some(text), _) => Ok(RequestId::String(text.into())),
        (None, Some(number)) => Ok(RequestId::Number(number)),
        (None, None) => Err(invalid(None, "an `id` is a string or a whole number of 64 bits")),
    }
}

fn envelope(json: &Json, id: Option<&RequestId>) -> Result<(), Wrong> {
    if json.get("jsonrpc").and_then(Json::as_str) != Some("2.0") {
        return Err(invalid(id, "a message says `\"jsonrpc\": \"2.0\"`"));
    }
    if json.get("method").and_then(Json::as_str).is_none() {
        return Err(invalid(id, "a message has a `method`, which is a string"));
    }
    if json.get("result").is_some() || json.get("error").is_some() {
        return Err(invalid(id, "a message is a request or an answer, not both"));
    }
    match json.get("params") {
        None | Some(Json::Object(_)) => Ok(()),
        Some(_) => Err(Wrong {
            id: id.cloned(),
            error: ErrorData::invalid_params("`params` is an object", None),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use rmcp::model::{ClientRequest, ErrorCode, JsonRpcMessage};

    use super::*;

    fn wrong(line: &str) -> (Option<RequestId>, ErrorCode, String) {
        match read(line.as_bytes()) {
            Frame::Wrong(id, error) => (id, error.code, error.message.into_owned()),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_request_is_read() {
        let line = "\u{feff} {\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"tools/call\",\"params\":{\"name\":\"f\",\"arguments\":{\"n\":1.5}}}\r\n";
        let Frame::Message(message) = read(line.as_bytes()) else {
            panic!("no message");
        };
        let JsonRpcMessage::Request(request) = *message else {
            panic!("no request");
        };
        assert_eq!(request.id, RequestId::String("a".into()));
        assert!(matches!(request.request, ClientRequest::CallToolRequest(_)));
    }

    #[test]
    fn arguments_are_what_was_sent_to_the_letter() {
        let sent = |arguments: &str| {
            let line =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"f"{arguments}}}}}"#);
            match read(line.as_bytes()) {
                Frame::Message(message) => Arguments::of(&message).map(|arguments| arguments.as_str().to_owned()),
                other => panic!("{line}: {other:?}"),
            }
        };
        for exact in [
            r#"{"n":123456789012345678901234567890}"#,
            r#"{"n":0.1000,"m":-0, "e":1.10e40}"#,
            r#"{ "text" : "\u0041" }"#,
            "{}",
        ] {
            assert_eq!(sent(&format!(r#","arguments":{exact}"#)).as_deref(), Some(exact));
        }
        assert_eq!(sent("").as_deref(), Some("{}"));
        assert_eq!(sent(r#","arguments":null"#).as_deref(), Some("{}"));
        let other = read(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        assert!(matches!(other, Frame::Message(message) if Arguments::of(&message).is_none()));
    }

    #[test]
    fn what_is_no_json_is_told_so_and_answers_nobody() {
        for line in [
            "{",
            "tools/list",
            "{\"a\":1}{\"b\":2}",
            "\u{1}",
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}",
        ] {
            let (id, code, _) = wrong(line);
            assert_eq!((id, code), (None, ErrorCode::PARSE_ERROR), "{line}");
        }
        assert!(matches!(read(b"\xff\xfe{}"), Frame::Wrong(None, error) if error.code == ErrorCode::PARSE_ERROR));
    }

    #[test]
    fn a_member_that_comes_twice_is_not_one_of_the_two() {
        let line = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"f","arguments":{"amount":1,"amount":9000}}}"#;
        assert!(wrong(line).2.contains("comes twice"));
    }

    #[test]
    fn what_is_no_message_is_told_so() {
        for (line, id, part) in [
            ("[]", None, "no batches"),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, None, "no batches"),
            ("7", None, "a JSON object"),
            ("{}", None, "jsonrpc"),
            (r#"{"id":1,"method":"ping"}"#, Some(RequestId::Number(1)), "jsonrpc"),
            (
                r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
                Some(RequestId::Number(1)),
                "jsonrpc",
            ),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, None, "`id`"),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, None, "`id`"),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, None, "`id`"),
            (r#"{"jsonrpc":"2.0","id":1}"#, Some(RequestId::Number(1)), "`method`"),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
                Some(RequestId::Number(1)),
                "`method`",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
                Some(RequestId::Number(1)),
                "not both",
            ),
        ] {
            let (to, code, message) = wrong(line);
            assert_eq!((to, code), (id, ErrorCode::INVALID_REQUEST), "{line}");
            assert!(message.contains(part), "{line}: {message}");
        }
        let (id, code, _) = wrong(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}"#);
        assert_eq!((id, code), (Some(RequestId::Number(1)), ErrorCode::INVALID_PARAMS));
    }

    #[test]
    fn what_nobody_waits_for_is_nothing() {
        for line in [
            "",
            "\r\n",
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":[]}"#,
            r#"{"jsonrpc":"2.0","method":7}"#,
        ] {
            assert!(matches!(read(line.as_bytes()), Frame::Nothing), "{line}");
        }
    }

    #[test]
    fn a_deep_message_is_refused_and_no_stack_is_lost() {
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{}{}}}}}"#,
            "[".repeat(5_000),
            "]".repeat(5_000)
        );
        assert!(wrong(&deep).2.contains("levels deep"));
    }
}
