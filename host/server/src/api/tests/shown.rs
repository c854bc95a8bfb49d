//! What is shown to whom, a page at a time: contracts, holds, runs and tiles; and what is done once for a word.

use std::collections::BTreeSet;

use ambit_core::grant::{Limits, Narrowing};
use ambit_core::identity::run_token::Attenuation;
use ambit_core::ledger::body::{Asked, CallAccepted, EffectHeld, Message, WebhookFailed};
use ambit_core::ledger::{EntryDraft, Principal};
use ambit_core::scope::Tier;
use ambit_core::webhook::EventType;
use ambit_runtime::run_tokens::{Biscuits, RunTokens};

use super::*;
use crate::identity::tests::Place;

const SHARED: &str = r#"
@id("team") @hint("ask support first") permit (principal in Team::"support", action, resource);
@id("other-team") permit (principal in Team::"spies", action == Action::"call", resource == Function::"refunds/refunds.create");
@id("secret-sauce") forbid (principal in Team::"support", action == Action::"call", resource) when { context.mode == "dry-run" };
"#;
const BUDGETS: &str = r#"
[budget.ours]
tenant = "acme"
unit = "calls"
window = "day"
cap = 7
[budget.theirs]
tenant = "other"
unit = "calls"
window = "day"
cap = 9
"#;

impl Scene {
    /// A tool that two tenants may call something of.
    fn shared() -> Scene {
        let more = format!("{OPERATORS}{BUDGETS}");
        Scene(Served::with_tool(&more, ("refunds", TOOL), SHARED, Mode::Execute))
    }

    fn of_spy(&self) -> String {
        self.0.place.key(|asked| asked.agent = "spy".into()).0
    }
}

fn ids(contract: &Value) -> Vec<&str> {
    let functions = contract["functions"].as_array().unwrap().iter();
    functions.map(|function| function["id"].as_str().unwrap()).collect()
}

#[test]
fn an_agent_reads_the_contract_of_what_it_may_call_and_nothing_of_others() {
    let scene = Scene::shared();
    let narrow = |function: &str| {
        let functions = Some(BTreeSet::from([function.to_owned()]));
        let narrowing = Narrowing {
            functions,
            ..Narrowing::default()
        };
        scene.0.place.key(|asked| asked.narrowing = narrowing).0
    };
    let (agent, spy) = (scene.agent(), scene.of_spy());
    let ours = scene.get(&agent, "/v1/tools/refunds");
    let contract = ours.json();
    assert_eq!(ids(&contract), ["refunds.create", "refunds.spin"], "{contract:#}");
    assert_eq!(
        (&contract["for"]["agent"], &contract["functions"][0]["rules"]),
        (&json!("assistant"), &json!(["team", "secret-sauce"]))
    );
    assert_eq!(contract["functions"][0]["input_schema"]["type"], "object");
    assert_eq!(contract["budgets"][0]["name"], "ours");
    assert_eq!(contract["rules"][0]["hint"], "ask support first");
    // No rule's text, and nothing of who else may call it.
    for none in ["dry-run", "Team::", "other", "spies", "spy", "theirs"] {
        assert!(!ours.text.contains(none), "{none}: {}", ours.text);
    }
    let theirs = scene.get(&spy, "/v1/tools/refunds");
    assert_eq!(ids(&theirs.json()), ["refunds.create"], "{}", theirs.text);
    for none in [
        "support",
        "assistant",
        "ours",
        "secret-sauce",
        "\"team\": \"s\"",
        "spin",
    ] {
        assert!(!theirs.text.contains(none), "{none}: {}", theirs.text);
    }
    // The same as a page.
    let page = scene.get(&agent, "/v1/tools/refunds/page");
    assert!(
        page.head.contains("content-type: text/markdown; charset=utf-8"),
        "{}",
        page.head
    );
    assert!(page.text.contains("### What it can never do") && page.text.contains("`secret-sauce`, a forbid"));
    assert!(
        !page.text.contains("dry-run\"") && !page.text.contains("other-team"),
        "{}",
        page.text
    );
    let theirs = scene.get(&spy, "/v1/tools/refunds/page");
    assert!(
        theirs.text.contains("`refunds.create`") && !theirs.text.contains("`refunds.spin`"),
        "{}",
        theirs.text
    );
    // By what a key leaves.
    let one = scene.get(&narrow("refunds/refunds.spin"), "/v1/tools/refunds").json();
    assert_eq!(ids(&one), ["refunds.spin"]);
    for (word, tool) in [(&narrow("refunds/refunds.none"), "refunds"), (&agent, "none")] {
        for end in ["", "/page"] {
            assert_eq!(
                scene.get(word, &format!("/v1/tools/{tool}{end}")).status,
                404,
                "{tool}{end}"
            );
        }
    }
    scene.ends();
}

