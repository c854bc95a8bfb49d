//! The HTTP API, held to its own description by schemathesis: what it says may be sent is taken, what it says may not be is not, and
//! every answer is one that it promises.

use ambit_tests::peers::{Served, bare, finished, python, repository};
use serde_json::Value;

use super::{Scene, out, peer, text};

/// The two parts, each by its own key.
const PARTS: [&str; 2] = ["--exclude-path-regex", "--include-path-regex"];
/// Requests that are thought up for each operation and in each chain of them, beside those that its description has by itself.
const EXAMPLES: &str = "15";
const OPERATORS: &str = "^/v1/operators/";
const REFUND: [&str; 9] = [
    "call",
    "stripe",
    "refunds.create",
    "--args",
    r#"{"charge":"ch_1","amount":9000}"#,
    "--as",
    "assistant",
    "--for",
    "ada",
];

pub(super) fn the_api_is_as_it_describes_itself() {
    let Some(python) = python("peers_the_api_is_as_it_describes_itself") else {
        return;
    };
    let scene = Scene::with("[server]\n[server.operators]\n");
    // One effect waits for people, so that what there is of holds is not empty.
    let held = scene.home.run(REFUND, "").unwrap();
    assert!(held.text().contains("ambit approvals show"), "{}", held.text());
    let operator = ["keys", "create", "--operator", "ops"];
    let scopes = ["read", "values", "operate", "approve"].map(|scope| ["--scope", scope]);
    let operator = scene.ambit(&[&operator[..], scopes.as_flattened()].concat());
    let keys = [scene.key(), operator.out.trim().to_owned()];
    let server = Served::start(&scene.home, "127.0.0.1:0", &[]).unwrap();
    let place = scene.place("schemathesis");
    let mut tested = 0;
    for (which, key) in PARTS.iter().zip(&keys) {
        let mut run = bare(&python.with_file_name("st"), &place);
        run.arg("--config-file").arg(peer("schemathesis.toml")).arg("run");
        run.arg(format!("http://{}/v1/openapi.json", server.address));
        run.args(["--header", &format!("Authorization: Bearer {key}"), which, OPERATORS]);
        run.args(["--max-examples", EXAMPLES, "--checks", "all"]);
        run.args(["--continue-on-failure", "--generation-deterministic", "--no-color"]);
        tested += number(&out(&finished(&mut run).unwrap()), "Tested:");
    }
    // Were one left out, nothing would be known of it. The description itself is what it begins with, and not counted.
    let all: Value = serde_json::from_str(&text(&repository("host/server/openapi.json"))).unwrap();
    let paths = all["paths"].as_object().unwrap().values();
    let all: usize = paths.map(|methods| methods.as_object().unwrap().len()).sum();
    assert_eq!(tested, all - 1);
    drop(server);
    scene.in_order();
}

/// The number that stands after `word` in what it printed.
fn number(told: &str, word: &str) -> usize {
    let line = told.lines().find_map(|line| line.trim().strip_prefix(word));
    line.and_then(|line| line.trim().parse().ok())
        .unwrap_or_else(|| panic!("no `{word}` in {told}"))
}
