//! What an agent can read: the contracts of the tools that it may call, and the receipts of its own calls.

use std::collections::BTreeMap;

use ambit_core::error::{printable, visible_json};
use ambit_core::ledger::story::Opening;
use ambit_runtime::contract::OwnContract;
use ambit_runtime::host::Host;
use ambit_runtime::ids::CallId;
use ambit_runtime::offers::{Offered, Owner};
use ambit_runtime::store::StoreError;
use rmcp::model::{Resource, ResourceContents, ResourceTemplate};

use crate::mcp::Door;

const TOOL: &str = "ambit://tool/";
const RECEIPT: &str = "ambit://receipt/";
/// What follows a tool's name where its contract is read as a page.
const PAGE: &str = "/page";
const JSON: &str = "application/json";
const MARKDOWN: &str = "text/markdown";

/// Where the receipt of a call is read.
pub(crate) fn receipt(call: &str) -> String {
    format!("{RECEIPT}{call}")
}

/// What a resource's name stands for.
#[derive(Debug, PartialEq, Eq)]
enum Named<'u> {
    Tool(&'u str),
    Page(&'u str),
    Receipt(CallId),
}

fn named(uri: &str) -> Option<Named<'_>> {
    if let Some(tool) = uri.strip_prefix(TOOL) {
        return Some(match tool.strip_suffix(PAGE) {
            Some(tool) => Named::Page(tool),
            None => Named::Tool(tool),
        });
    }
    uri.strip_prefix(RECEIPT)?.parse().ok().map(Named::Receipt)
}

/// The contracts of the tools of which the caller may call something. Receipts are not listed: there is one for each call, and each result
/// says where its own is.
pub(crate) fn listed(all: &[Offered<'_>]) -> Vec<Resource> {
    let tools: BTreeMap<&str, &Offered<'_>> = permitted(all).map(|one| (one.tool, one)).collect();
    let resource = |(tool, one): (&str, &Offered<'_>)| {
        let what = one
            .manifest
            .package
            .as_deref()
            .map(|package| format!(" ({})", printable(package)));
        Resource::new(format!("{TOOL}{tool}"), tool)
            .with_title(format!("Contract of the tool {tool}"))
            .with_description(format!(
                "What `{tool}`{} can do for you and can never do, who is asked, its limits, and its functions with their schemas. As a page: \
                 {TOOL}{tool}{PAGE}.",
                what.unwrap_or_default()
            ))
            .with_mime_type(JSON)
    };
    tools.into_iter().map(resource).collect()
}

/// How they are named.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    let of = |uri: &str, name: &str, kind: &str, description: &str| {
        ResourceTemplate::new(uri, name)
            .with_description(description)
            .with_mime_type(kind)
    };
    vec![
        of(
            "ambit://tool/{name}",
            "contract",
            JSON,
            "What a tool can do for you and can never do, who is asked, its limits, and the functions that you may call, with their schemas.",
        ),
        of(
            "ambit://tool/{name}/page",
            "contract-page",
            MARKDOWN,
            "The same as a page to read, without the schemas.",
        ),
        of(
            "ambit://receipt/{call}",
            "receipt",
            JSON,
            "The proof of how one of your own calls ended, which anybody can verify offline with the ledger's public key.",
        ),
    ]
}

/// What is read: none where there is nothing of that name for this caller, whatever there is for others.
///
/// # Errors
/// Where the ledger cannot be read.
pub(crate) fn read(door: &Door, uri: &str) -> Result<Option<ResourceContents>, StoreError> {
    // Who is not let in for any more has no contracts.
    let contract = |tool: &str| door.contract(tool).ok().flatten();
    let (text, kind) = match named(uri) {
        Some(Named::Tool(tool)) => (contract(tool).map(|own| document(&own)), JSON),
        Some(Named::Page(tool)) => (contract(tool).map(|own| own.page()), MARKDOWN),
        Some(Named::Receipt(call)) => (receipt_of(door.host(), door.owner(), &call)?, JSON),
        None => (None, JSON),
    };
    Ok(text.map(|text| ResourceContents::text(text, uri).with_mime_type(kind)))
}

/// A contract as text. Docs hide nothing by now; a name in a scope could.
pub(crate) fn document(own: &OwnContract) -> String {
    visible_json(&format!("{:#}", own.document()))
}

/// The receipt of a call of `owner`; none where there is no such call, it is somebody else's, or it has not ended.
///
/// # Errors
/// Where the ledger cannot be read.
pub(crate) fn receipt_of(host: &Host, owner: Owner<'_>, call: &CallId) -> Result<Option<String>, StoreError> {
    let Some((story, _)) = host.own_call(call.as_str(), owner)? else {
        return Ok(None);
    };
    let ended = story.finished.is_some() || matches!(story.opening.what, Opening::Denied(_));
    ended.then(|| host.receipt(call)).transpose()
}

fn permitted<'a, 'h>(all: &'a [Offered<'h>]) -> impl Iterator<Item = &'a Offered<'h>> {
    all.iter().filter(|one| one.permitted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_are_read_in_one_form() {
        let call = format!("c_{}", "a".repeat(26));
        assert_eq!(named(&receipt(&call)), Some(Named::Receipt(call.parse().unwrap())));
        assert_eq!(named("ambit://tool/stripe"), Some(Named::Tool("stripe")));
        assert_eq!(named("ambit://tool/stripe/page"), Some(Named::Page("stripe")));
        for none in [
            "ambit://receipt/c_a",
            "ambit://receipt/",
            "AMBIT://tool/stripe",
            "ambit://hold/x",
            "file:///etc/passwd",
            "",
        ] {
            assert_eq!(named(none), None, "{none}");
        }
    }
}