/// What a component says of itself is in its page, and a browser does nothing with it but show it.
#[test]
fn a_contract_is_a_page_of_html_for_who_would_rather_have_that() {
    let scene = Scene::shared();
    let (agent, read) = (scene.agent(), scene.operator(&[Scope::Read]));
    let get =
        |word: &str, target: &str, accept: &str| scene.ask(word, "GET", target, &format!("Accept: {accept}\r\n"), "");
    let own = "/v1/tools/refunds/page";
    for (word, target) in [(&agent, own), (&read, "/v1/operators/contracts/refunds/page")] {
        let page = get(word, target, "text/html, */*;q=0.5");
        assert_eq!(page.status, 200, "{}", page.text);
        assert!(page.text.starts_with("<!doctype html>"), "{}", page.text);
        for header in [
            "content-type: text/html; charset=utf-8",
            "x-content-type-options: nosniff",
            "vary: authorization, accept",
            "cache-control: private, no-cache",
        ] {
            assert!(page.head.contains(header), "{header}: {}", page.head);
        }
        // The one style that it may have is its own, and it has nothing else to load or run.
        let policy = page
            .head
            .lines()
            .find_map(|line| line.strip_prefix("content-security-policy: "))
            .unwrap();
        let (_, style) = page.text.split_once("<style>").unwrap();
        let style = ring::digest::digest(
            &ring::digest::SHA256,
            style.split("</style>").next().unwrap().as_bytes(),
        );
        let style = data_encoding::BASE64.encode(style.as_ref()).to_ascii_lowercase();
        assert_eq!(
            policy,
            format!(
                "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
            )
        );
        let markdown = get(word, target, "*/*");
        assert!(
            markdown.text.starts_with("# ") && markdown.head.contains("vary: authorization, accept"),
            "{}",
            markdown.head
        );
        assert!(!markdown.head.contains("content-security-policy"), "{}", markdown.head);
        // Each is known by a tag of its own.
        let again = |accept: &str, tag: &str| {
            let more = format!("Accept: {accept}\r\nIf-None-Match: {tag}\r\n");
            scene.ask(word, "GET", target, &more, "").status
        };
        assert_eq!(again("text/html", &tag(&page)), 304);
        assert_eq!(again("text/markdown", &tag(&page)), 200);
    }
    let rule = |word: &str, target: &str| get(word, target, "text/html").text.contains("dry-run&quot;");
    assert!(rule(&read, "/v1/operators/contracts/refunds/page") && !rule(&agent, own));
    scene.ends();
}

