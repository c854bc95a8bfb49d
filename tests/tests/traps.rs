//! What goes wrong in hosts like this one, tried on the whole of it. `tests/README.md` lists all of them, and where the
//! tests of the parts are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ambit_core::grant::Narrowing;
use ambit_core::policy::Mode;
use ambit_runtime::call::CallRequest;
use ambit_runtime::call::Outcome;
use ambit_runtime::config::Config;
use ambit_runtime::host::{Host, HostOptions};
use ambit_runtime::sandbox::Compiler;
use ambit_tests::home::{Home, Run};
use ambit_tests::programs::program;

/// A test and its name.
pub(crate) type Test = (&'static str, fn());

macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name)),*] };
}

pub(crate) const TESTS: &[Test] = tests![
    trap_01_without_a_policy_file_nothing_is_permitted,
    trap_01_a_guest_sees_no_environment,
    trap_02_a_guest_cannot_forge_an_answer,
    trap_05_no_call_changes_a_rule,
    trap_12_limits_count_over_the_whole_call,
    trap_14_a_tool_brings_no_policy,
    trap_15_a_replaced_component_is_not_run,
    trap_18_a_tools_error_is_no_success,
    trap_18_long_names_are_refused,
    trap_18_of_two_tools_of_one_name_the_first_stays,
    trap_19_a_cut_inside_a_character_ends_no_host,
    nothing_is_kept_between_calls_of_one_process,
];

const AGENT: &str = "[agent.assistant]\nteam = \"support\"\ntenant = \"acme\"\n[group.reviewer]\nmembers = []\n";
const CALLS: &str = "permit (principal, action == Action::\"call\", resource);";

/// A home in which one agent may call everything, and nothing is connected.
struct Scene {
    home: Home,
    folder: tempfile::TempDir,
}

impl Scene {
    fn with(tools: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::make(&folder.path().join("home")).unwrap();
        home.configure(AGENT).unwrap();
        home.permit(&format!("@id(\"calls\")\n{CALLS}")).unwrap();
        for (name, component) in tools {
            home.add(name, component).unwrap();
        }
        Self { home, folder }
    }

    fn case(&self, tool: &str, case: &str) -> Run {
        self.call(tool, "try", &format!("{{\"case\": \"{case}\"}}"))
    }

    fn call(&self, tool: &str, function: &str, args: &str) -> Run {
        let run = self.home.call(tool, function, args, None, None, None).unwrap();
        assert!(!run.err.contains("panicked"), "{}", run.text());
        run
    }

    fn file(&self, path: &str) -> PathBuf {
        self.home.folder().join(path)
    }
}

/// Outcome and refusal code of a call.
fn ended(run: &Run) -> (String, String) {
    let document = run.json().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (text(&document["outcome"]), text(&document["refusal"]["code"]))
}

#[track_caller]
fn check(run: &Run, outcome: &str, code: &str) {
    assert_eq!(ended(run), (outcome.to_owned(), code.to_owned()), "{}", run.text());
}

fn trap_01_without_a_policy_file_nothing_is_permitted() {
    let scene = Scene::with(&[("snoop", "hostile_wasi")]);
    check(&scene.case("snoop", "environment"), "tool-error", "");
    fs::remove_file(scene.file("policy/main.cedar")).unwrap();
    check(&scene.case("snoop", "environment"), "refused", "policy");
    fs::remove_dir_all(scene.file("policy")).unwrap();
    let run = scene.case("snoop", "environment");
    assert_ne!(run.code, Some(0), "{}", run.text());
    assert_ne!(ended(&run).0, "tool-error", "{}", run.text());
}

fn trap_01_a_guest_sees_no_environment() {
    let mut scene = Scene::with(&[("snoop", "hostile_wasi")]);
    scene.home.set("A_SECRET_OF_THE_SHELL", "opensesame");
    for case in ["environment", "arguments", "working-directory", "directories"] {
        let run = scene.case("snoop", case);
        check(&run, "tool-error", "");
        assert!(
            run.out.contains("nothing") && !run.out.contains("opensesame"),
            "{}",
            run.text()
        );
    }
}

