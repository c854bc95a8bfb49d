//! The protocol's inspector, at its command line.

use std::fs;

use ambit_tests::peers::{Served, finished, node};
use ambit_tests::programs::program;
use serde_json::{Value, json};

use super::{Scene, out};

const INSPECTOR: &str = "@modelcontextprotocol/inspector/clients/launcher/build/index.js";

pub(super) fn the_inspector_lists_and_calls() {
    let Some(node) = node("peers_the_inspector_lists_and_calls") else {
        return;
    };
    let scene = Scene::with("[server]\n");
    let place = scene.place("inspector");
    let key = scene.key();
    let inspect = |servers: &Value, era: &str, more: &[&str]| -> Value {
        let file = place.join("servers.json");
        fs::write(&file, servers.to_string()).unwrap();
        let mut inspector = node.package(&place, INSPECTOR);
        inspector.args([
            "--cli",
            "--quiet",
            "--format",
            "json",
            "--protocol-era",
            era,
            "--config",
        ]);
        inspector.arg(&file).args(["--server", "ambit"]).args(more);
        let told = out(&finished(&mut inspector).unwrap());
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
    };
    let both = |servers: &Value, era: &str| {
        let listed = inspect(servers, era, &["--strict", "--method", "tools/list"]);
        let tools = member(&listed, "tools");
        let names: Vec<&str> = tools
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| tool["name"].as_str().unwrap())
            .collect();
        assert!(
            names.contains(&"stripe_refunds_create") && names.contains(&"ambit_call_status"),
            "{names:?}"
        );
        let call = [
            "--method",
            "tools/call",
            "--tool-name",
            "stripe_charges_get",
            "--tool-arg",
            "id=ch_shoes",
        ];
        let called = inspect(servers, era, &call);
        assert_eq!(member(&called, "structuredContent")["amount"], 12_000, "{called:#}");
        let resources = inspect(servers, era, &["--method", "resources/list"]);
        assert_eq!(
            member(&resources, "resources")[0]["uri"],
            "ambit://tool/stripe",
            "{resources:#}"
        );
    };
    let arguments = [
        "--home",
        &scene.home.folder().display().to_string(),
        "serve",
        "--stdio",
        "--as",
        "assistant",
    ]
    .map(str::to_owned);
    let stdio = json!({ "mcpServers": { "ambit": { "command": program("ambit"), "args": arguments } } });
    both(&stdio, "legacy");
    let served = Served::start(&scene.home, "127.0.0.1:0", &[]).unwrap();
    let headers = json!({ "Authorization": format!("Bearer {key}") });
    let http = json!({ "mcpServers": { "ambit": { "type": "http", "url": served.url(), "headers": headers } } });
    for era in ["legacy", "modern"] {
        both(&http, era);
    }
    drop(served);
    scene.in_order();
}

/// A member of what was answered, wherever the inspector puts it.
fn member<'v>(told: &'v Value, name: &str) -> &'v Value {
    if told[name].is_null() {
        &told["result"][name]
    } else {
        &told[name]
    }
}