#[test]
fn an_operator_reads_the_whole_contract() {
    let scene = Scene::shared();
    let read = scene.operator(&[Scope::Read]);
    let get = |target: &str| scene.get(&read, &format!("/v1/operators/contracts/{target}"));
    let whole = get("refunds").json();
    assert_eq!(ids(&whole), ["refunds.create", "refunds.spin"]);
    assert_eq!(whole["for"], Value::Null);
    let texts = whole["rules"].to_string();
    for part in ["Team::", "dry-run", "other-team"] {
        assert!(texts.contains(part), "{part}: {texts}");
    }
    let of_spy = get("refunds?for=spy").json();
    assert_eq!(
        (&of_spy["for"]["tenant"], &of_spy["budgets"][0]["name"]),
        (&json!("other"), &json!("theirs"))
    );
    let page = get("refunds/page?for=spy");
    assert!(
        page.text.starts_with("# What agent `spy` can do") && page.text.contains("```"),
        "{}",
        page.text
    );
    assert_eq!(
        ["refunds?for=nobody", "none", "none/page", "refunds?for="].map(|target| get(target).status),
        [404, 404, 404, 400]
    );
    assert_eq!(scene.get(&scene.agent(), "/v1/operators/contracts/refunds").status, 401);
    let operate = scene.operator(&[Scope::Operate]);
    assert_eq!(scene.get(&operate, "/v1/operators/contracts/refunds").status, 403);
    scene.ends();
}

/// A call of the agent's for nobody that waits for people.
fn held() -> Vec<EntryDraft> {
    let draft = |body: Body| EntryDraft {
        body,
        call: Some(format!("c_{}", "a".repeat(26))),
        trace: Some("0123456789abcdef0123456789abcdef".into()),
        principal: Some(Principal {
            agent: "assistant".into(),
            team: "support".into(),
            tenant: "acme".into(),
            user: None,
        }),
        tool: Some(Digest::of(b"tool")),
        policy: Some(Digest::of(b"policy")),
        config: Some(Digest::of(b"config")),
    };
    let accepted = CallAccepted {
        arrival: None,
        once: None,
        by: None,
        asked: Asked {
            args: Digest::of(b"args"),
            function: "refunds.create".into(),
            limits: (&Limits::default()).into(),
            mode: Mode::Execute,
            tier: Tier::Commit,
            tool: "refunds".into(),
        },
        letter: None,
        reserved: vec![],
        rules: vec!["all".into()],
        run: None,
        seed: Digest::of(b"seed"),
        undoes: None,
    };
    let held = EffectHeld {
        over: vec![],
        asked: None,
        authors: vec![],
        edited_from: None,
        before: None,
        connection: "stripe".into(),
        effect: Digest::of(b"effect"),
        expires: 4_000_000_000_000,
        hold: Digest::of(b"hold"),
        import: Some("stripe".into()),
        most: 1_000,
        needs: vec![[("reviewer".to_owned(), 1)].into()],
        ordinal: 0,
        request: Digest::of(b"request"),
        route: "refunds.create".into(),
        rules: vec!["dual-control".into()],
        spend: None,
        tier: Tier::Commit,
        way: None,
        undoes: None,
    };
    vec![draft(accepted.into()), draft(held.into())]
}

#[test]
fn what_waits_is_shown_to_whom_it_is_of_alone() {
    let scene = Scene(Served::at(Place::with_entries(OPERATORS, held())));
    let key = |agent: &str, user: Option<&str>| {
        let change = |asked: &mut ambit_runtime::api_keys::Asked| {
            (asked.agent, asked.user) = (agent.to_owned(), user.map(str::to_owned));
        };
        scene.0.place.key(change).0
    };
    let holds = |word: &str| scene.get(word, "/v1/holds").json()["holds"].clone();
    let own = holds(&key("assistant", None));
    assert_eq!(own[0]["hold"], json!(Digest::of(b"hold")), "{own:#}");
    // Neither another tenant's agent, nor the same for somebody.
    for (agent, user) in [("spy", None), ("spy", Some("ada")), ("assistant", Some("ada"))] {
        assert_eq!(holds(&key(agent, user)), json!([]), "{agent} {user:?}");
    }
    let call = format!("/v1/calls/c_{}", "a".repeat(26));
    let status = scene.get(&key("assistant", None), &call).json();
    let place = format!("/v1/operators/approvals/{}", Digest::of(b"hold").to_hex());
    assert_eq!(
        (&status["status"], &status["people_see_it_at"]),
        (&json!("held"), &json!(place)),
        "{status:#}"
    );
    assert_eq!(scene.get(&scene.operator(&[Scope::Read]), &place).status, 200);
    scene.ends();
}

