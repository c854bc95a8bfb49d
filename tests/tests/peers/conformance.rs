//! The conformance suite of the protocol, against a host with tools that are as much of what it calls as a tool can be.

use std::collections::BTreeSet;
use std::fs;

use ambit_tests::home::Home;
use ambit_tests::peers::{Served, finished, node};

use super::{peer, text};

/// The tools that the suite calls are `test_simple_text`, `test_error_handling` and `test_tool_with_progress`.
const TOOLS: [&str; 2] = ["test", "test_tool"];

/// What passes, which the suite would not miss if it were no longer run.
const PASSED: [&str; 10] = [
    "completion-complete",
    "dns-rebinding-protection",
    "ping",
    "prompts-list",
    "resources-list",
    "server-initialize",
    "tools-call-error",
    "tools-call-simple-text",
    "tools-call-with-progress",
    "tools-list",
];

pub(super) fn the_conformance_suite_passes() {
    let Some(node) = node("peers_the_conformance_suite_passes") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let home = Home::make(&folder.path().join("home")).unwrap();
    home.configure(
        "[agent.assistant]\nteam = \"support\"\ntenant = \"acme\"\n[group.reviewer]\nmembers = []\n[server]\n",
    )
    .unwrap();
    home.permit("@id(\"calls\")\npermit (principal, action == Action::\"call\", resource);\n")
        .unwrap();
    for tool in TOOLS {
        home.add(tool, "good_everything").unwrap();
    }
    let key = home.done(["keys", "create", "--as", "assistant"]).unwrap();
    let server = Served::start(&home, "127.0.0.1:0", &[]).unwrap();
    let (place, results) = (folder.path().join("node"), folder.path().join("results"));
    fs::create_dir(&place).unwrap();
    let baseline = peer("conformance-baseline.yml");
    let mut suite = node.script(&place, &peer("conformance.mjs")).unwrap();
    suite.env("AMBIT_URL", server.url()).env("AMBIT_KEY", key.out.trim());
    let output = finished(suite.arg(&baseline).arg(&results)).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );

    // One folder for each scenario: `server-NAME-2026-11-21T22-59-47-642Z`.
    let names: BTreeSet<String> = fs::read_dir(&results)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .map(|name| {
            let name = name.strip_prefix("server-").unwrap_or(&name);
            let end = name.len().saturating_sub("-2026-11-21T22-59-47-642Z".len());
            name.get(..end).unwrap_or(name).to_owned()
        })
        .collect();
    let excused: BTreeSet<String> = text(&baseline)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ").map(str::to_owned))
        .collect();
    let ran: Vec<&String> = names.difference(&excused).collect();
    assert_eq!(ran, PASSED.iter().collect::<Vec<_>>(), "{told}");
}
