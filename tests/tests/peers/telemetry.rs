//! Telemetry, as other people's programs take it: a receiver that reads OTLP by its own definitions, and a Prometheus that scrapes.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::trace::{Parent, SpanId};
use ambit_runtime::store::Reader;
use ambit_tests::mcp::Server;
use ambit_tests::peers::{Served, Talker, bare, debian, finished, free_address, python, repository};
use serde_json::{Value, json};

use super::{Scene, out, peer, text};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The scene's connection tells its service of traces.
fn traced(scene: &Scene) {
    let file = scene.home.folder().join("ambit.toml");
    let text = fs::read_to_string(file).unwrap();
    let told = text.replace("allow_private = true\n", "allow_private = true\ntrace = true\n");
    assert_ne!(text, told);
    scene.home.configure(&told).unwrap();
}

/// Calls a function over MCP as part of a trace; the call's id.
fn call(server: &mut Server, name: &str, arguments: Value) -> String {
    let params = json!({ "name": name, "arguments": arguments, "_meta": { "traceparent": CALLER } });
    let result = server.result("tools/call", params);
    result["_meta"]["ambit/call"]["call"].as_str().unwrap().to_owned()
}

pub(super) fn a_receiver_of_otlp_takes_all_of_it() {
    let Some(python) = python("peers_a_receiver_of_otlp_takes_all_of_it") else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let mut receiver = Talker::start(bare(&python, place.path()).arg(peer("otlp.py"))).unwrap();
    let port = receiver.hear();
    let scene = Scene::with(&format!(
        "[telemetry]\nendpoint = \"http://127.0.0.1:{port}\"\ninterval = \"1s\"\nheaders = {{ \"X-Scope-OrgID\" = \"acme\" }}\n"
    ));
    traced(&scene);
    let mut server = Server::session(&scene.home, &["--as", "assistant", "--for", "ada"], "2025-11-25").unwrap();
    let paid = call(
        &mut server,
        "stripe_refunds_create",
        json!({ "charge": "ch_1", "amount": 2500 }),
    );
    let held = call(
        &mut server,
        "stripe_refunds_create",
        json!({ "charge": "ch_1", "amount": 6000 }),
    );
    let denied = call(
        &mut server,
        "stripe_charges_get",
        json!({ "id": "ch_1", "approve": true }),
    );
    assert_eq!(server.close().code, Some(0));

    let told = receiver.ask(&json!("all"));
    assert_eq!(told["wrong"], json!([]), "{:#}", told["wrong"]);
    let headers = told["headers"].as_array().unwrap();
    assert!(headers.iter().all(|one| one["x-scope-orgid"] == "acme"), "{headers:#?}");

    // Spans: those that the service was told of, within the call's, within the caller's.
    let spans = told["spans"].as_array().unwrap();
    let of = |call: &str| {
        let id = SpanId::of_call(call).to_string();
        spans.iter().find(|span| span["id"] == id)
    };
    let span = of(&paid).unwrap();
    let parent = Parent::parse(CALLER).unwrap().span.span.to_string();
    assert_eq!((&span["parent"], &span["trace"]), (&json!(parent), &json!(TRACE)));
    assert_eq!(span["name"], "tools/call stripe/refunds.create");
    assert_eq!(span["kind"], "SPAN_KIND_SERVER");
    assert_eq!(span["attributes"]["mcp.method.name"], "tools/call");
    assert_eq!(span["attributes"]["gen_ai.agent.name"], "assistant");
    assert_eq!(span["status"], "STATUS_CODE_UNSET");
    let seen: Vec<String> = scene
        .requests()
        .iter()
        .filter_map(|request| Parent::parse(request.headers.get("traceparent")?))
        .inspect(|parent| assert_eq!(parent.trace, TRACE))
        .map(|parent| parent.span.span.to_string())
        .collect();
    assert_eq!(seen.len(), scene.requests().len());
    for id in &seen {
        let sending = spans.iter().find(|span| span["id"] == **id).unwrap();
        assert_eq!(sending["kind"], "SPAN_KIND_CLIENT");
        assert_eq!(sending["attributes"]["ambit.connection"], "stripe");
    }
    let paying = spans
        .iter()
        .find(|span| span["name"] == "stripe/refunds.create")
        .unwrap();
    assert_eq!(paying["parent"], span["id"]);
    assert_eq!(paying["attributes"]["http.response.status_code"], 200);
    // What waits is not over, and what was denied is.
    assert!(of(&held).is_none());
    assert_eq!(of(&denied).unwrap()["status"], "STATUS_CODE_ERROR");

    // A log record of each entry since it began, and metrics of what they come to.
    let reader = Reader::open(scene.home.folder()).unwrap();
    let logs = told["logs"].as_array().unwrap();
    let last = logs.last().unwrap()["attributes"]["ambit.entry.index"]
        .as_u64()
        .unwrap();
    let first = logs[0]["attributes"]["ambit.entry.index"].as_u64().unwrap();
    assert_eq!(
        (last + 1, logs.len() as u64),
        (reader.size().unwrap(), last + 1 - first)
    );
    assert!(
        logs.iter()
            .any(|record| record["event"] == "ambit.effect-held" && record["trace"] == TRACE)
    );
    let metrics = told["metrics"].as_array().unwrap();
    let calls = metrics
        .iter()
        .find(|metric| metric["name"] == "ambit_calls_total")
        .unwrap();
    assert!(calls["points"].to_string().contains("\"ok\""), "{calls:#}");
    for kind in ["sum", "gauge", "histogram"] {
        assert!(metrics.iter().any(|metric| metric["kind"] == kind), "{kind}");
    }
    // No value of a call is in any of it.
    assert!(!told.to_string().contains("ch_1"));

    // The same of a file, from the beginning.
    let lines = place.path().join("lines");
    let exported = scene.ambit(&["export", "--otlp"]);
    fs::write(&lines, &exported.out).unwrap();
    let mut reads = bare(&python, place.path());
    let read: Value = serde_json::from_str(&out(&finished(reads.arg(peer("otlp.py")).arg(&lines)).unwrap())).unwrap();
    let read = read.as_array().unwrap();
    assert_eq!(read.len() as u64, reader.size().unwrap());
    assert_eq!(read[0]["event"], "ambit.ledger-opened");
    assert_eq!(&read[usize::try_from(first).unwrap()..], &logs[..]);
    scene.in_order();
}