const WEBHOOKS: &str = r#"
[webhook.pager]
url = "https://pager.example/in?token=hunter2"
secret = { env = "PAGER_SECRET" }
events = ["hold.*"]
tenant = "acme"
[webhook.chat]
url = { file = "chat.url" }
format = "slack"
events = ["stop.placed"]
"#;

/// A message of a webhook's, `msg_` and 26 times the letter, that nobody took.
fn given_up(webhook: &str, letter: char) -> EntryDraft {
    EntryDraft::of_ledger(WebhookFailed {
        attempts: 3,
        code: None,
        message: Message {
            event: EventType::HoldCreated,
            id: format!("msg_{}", letter.to_string().repeat(26)),
            index: 0,
            webhook: webhook.into(),
        },
        status: Some(500),
    })
}

#[test]
fn an_operator_sees_the_webhooks_and_has_sent_again_or_drops_what_nobody_took() {
    let dead = vec![given_up("pager", 'a'), given_up("pager", 'b'), given_up("gone", 'c')];
    let scene = Scene(Served::at(Place::with_entries(&format!("{OPERATORS}{WEBHOOKS}"), dead)));
    let (read, operate) = (scene.operator(&[Scope::Read]), scene.staff("ambit:operate"));
    let all = scene.get(&read, "/v1/operators/webhooks");
    let webhooks = all.json()["webhooks"].clone();
    assert_eq!(
        (
            &webhooks[0]["name"],
            &webhooks[0]["url"],
            &webhooks[0]["format"],
            &webhooks[0]["dead"]
        ),
        (&json!("chat"), &json!("file chat.url"), &json!("slack"), &json!(0))
    );
    assert_eq!(
        webhooks[1],
        json!({
            "name": "pager", "url": "https://pager.example/in", "format": "standard", "signatures": 1,
            "events": ["hold.created", "hold.ended"], "only": { "tenant": "acme" },
            "entry": null, "entries_behind": null, "last_taken": null, "tried": null, "waiting": 0, "dead": 2,
        })
    );
    assert!(
        !all.text.contains("hunter2") && !all.text.contains("PAGER_SECRET"),
        "{}",
        all.text
    );
    // Those that nobody took, a page at a time.
    let page = |query: &str| scene.get(&read, &format!("/v1/operators/webhooks/dead{query}")).json();
    let ids = |page: &Value| -> Vec<char> {
        let rows = page["dead"].as_array().unwrap().iter();
        rows.map(|row| row["message"].as_str().unwrap().chars().last().unwrap())
            .collect()
    };
    let first = page("?limit=2");
    assert_eq!(
        (ids(&first), &first["dead"][0]["status"]),
        (vec!['a', 'b'], &json!(500))
    );
    let second = page(&format!("?limit=2&after={}", first["next"]));
    assert_eq!((ids(&second), &second["next"]), (vec!['c'], &Value::Null));
    // Reading takes another scope than acting.
    let act = |word: &str, letter: char, what: &str| {
        let id = format!("msg_{}", letter.to_string().repeat(26));
        scene.ask(
            word,
            "POST",
            &format!("/v1/operators/webhooks/dead/{id}/{what}"),
            "",
            "",
        )
    };
    for what in ["retry", "drop"] {
        assert_eq!(act(&read, 'a', what).status, 403);
        assert_eq!(act(&operate, 'x', what).status, 404);
    }
    assert_eq!(ids(&page("")), ['a', 'b', 'c']);
    let is_ivy = |by: Option<OperatorShown>| {
        let by = by.unwrap();
        assert_eq!(by.name, "ivy");
        assert!(matches!(by.shown, ShownBy::Token(_)), "{by:?}");
    };
    let again = act(&operate, 'a', "retry");
    assert_eq!(
        (again.status, &again.json()["webhook"]),
        (200, &json!("pager")),
        "{}",
        again.text
    );
    let Body::WebhookRetried(retried) = scene.last() else {
        panic!("not sent again")
    };
    is_ivy(retried.by);
    assert_eq!(act(&operate, 'a', "retry").status, 404, "it is left no more");
    // Its webhook is not in the file: there is nowhere to send it.
    let nowhere = act(&operate, 'c', "retry");
    assert_eq!(
        (nowhere.status, &nowhere.json()["code"]),
        (409, &json!("config")),
        "{}",
        nowhere.text
    );
    assert_eq!(act(&operate, 'c', "drop").status, 200);
    let Body::WebhookDropped(dropped) = scene.last() else {
        panic!("not dropped")
    };
    is_ivy(dropped.by);
    assert_eq!(ids(&page("")), ['b']);
    scene.ends();
}

