//! An effect in doubt as an operator sees it, from a host that ended to the end of its call.

use std::fs;
use std::path::Path;

use ambit_core::grant::Narrowing;
use ambit_core::policy::Mode;
use ambit_runtime::call::CallRequest;
use ambit_runtime::config::Config;
use ambit_runtime::host::{Host, HostOptions};
use ambit_runtime::sandbox::Compiler;
use ambit_runtime::store::{Fault, Faults, Reader, Step};
use ambit_tests::home::{Home, Run};
use ambit_tests::programs::program;
use ambit_tests::service::Service;

use super::traps::Test;

pub(crate) const TESTS: &[Test] = &[(
    "an_effect_in_doubt_is_sent_again_by_its_operator",
    an_effect_in_doubt_is_sent_again_by_its_operator,
)];

const KEY: &str = "idempotency = { header = \"Idempotency-Key\", lifetime = \"24h\" }";

fn configuration(service: &Service, token: &Path, key: &str) -> String {
    format!(
        r#"
[agent.assistant]
team = "support"
tenant = "acme"
[group.reviewer]
members = []
[connection.stripe]
origin = "https://api.stripe.com"
connect_to = "127.0.0.1:{port}"
ca = "{ca}"
allow_private = true
credential = {{ file = "{token}", as = "bearer" }}
[connection.stripe.route."refunds.create"]
match = "POST /v1/refunds"
tier = "commit"
fields = ["charge", "amount", "reason"]
required = ["charge", "amount"]
reads = ["id"]
body = "form"
money = {{ amount = "amount", currency = {{ constant = "usd" }} }}
{key}
[tool.effects.bind]
stripe = "stripe"
[budget.refunds]
unit = "usd"
window = "month"
cap = 10000
"#,
        port = service.port,
        ca = service.ca.display(),
        token = token.display(),
    )
}

/// A call that the host's end left in doubt, after the service had its request.
fn left_in_doubt(home: &Path) -> Option<String> {
    (0..12).find_map(|good| {
        let options = HostOptions {
            compiler: Some(Compiler::Child(program("ambit"))),
            faults: Faults::after(good, Step::BeforeCommit, Fault::Io),
            ..HostOptions::default()
        };
        if let Ok(host) = Host::open(Config::load(home).unwrap(), options) {
            let request = CallRequest {
                tool: "effects".to_owned(),
                function: "refund".to_owned(),
                args: r#"{"charge":"ch_shoes","amount":4000,"count":1}"#.to_owned(),
                agent: "assistant".to_owned(),
                user: None,
                mode: Mode::Execute,
                run: None,
                trace: None,
                narrowing: Narrowing::default(),
                listener: None,
                cancel: None,
            };
            let _ = host.call(request);
        }
        let options = HostOptions {
            compiler: Some(Compiler::Child(program("ambit"))),
            ..HostOptions::default()
        };
        drop(Host::open(Config::load(home).unwrap(), options).unwrap());
        let doubts = Reader::open(home).unwrap().doubts().unwrap();
        doubts.first().map(|(work, _)| work.call.clone())
    })
}

fn an_effect_in_doubt_is_sent_again_by_its_operator() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(&folder.path().join("service")).unwrap();
    let token = folder.path().join("token");
    fs::write(&token, &service.token).unwrap();
    let home = Home::make(&folder.path().join("home")).unwrap();
    home.configure(&configuration(&service, &token, KEY)).unwrap();
    home.permit("@id(\"all\") permit (principal, action, resource);")
        .unwrap();
    home.add("effects", "good_effects").unwrap();
    let call = left_in_doubt(home.folder()).unwrap();
    let run = |arguments: &[&str]| home.run(arguments, "").unwrap();
    let code = |run: &Run, code: i32| assert_eq!(run.code, Some(code), "{}", run.text());
    let sent = service.requests().unwrap().len();

    // Without a key there is no choice but to find out.
    home.configure(&configuration(&service, &token, "")).unwrap();
    let listed = run(&["calls", "--in-doubt"]);
    assert!(
        listed.out.contains("--not-done") && !listed.out.contains("--retry"),
        "{}",
        listed.text()
    );
    let refused = run(&["calls", "resolve", &call, "--retry"]);
    code(&refused, 1);
    assert!(
        refused.err.contains("does not recognise the effect"),
        "{}",
        refused.text()
    );
    assert_eq!(service.requests().unwrap().len(), sent);

    home.configure(&configuration(&service, &token, KEY)).unwrap();
    let listed = run(&["calls", "--in-doubt"]);
    let offered = format!("ambit calls resolve {call} --effect 1 --retry");
    assert!(listed.out.contains(&offered), "{}", listed.text());
    let listed = run(&["calls", "--in-doubt", "--format", "json"]).json().unwrap();
    assert_eq!(listed[0]["in_doubt"][0]["choices"][2], "retry", "{listed}");
    code(&run(&["calls", "resume", &call]), 1);
    let again = run(&["calls", "resolve", &call, "--retry"]);
    code(&again, 0);
    assert_eq!(again.out.trim(), "1", "{}", again.text());

    // Sent twice, done once, spent once; and the record stands.
    let requests = service.requests().unwrap();
    assert_eq!(requests.len(), sent + 1);
    let keys: Vec<_> = requests
        .iter()
        .rev()
        .take(2)
        .map(|request| request.headers.get("idempotency-key"))
        .collect();
    assert!(keys[0].is_some() && keys[0] == keys[1], "{keys:?}");
    let budgets = run(&["budgets", "--format", "json"]);
    assert!(
        budgets.out.contains("4000") && !budgets.out.contains("8000"),
        "{}",
        budgets.text()
    );
    assert!(run(&["calls", "--in-doubt"]).out.contains("nothing is in doubt"));
    code(&run(&["audit", "verify"]), 0);
    code(&run(&["replay", &call]), 0);
    let shown = run(&["audit", "show", &call]);
    code(&shown, 0);
    assert!(shown.out.contains("the host ended before it knew"), "{}", shown.text());
    code(&run(&["calls", "resolve", &call, "--retry"]), 1);
}
