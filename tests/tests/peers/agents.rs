//! The agents of `examples`, from the charge to the receipt, with a person in between.

use std::path::Path;
use std::process::Command;

use ambit_tests::peers::{Node, Served, Talker, bare, finished, node, python, repository};
use ambit_tests::programs::program;
use serde_json::Value;

use super::{Scene, out, text};

pub(super) fn a_python_agent_refunds_over_stdio() {
    let Some(python) = python("peers_a_python_agent_refunds_over_stdio") else {
        return;
    };
    over_stdio(&|place| python_agent(&python, place));
}

pub(super) fn a_python_agent_refunds_over_http() {
    let Some(python) = python("peers_a_python_agent_refunds_over_http") else {
        return;
    };
    over_http(&|place| python_agent(&python, place));
}

pub(super) fn a_typescript_agent_refunds_over_stdio() {
    let Some(node) = node("peers_a_typescript_agent_refunds_over_stdio") else {
        return;
    };
    over_stdio(&|place| typescript_agent(&node, place));
}

pub(super) fn a_typescript_agent_refunds_over_http() {
    let Some(node) = node("peers_a_typescript_agent_refunds_over_http") else {
        return;
    };
    over_http(&|place| typescript_agent(&node, place));
}

/// By the compiler, with the versions that its own `package.json` names.
pub(super) fn the_typescript_agent_is_well_typed() {
    let Some(node) = node("peers_the_typescript_agent_is_well_typed") else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let example = repository("examples/typescript-agent");
    for file in ["tsconfig.json", "package.json"] {
        std::fs::copy(example.join(file), place.path().join(file)).unwrap();
    }
    // Beside the packages, where the compiler looks for them.
    drop(node.script(place.path(), &example.join("agent.ts")).unwrap());
    let mut compiler = node.package(place.path(), "typescript/bin/tsc");
    out(&finished(compiler.args(["--project", "tsconfig.json"])).unwrap());

    let json = |path: &str| -> Value { serde_json::from_str(&text(&repository(path))).unwrap() };
    let (own, tested) = (
        json("examples/typescript-agent/package.json"),
        json("tests/peers/package.json"),
    );
    for part in ["dependencies", "devDependencies"] {
        for (name, version) in own[part].as_object().unwrap() {
            assert_eq!(
                *version, tested["dependencies"][name],
                "{name} is another one than is tested"
            );
        }
    }
    let own = text(&repository("examples/python-agent/requirements.txt"));
    let tested = text(&repository("tests/peers/requirements.txt"));
    assert!(own.lines().all(|line| tested.lines().any(|tested| tested == line)));
}

fn python_agent(python: &Path, place: &Path) -> Command {
    let mut agent = bare(python, place);
    agent.arg(repository("examples/python-agent/agent.py"));
    agent
}

fn typescript_agent(node: &Node, place: &Path) -> Command {
    node.script(place, &repository("examples/typescript-agent/agent.ts"))
        .unwrap()
}

fn over_stdio(agent: &dyn Fn(&Path) -> Command) {
    let scene = Scene::new();
    let rita = scene.enrol_rita();
    let place = scene.place("agent");
    let agent = || {
        let mut agent = agent(&place);
        agent
            .env("AMBIT", program("ambit"))
            .env("AMBIT_HOME", scene.home.folder());
        agent
    };
    drafts(&scene, agent());
    pays_at_once(&scene, agent());
    waits_for_people(&scene, agent(), &rita);
    is_refused(&scene, agent());
    scene.in_order();
}

fn over_http(agent: &dyn Fn(&Path) -> Command) {
    let scene = Scene::with("[server]\n");
    let rita = scene.enrol_rita();
    let key = scene.key();
    let place = scene.place("agent");
    let agent = |variable: &str, served: &Served| {
        let mut agent = agent(&place);
        agent.env(variable, served.url()).env("AMBIT_KEY", &key);
        agent
    };
    {
        let dry = Served::start(&scene.home, "127.0.0.1:0", &["--mode", "dry-run"]).unwrap();
        drafts(&scene, agent("AMBIT_DRAFT_URL", &dry));
    }
    let served = Served::start(&scene.home, "127.0.0.1:0", &[]).unwrap();
    pays_at_once(&scene, agent("AMBIT_URL", &served));
    waits_for_people(&scene, agent("AMBIT_URL", &served), &rita);
    is_refused(&scene, agent("AMBIT_URL", &served));
    // A draft is never asked of one that would do it.
    let ended = finished(agent("AMBIT_URL", &served).args(["draft", "ch_shoes", "100"])).unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(scene.refunds(), 2);
    drop(served);
    assert!(scene.home.files_with(&[key]).unwrap().is_empty());
    scene.in_order();
}

fn drafts(scene: &Scene, mut agent: Command) {
    let told = out(&finished(agent.args(["draft", "ch_laptop", "9000"])).unwrap());
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "charge ch_laptop: 2400.00 usd, of which 2400.00 usd is left");
    assert!(
        lines[1].starts_with("draft: POST https://api.stripe.com/v1/refunds {"),
        "{told}"
    );
    assert!(lines[1].contains("ch_laptop") && lines[1].contains("9000"), "{told}");
    assert_eq!(lines[2..], ["it would be held for 1 of finance"]);
    assert_eq!(scene.refunds(), 0, "nothing left");
}

fn pays_at_once(scene: &Scene, mut agent: Command) {
    let told = out(&finished(agent.args(["refund", "ch_shoes", "2500"])).unwrap());
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(
        lines[1].starts_with("refund re_") && lines[1].contains(": 25.00 usd, "),
        "{told}"
    );
    assert!(lines[2].starts_with("receipt: entry "), "{told}");
    assert_eq!(scene.refunds(), 1);
}

fn waits_for_people(scene: &Scene, mut agent: Command, rita: &str) {
    let waiting = Talker::start(agent.args(["refund", "ch_laptop", "9000"])).unwrap();
    assert!(waiting.hear().starts_with("charge ch_laptop"));
    let held = waiting.hear();
    let call = held
        .strip_prefix("held: call ")
        .and_then(|rest| rest.strip_suffix(" waits for people"));
    let call = call.unwrap_or_else(|| panic!("{held}"));
    assert_eq!(scene.refunds(), 1, "nothing of it was sent");
    let listed = scene.ambit(&["--format", "json", "approvals", "list"]).json().unwrap();
    let listed = listed.as_array().unwrap();
    let hold = listed
        .iter()
        .find(|hold| hold["call"] == call)
        .unwrap_or_else(|| panic!("{listed:?}"));
    scene.ambit(&["approvals", "approve", hold["hold"].as_str().unwrap(), "--key", rita]);
    let (well, rest) = waiting.end();
    assert!(well, "{rest:?}");
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(
        rest[0].starts_with("refund re_") && rest[0].contains(": 90.00 usd, "),
        "{rest:?}"
    );
    assert!(rest[1].starts_with("receipt: entry "), "{rest:?}");
    assert_eq!(scene.refunds(), 2);
}

fn is_refused(scene: &Scene, mut agent: Command) {
    let ended = finished(agent.args(["refund", "ch_laptop", "60000"])).unwrap();
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(
        told.contains("no refund: ") && told.contains("refused (policy"),
        "{told}"
    );
    assert_eq!(scene.refunds(), 2);
}