/// Whoever comes a moment later is told what whoever comes much later is.
#[test]
fn of_operators_who_have_one_message_sent_again_at_once_one_finds_it() {
    let dead = ('a'..='h').map(|letter| given_up("pager", letter)).collect();
    let scene = Scene(Served::at(Place::with_entries(&format!("{OPERATORS}{WEBHOOKS}"), dead)));
    let operate = scene.staff("ambit:operate");
    for letter in 'a'..='h' {
        let id = format!("msg_{}", letter.to_string().repeat(26));
        let act = |what: &str| {
            let target = format!("/v1/operators/webhooks/dead/{id}/{what}");
            scene.ask(&operate, "POST", &target, "", "").status
        };
        let at_once = std::sync::Barrier::new(4);
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let acts = ["retry", "retry", "retry", "drop"].map(|what| {
                let (act, at_once) = (&act, &at_once);
                scope.spawn(move || {
                    at_once.wait();
                    act(what)
                })
            });
            acts.into_iter().map(|act| act.join().unwrap()).collect()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404, 404, 404]);
    }
    scene.ends();
}

/// All runs that pages of a route show, in order, and on how many pages.
fn all_runs(scene: &Scene, word: &str, target: &str) -> (Vec<String>, usize) {
    let (mut ids, mut before, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = scene.get(word, &format!("{target}{before}")).json();
        pages += 1;
        let runs = page["runs"].as_array().unwrap().iter();
        ids.extend(runs.map(|run| run["run"].as_str().unwrap().to_owned()));
        match page["next"].as_u64() {
            Some(next) => before = format!("&before={next}"),
            None => return (ids, pages),
        }
    }
}

#[test]
fn a_run_is_found_behind_those_of_others_and_pages_join_up() {
    let scene = Scene::new();
    let place = &scene.0.place;
    let start = |agent: &str| place.run(agent, None).id().to_owned();
    let mut started: Vec<String> = vec![start("assistant")];
    started.extend((0..600).map(|_| start("spy")));
    started.reverse();
    let (agent, read) = (scene.agent(), scene.operator(&[Scope::Read]));
    let (own, _) = all_runs(&scene, &agent, "/v1/runs?limit=5");
    assert_eq!(own, started[600..]);
    let (theirs, pages) = all_runs(&scene, &scene.of_spy(), "/v1/runs?limit=200");
    assert_eq!((&theirs[..], pages), (&started[..600], 4));
    let (all, pages) = all_runs(&scene, &read, "/v1/operators/runs?limit=200");
    assert_eq!((&all[..], pages), (&started[..], 4));
    scene.ends();
}

#[test]
fn a_full_tile_is_kept_for_ever_and_a_partial_one_is_not() {
    let scene = Scene::new();
    let read = scene.operator(&[Scope::Read]);
    while scene.size() < 260 {
        scene.0.place.run("assistant", None);
    }
    let get = |tile: &str| scene.get(&read, &format!("/v1/operators/ledger/tile/{tile}"));
    for full in ["0/000", "entries/000"] {
        let tile = get(full);
        assert!(
            tile.status == 200
                && tile
                    .head
                    .contains("cache-control: private, max-age=31536000, immutable"),
            "{full}: {}",
            tile.head
        );
    }
    for partial in ["0/001.p/3", "entries/001.p/3", "1/000.p/1"] {
        let tile = get(partial);
        assert!(
            tile.status == 200 && tile.head.contains("cache-control: private, no-cache"),
            "{partial}: {}",
            tile.head
        );
    }
    scene.ends();
}