pub(super) fn a_prometheus_scrapes_it_and_reads_its_alerts() {
    let (Some(prometheus), Some(promtool)) = (
        debian(
            "peers_a_prometheus_scrapes_it_and_reads_its_alerts",
            "usr/bin/prometheus",
        ),
        debian("peers_a_prometheus_scrapes_it_and_reads_its_alerts", "usr/bin/promtool"),
    ) else {
        return;
    };
    let (metrics, own) = (free_address().unwrap(), free_address().unwrap());
    let scene = Scene::with(&format!("[server]\nmetrics = \"{metrics}\"\n"));
    scene.ambit(&[
        "call",
        "stripe",
        "charges.get",
        "--args",
        r#"{"id":"ch_1"}"#,
        "--as",
        "assistant",
        "--for",
        "ada",
    ]);
    let place = scene.place("prometheus");
    let alerts = repository("examples/prometheus/alerts.yml");
    out(&finished(bare(&promtool, &place).args(["check", "rules"]).arg(&alerts)).unwrap());
    alerts_fire_and_panels_are_read(&promtool, &place);

    let served = Served::start(&scene.home, "127.0.0.1:0", &[]).unwrap();
    let configuration = place.join("prometheus.yml");
    fs::write(
        &configuration,
        format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nrule_files: [\"{}\"]\nscrape_configs:\n- job_name: ambit\n  \
             static_configs: [{{ targets: [\"{metrics}\"] }}]\n",
            alerts.display()
        ),
    )
    .unwrap();
    out(&finished(bare(&promtool, &place).args(["check", "config"]).arg(&configuration)).unwrap());
    let mut command = bare(&prometheus, &place);
    command
        .arg(format!("--config.file={}", configuration.display()))
        .arg(format!("--storage.tsdb.path={}", place.join("data").display()))
        .arg(format!("--web.listen-address={own}"));
    let _running = Talker::start(&mut command).unwrap();

    // It is up, to Prometheus, and says what the ledger does.
    let up = asked(&own, "up", |value| value == "1");
    assert_eq!(up["metric"]["instance"], metrics);
    let size = Reader::open(scene.home.folder()).unwrap().size().unwrap();
    asked(&own, "ambit_ledger_size_entries", |value| value == size.to_string());
    // A page by the strict reader of names, types and help, whose words are of the text that was served.
    let mut lint = bare(&promtool, &place);
    let page = place.join("page");
    fs::write(&page, get(&metrics, "/metrics")).unwrap();
    lint.args(["check", "metrics"]);
    let linted = ambit_tests::peers::fed(&mut lint, &page).unwrap();
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stderr));
    drop(served);
}

/// That the dashboard's expressions are expressions, and that what is said in `rules.yml` of alerts and of them is so.
fn alerts_fire_and_panels_are_read(promtool: &Path, place: &Path) {
    let (dashboard, cases) = (place.join("dashboard.yml"), place.join("rules.yml"));
    fs::write(&dashboard, as_rules(&text(&repository("examples/grafana/ambit.json")))).unwrap();
    fs::copy(repository("examples/prometheus/alerts.yml"), place.join("alerts.yml")).unwrap();
    fs::copy(peer("rules.yml"), &cases).unwrap();
    for (what, file) in [("check", &dashboard), ("test", &cases)] {
        out(&finished(bare(promtool, place).args([what, "rules"]).arg(file)).unwrap());
    }
}

/// What a dashboard's panels ask for, each as a recording rule that is named by its panel's title.
fn as_rules(dashboard: &str) -> String {
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let mut rules = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let word = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        };
        let title: String = panel["title"].as_str().unwrap().chars().map(word).collect();
        for target in panel["targets"].as_array().into_iter().flatten() {
            // Grafana puts in how far apart the points of a panel are.
            let asks = target["expr"].as_str().unwrap();
            let asks = asks.replace("$__rate_interval", "5m").replace("$__interval", "5m");
            assert!(!asks.contains('$'), "{asks}");
            let part = target["refId"].as_str().unwrap().to_lowercase();
            rules.push(json!({ "record": format!("dashboard:{title}:{part}"), "expr": asks }));
        }
    }
    assert!(rules.len() > 30, "{rules:#?}");
    // What is JSON is YAML too.
    json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string()
}

/// What Prometheus says of a query, once it says so.
fn asked(own: &str, query: &str, is: impl Fn(&str) -> bool) -> Value {
    let began = Instant::now();
    let mut last = String::new();
    while began.elapsed() < Duration::from_secs(60) {
        last = get(own, &format!("/api/v1/query?query={query}"));
        if let Ok(answer) = serde_json::from_str::<Value>(&last) {
            let found = &answer["data"]["result"][0];
            if found["value"][1].as_str().is_some_and(&is) {
                return found.clone();
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("{query}: {last}")
}

/// The body of an answer; empty where nobody listens yet.
fn get(address: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // The older version: a body is as it is, and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    answer
        .split_once("\r\n\r\n")
        .map_or_else(String::new, |(_, body)| body.to_owned())
}
