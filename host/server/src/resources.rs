//! What an agent can read: the contracts of the tools that it may call, and the receipts of its own calls.

use std::collections::BTreeMap;

use ambit_core::error::{printable, visible_json};
use ambit_core::ledger::story::Opening;
use ambit_runtime::host::Host;
use ambit_runtime::ids::CallId;
use ambit_runtime::offers::{Offered, Owner};
use ambit_runtime::store::StoreError;
use rmcp::model::{Resource, ResourceContents, ResourceTemplate};

const TOOL: &str = "ambit://tool/";
const RECEIPT: &str = "ambit://receipt/";
const JSON: &str = "application/json";

/// Where the receipt of a call is read.
pub(crate) fn receipt(call: &str) -> String {
    format!("{RECEIPT}{call}")
}

/// What a resource's name stands for.
#[derive(Debug, PartialEq, Eq)]
enum Named<'u> {
    Tool(&'u str),
    Receipt(CallId),
}

fn named(uri: &str) -> Option<Named<'_>> {
    if let Some(tool) = uri.strip_prefix(TOOL) {
        return Some(Named::Tool(tool));
    }
    uri.strip_prefix(RECEIPT)?.parse().ok().map(Named::Receipt)
}

/// Whether that is the receipt of a call.
pub(crate) fn is_receipt(uri: &str) -> bool {
    matches!(named(uri), Some(Named::Receipt(_)))
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
                "What the component of `{tool}`{} declares: what it can reach, and its functions with their schemas.",
                what.unwrap_or_default()
            ))
            .with_mime_type(JSON)
    };
    tools.into_iter().map(resource).collect()
}

/// How both are named.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    let of = |uri: &str, name: &str, description: &str| {
        ResourceTemplate::new(uri, name)
            .with_description(description)
            .with_mime_type(JSON)
    };
    vec![
        of(
            "ambit://tool/{name}",
            "contract",
            "What a tool's component declares, as far as you may call it.",
        ),
        of(
            "ambit://receipt/{call}",
            "receipt",
            "The proof of how one of your own calls ended, which anybody can verify offline with the ledger's public key.",
        ),
    ]
}

/// What is read: none where there is nothing of that name for this caller, whatever there is for others.
///
/// # Errors
/// Where the ledger cannot be read.
pub(crate) fn read(
    host: &Host,
    owner: Owner<'_>,
    all: &[Offered<'_>],
    uri: &str,
) -> Result<Option<ResourceContents>, StoreError> {
    let text = match named(uri) {
        Some(Named::Tool(tool)) => contract(all, tool),
        Some(Named::Receipt(call)) => receipt_of(host, owner, &call)?,
        None => None,
    };
    Ok(text.map(|text| ResourceContents::text(text, uri).with_mime_type(JSON)))
}

/// What `ambit inspect` prints, with the functions that the caller may call.
pub(crate) fn contract(all: &[Offered<'_>], tool: &str) -> Option<String> {
    let own: Vec<&Offered<'_>> = permitted(all).filter(|one| one.tool == tool).collect();
    let manifest = own.first()?.manifest;
    let contract = manifest.contract(|function| own.iter().any(|one| one.function.id == function.id));
    // Docs hide nothing by now; a name in a scope could.
    serde_json::to_string_pretty(&contract)
        .ok()
        .map(|text| visible_json(&text))
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