fn narrowed(word: &str, change: impl FnOnce(&mut Attenuation)) -> String {
    let mut by = Attenuation::default();
    change(&mut by);
    Biscuits::narrow(word, &by).unwrap().word().to_owned()
}

#[test]
fn a_word_is_of_its_run_and_of_what_its_token_leaves() {
    let scene = Scene::new();
    let place = &scene.0.place;
    let [run, other] = [0, 1].map(|_| place.run("assistant", None));
    let (whole, elsewhere) = (place.run_token(&run), place.run_token(&other));
    let only = |tier: Tier| narrowed(&whole, |by| by.max_tier = Some(tier));
    let (draft, commit) = (only(Tier::Draft), only(Tier::Commit));
    let made = |word: &str| {
        let body = call("refunds").to_string();
        let answer = scene.ask(word, "POST", "/v1/calls?wait=20", "Idempotency-Key: k-1\r\n", &body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let replayed = answer.head.contains("idempotency-replayed");
        (answer.json()["call"].as_str().unwrap().to_owned(), replayed)
    };
    let agent = scene.agent();
    let words = [&agent, &whole, &elsewhere, &commit, &draft];
    let calls = words.map(|word| made(word));
    let distinct: BTreeSet<&str> = calls.iter().map(|(call, _)| call.as_str()).collect();
    assert_eq!(
        (distinct.len(), calls.iter().any(|(_, replayed)| *replayed)),
        (5, false),
        "{calls:?}"
    );
    // Whoever asks again has its own; so has who shows another token that leaves the same.
    let later = place.run_token(&run);
    for (word, (call, _)) in words.iter().zip(&calls).chain([(&&later, &calls[1])]) {
        assert_eq!(made(word), (call.clone(), true));
    }
    scene.ends();
}

#[test]
fn a_run_is_started_once_for_a_word_of_an_operator() {
    let scene = Scene::new();
    let (operate, staff) = (
        scene.operator(&[Scope::Operate]),
        scene.staff("ambit:operate ambit:read"),
    );
    let start = |word: &str, key: &str, length_ms: u64| {
        let body = json!({ "agent": "assistant", "mode": "suggest", "length_ms": length_ms, "caps": [] }).to_string();
        scene.ask(
            word,
            "POST",
            "/v1/operators/runs",
            &format!("Idempotency-Key: {key}\r\n"),
            &body,
        )
    };
    let first = start(&operate, "w-1", 60_000);
    let id = first.json()["run"].clone();
    assert!(
        first.status == 201 && !first.head.contains("idempotency-replayed"),
        "{}",
        first.text
    );
    let size = scene.size();
    // By whatever the same operator shows.
    for word in [&operate, &staff] {
        let again = start(word, "w-1", 60_000);
        assert_eq!((again.status, &again.json()["run"]), (201, &id), "{}", again.text);
        assert!(again.head.contains("idempotency-replayed: true"), "{}", again.head);
    }
    assert_eq!(start(&operate, "w-1", 70_000).status, 422);
    assert_eq!(scene.size(), size);
    // What was refused used nothing up.
    assert_eq!(start(&operate, "w-2", 0).status, 409);
    assert_ne!(start(&operate, "w-2", 60_000).json()["run"], id);
    // A word of an operator's is none of an agent's, nor another operator's.
    let other = scene.0.place.key(|asked| {
        asked.agent = String::new();
        asked.operator = Some(OperatorKey {
            name: "bo".into(),
            scopes: [Scope::Operate].into(),
        });
    });
    assert_ne!(start(&other.0, "w-1", 60_000).json()["run"], id);
    let reader = scene.0.place.host.reader().unwrap();
    for entry in reader.entries(0, 1_000).unwrap() {
        assert!(!entry.text().contains("w-1"), "{}", entry.text());
    }
    scene.ends();
}