fn trap_02_a_guest_cannot_forge_an_answer() {
    let scene = Scene::with(&[("snoop", "hostile_wasi"), ("forger", "hostile_forger")]);
    // What it writes to its standard output is a line of its log, and no line of ours.
    let run = scene.case("snoop", "forged-answer");
    check(&run, "tool-error", "");
    assert!(!run.out.contains("jsonrpc"), "{}", run.text());
    for case in [
        "answer-in-a-value",
        "answer-in-an-error",
        "answer-in-the-log",
        "escapes-in-a-value",
        "escapes-in-a-panic",
    ] {
        let args = format!("{{\"case\": \"{case}\"}}");
        let run = scene.home.run(["call", "forger", "try", "--args", &args], "").unwrap();
        let said = format!("{}{}", run.out, run.err);
        assert!(
            !said.lines().any(|line| line.starts_with("{\"jsonrpc\"")),
            "{case}: {said}"
        );
        assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{case}: {said:?}");
    }
}

fn trap_05_no_call_changes_a_rule() {
    let scene = Scene::with(&[("wild", "hostile_sandbox")]);
    let rules = |scene: &Scene| {
        let files = ["ambit.toml", "tools.lock", "policy/main.cedar", "keys/ledger.pub"];
        files.map(|file| fs::read(scene.file(file)).unwrap())
    };
    let before = rules(&scene);
    for args in [
        r#"{"case": "fine", "policy": "permit (principal, action, resource);"}"#,
        r#"{"case": "fine", "mode": "execute", "approvals": {"reviewer": 1}}"#,
        r#"{"case": "fine", "as": "admin"}"#,
    ] {
        check(&scene.call("wild", "try", args), "refused", "arguments");
    }
    for function in ["policy", "tools.add", "admin.grant", "init"] {
        check(&scene.call("wild", function, "{}"), "refused", "function");
    }
    check(
        &scene
            .home
            .call("wild", "try", r#"{"case": "fine"}"#, Some("admin"), None, None)
            .unwrap(),
        "refused",
        "caller",
    );
    assert_eq!(before, rules(&scene));
}

fn trap_12_limits_count_over_the_whole_call() {
    let scene = Scene::with(&[("flood", "hostile_flood"), ("wild", "hostile_sandbox")]);
    // A thousand small requests, each refused; a thousand small lines.
    let run = scene.case("flood", "unbound");
    check(&run, "refused", "effects");
    let refused = run.json().unwrap()["refused_effects"].as_array().unwrap().len();
    assert_eq!(refused, 64);
    check(&scene.case("wild", "log-flood"), "refused", "log");
    check(&scene.case("wild", "random-flood"), "refused", "fuel");
}

fn trap_14_a_tool_brings_no_policy() {
    let scene = Scene::with(&[("impostor", "hostile_impostor")]);
    // It declares what it wants and is named after a rule: it is bound to nothing, so it has nothing.
    let run = scene.call("impostor", "refunds.get", r#"{"id": "ch_1"}"#);
    assert_eq!(
        run.json().unwrap()["refused_effects"][0]["code"],
        "binding",
        "{}",
        run.text()
    );
    let run = scene.home.try_add("lawgiver", "hostile_lawgiver").unwrap();
    assert_eq!(run.code, Some(1), "{}", run.text());
    // Policy beside the component is not the home's.
    fs::write(
        scene.file("tools/impostor.cedar"),
        "permit (principal, action, resource);",
    )
    .unwrap();
    fs::write(scene.file("policy/main.cedar"), "").unwrap();
    check(
        &scene.call("impostor", "refunds.get", r#"{"id": "ch_1"}"#),
        "refused",
        "policy",
    );
}

fn trap_15_a_replaced_component_is_not_run() {
    let scene = Scene::with(&[("tool", "good_echo"), ("other", "hostile_sandbox")]);
    check(&scene.call("tool", "hash", r#"{"json": "a"}"#), "ok", "");
    let kept: Vec<PathBuf> = files(&scene.file("tools"));
    assert_eq!(kept.len(), 2, "{kept:?}");
    let (one, other) = (fs::read(&kept[0]).unwrap(), fs::read(&kept[1]).unwrap());
    fs::write(&kept[0], other).unwrap();
    fs::write(&kept[1], one).unwrap();
    for (tool, function, args) in [
        ("tool", "hash", r#"{"json": "a"}"#),
        ("other", "try", r#"{"case": "fine"}"#),
    ] {
        let run = scene.call(tool, function, args);
        assert_eq!((run.code, run.json()), (Some(1), None), "{}", run.text());
        assert!(
            run.err.contains("digest") || run.err.contains("accepted"),
            "{}",
            run.text()
        );
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).collect()
}

fn trap_18_a_tools_error_is_no_success() {
    let scene = Scene::with(&[("pretender", "hostile_pretender"), ("echo", "good_echo")]);
    for function in ["refusal", "refusal-text"] {
        let run = scene.call("pretender", function, "{}");
        check(&run, "tool-error", "");
        assert_eq!(run.code, Some(1), "{}", run.text());
    }
    // Optional parameters are optional, unknown ones are refused, and numbers have their range.
    for (args, outcome) in [
        (r#"{"first": "a"}"#, "ok"),
        (r#"{"first": "a", "second": null, "count": 2}"#, "ok"),
        (r#"{"second": "a"}"#, "refused"),
        (r#"{"first": "a", "third": "b"}"#, "refused"),
        (r#"{"first": "a", "count": -1}"#, "refused"),
        (r#"{"first": "a", "count": 4294967296}"#, "refused"),
        (r#"{"first": "a", "count": 1.5}"#, "refused"),
        (r#"{"first": "a", "count": "1"}"#, "refused"),
    ] {
        let code = if outcome == "ok" { "" } else { "arguments" };
        check(&scene.call("echo", "join", args), outcome, code);
    }
}

fn trap_18_long_names_are_refused() {
    let scene = Scene::with(&[("echo", "good_echo")]);
    for length in [128, 129, 4_000] {
        let name = "n".repeat(length);
        check(&scene.call("echo", &name, "{}"), "refused", "function");
        check(&scene.call(&name, "hash", "{}"), "refused", "tool");
        let run = scene
            .home
            .call("echo", "hash", "{}", Some(&name), Some(&name), None)
            .unwrap();
        check(&run, "refused", "caller");
        let run = scene.home.try_add(&name, "good_echo").unwrap();
        assert!(
            matches!(run.code, Some(1 | 2)) && !run.err.contains("panicked"),
            "{}",
            run.text()
        );
    }
}

fn trap_18_of_two_tools_of_one_name_the_first_stays() {
    let scene = Scene::with(&[("tool", "good_echo")]);
    let run = scene.home.try_add("tool", "hostile_sandbox").unwrap();
    assert_eq!(run.code, Some(1), "{}", run.text());
    assert!(run.err.contains("already"), "{}", run.text());
    check(&scene.call("tool", "hash", r#"{"json": "a"}"#), "ok", "");
}

fn trap_19_a_cut_inside_a_character_ends_no_host() {
    let scene = Scene::with(&[("wild", "hostile_sandbox"), ("echo", "good_echo")]);
    check(&scene.case("wild", "log-multibyte"), "refused", "log");
    for length in 250..260 {
        // Quoted in a message, which is cut: at every place inside a character of four bytes.
        let name = format!("{}{}", "x".repeat(length), "\u{1f600}".repeat(50));
        check(&scene.call("echo", &name, "{}"), "refused", "function");
        check(
            &scene.call("echo", "hash", &format!("{{\"{name}\": 1}}")),
            "refused",
            "arguments",
        );
    }
}

/// Each call has an instance of its own, also where the process and the place for instances are the same ones.
fn nothing_is_kept_between_calls_of_one_process() {
    let scene = Scene::with(&[("wild", "hostile_keeper")]);
    let config = Config::load(scene.home.folder()).unwrap();
    let options = HostOptions {
        compiler: Some(Compiler::Child(program("ambit"))),
        ..HostOptions::for_tools(["wild"])
    };
    let host = Host::open(config, options).unwrap();
    for round in 0..8 {
        let request = CallRequest {
            tool: "wild".to_owned(),
            function: "keep".to_owned(),
            args: format!("{{\"text\": \"what caller {round} said\"}}"),
            agent: "assistant".to_owned(),
            user: None,
            mode: Mode::Execute,
            run: None,
            trace: None,
            narrowing: Narrowing::default(),
            listener: None,
            cancel: None,
        };
        let outcome = host.call(request).unwrap().outcome;
        assert_eq!(outcome, Outcome::Ok("1 calls, 0 traces".into()));
    }
    drop(scene.folder);
}

/// A line of the table in `tests/README.md`: its tests, or none where there is nothing to test yet.
pub(crate) struct Line {
    tests: Vec<String>,
    built: bool,
}

/// Every line of the table has the tests that it names, and every test named after a line is in it.
pub(crate) fn every_trap_has_its_tests(repository: &Path) -> Result<(), String> {
    let lines = table(&fs::read_to_string(repository.join("tests/README.md")).map_err(|error| error.to_string())?);
    let expected: Vec<u32> = (1..=22).collect();
    if lines.keys().copied().collect::<Vec<_>>() != expected {
        return Err(format!("the table has the lines {:?}, not 1 to 22", lines.keys()));
    }
    let mut there = Vec::new();
    for part in ["host", "tests/src", "tests/tests", "sdk"] {
        tests_below(&repository.join(part), &mut there);
    }
    let mut wrong = Vec::new();
    for (number, line) in &lines {
        if line.built == line.tests.is_empty() {
            wrong.push(format!("line {number} has tests and is not built, or has none and is"));
        }
        let strange = line
            .tests
            .iter()
            .filter(|name| !there.contains(name) || !is_of(*number, name));
        wrong.extend(strange.map(|name| format!("line {number} names `{name}`, and there is no such test of it")));
        let missing = there
            .iter()
            .filter(|name| is_of(*number, name) && !line.tests.contains(name));
        wrong.extend(missing.map(|name| format!("`{name}` is not in line {number}")));
    }
    let strays = there
        .iter()
        .filter(|name| !lines.keys().any(|number| is_of(*number, name)));
    wrong.extend(strays.map(|name| format!("`{name}` is of no line")));
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

fn is_of(number: u32, test: &str) -> bool {
    test.starts_with(&format!("trap_{number:02}_"))
}

/// The rows `| number | what goes wrong | tests |`.
fn table(text: &str) -> BTreeMap<u32, Line> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let number = cells.first()?.parse().ok()?;
        let tests = cells
            .get(2)?
            .split('`')
            .filter(|word| word.starts_with("trap_"))
            .map(str::to_owned)
            .collect();
        let built = !cells.get(2)?.starts_with("not built yet");
        Some((number, Line { tests, built }))
    };
    text.lines().filter_map(row).collect()
}

/// The names of functions below a folder that are named after a trap, and marked or listed as tests.
fn tests_below(folder: &Path, found: &mut Vec<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                let function = line.strip_prefix("async ").unwrap_or(line);
                if let Some(name) = function
                    .strip_prefix("fn trap_")
                    .and_then(|rest| rest.split('(').next())
                {
                    let name = format!("trap_{name}");
                    let listed = |(listed, _): &Test| listed.strip_prefix("mcp_").unwrap_or(listed) == name;
                    if marked || TESTS.iter().chain(super::mcp::TESTS).any(listed) {
                        found.push(name);
                    }
                }
                let test = line == "#[test]" || line.starts_with("#[tokio::test");
                marked = test || (marked && line.starts_with("#["));
            }
        }
    }
}
