//! A request as it is recorded, for people: what would be sent, or was.

use std::io;

use serde_json::Value;

/// A line for each part of a recorded request, each given to `line` with its name: where it goes, what the tool sets of headers, the body.
pub(super) fn lines(request: &Value, line: &mut dyn FnMut(&str, &str) -> io::Result<()>) -> io::Result<()> {
    let text = |name: &str| request.get(name).and_then(Value::as_str);
    match (text("method"), text("origin"), text("target")) {
        (Some(method), Some(origin), Some(target)) => line("sends", &format!("{method} {origin}{target}"))?,
        _ => line("sends", "[not readable]")?,
    }
    for (name, value) in headers(request) {
        line("header", &format!("{name}: {value}"))?;
    }
    text("body").map_or(Ok(()), |body| line("body", body))
}

/// Its headers: those that the tool sets, and what its body is.
fn headers(request: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = request.get("headers").and_then(Value::as_array).into_iter().flatten();
    let mut headers: Vec<(String, String)> = listed
        .filter_map(|pair| Some((text(pair.get(0)?), text(pair.get(1)?))))
        .collect();
    if let Some(kind) = request.get("content-type").and_then(Value::as_str) {
        headers.push(("content-type".to_owned(), kind.to_owned()));
    }
    headers
}
