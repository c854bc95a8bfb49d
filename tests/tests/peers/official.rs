//! The official Python client, in a session and in what both sides speak newest.

use ambit_tests::home::Home;
use ambit_tests::peers::{bare, finished, python};
use ambit_tests::programs::program;

use super::{out, peer};

const CONFIGURATION: &str = "[agent.assistant]\nteam = \"support\"\ntenant = \"acme\"\n[group.reviewer]\nmembers = []\n\
    [limits]\nfuel = 4000000000000000\nwall_ms = 60000\n";

const POLICY: &str = "@id(\"calls\")\npermit (principal in Team::\"support\", action == Action::\"call\", resource);\n";

pub(super) fn the_official_python_client_takes_it() {
    let Some(python) = python("peers_the_official_python_client_takes_it") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let home = Home::make(&folder.path().join("home")).unwrap();
    home.configure(CONFIGURATION).unwrap();
    home.permit(POLICY).unwrap();
    home.add("echo", "good_echo").unwrap();
    home.add("wild", "hostile_sandbox").unwrap();
    for (mode, version) in [("legacy", "2025-11-25"), ("auto", "2026-07-28")] {
        let mut client = bare(&python, folder.path());
        client.arg(peer("official.py")).arg(mode).arg(program("ambit"));
        client.arg("--home").arg(home.folder());
        client.args(["serve", "--stdio", "--as", "assistant"]);
        assert_eq!(out(&finished(&mut client).unwrap()).trim(), version);
    }
}
