//! Keys of the home, what clients are told, and what the ledger says of those who were refused.

use std::collections::BTreeSet;

use ambit_core::identity::run_token::Attenuation;
use ambit_core::ledger::Body;
use ambit_core::ledger::body::ReloadedBy;
use ambit_runtime::api_keys::Rotation;
use ambit_runtime::run_tokens::{self, Biscuits, RunTokens};
use ambit_runtime::store::Reader;

use super::*;
use ambit_core::identity::operator::Scope;

#[test]
fn a_key_says_who_calls_and_for_what() {
    let place = Place::new("");
    let functions = Some(BTreeSet::from(["refunds/*".to_owned()]));
    let (word, id) = place.key(|asked| {
        asked.user = Some("ada".into());
        asked.narrowing.functions.clone_from(&functions);
    });
    let found = place.ask(&word).unwrap();
    assert_eq!((found.caller.agent(), found.caller.user()), ("assistant", Some("ada")));
    assert_eq!(found.narrowing.functions, functions);
    assert_eq!(found.by, ShownBy::Key(id));
    assert_eq!(place.callers.step_up(&found, "mail", "mail.send"), None);
    place.verified();
}

#[test]
fn a_key_is_good_until_it_is_over_or_revoked() {
    let place = Place::new("");
    let (word, id) = place.key(|_| {});
    assert!(place.ask(&word).is_ok());
    let (short, _) = place.key(|asked| asked.good_for_ms = 1_500);
    assert!(place.ask(&short).is_ok());
    // While the host runs, by its operators' socket.
    place.operator(Act::Revoke(id));
    assert_eq!(place.refused(&word), (401, "invalid_token".into()));
    thread::sleep(Duration::from_millis(1_600));
    assert_eq!(place.refused(&short), (401, "invalid_token".into()));
    place.verified();
}

#[test]
fn a_rotated_key_is_good_as_long_as_was_said() {
    let place = Place::new("");
    let rotate = |key: &str, overlap_ms: u64| {
        let new = api_keys::random_key().unwrap();
        let rotation = Rotation {
            key: key.to_owned(),
            overlap_ms,
            good_for_ms: None,
        };
        place.operator(Act::Rotate(new.shown.clone(), rotation));
        (new.word.to_string(), new.shown.id)
    };
    let (first, id) = place.key(|asked| asked.narrowing.functions = Some(BTreeSet::new()));
    let (second, id) = rotate(&id, 60_000);
    assert!(place.ask(&first).is_ok(), "they overlap");
    assert_eq!(
        place.ask(&second).unwrap().narrowing,
        place.ask(&first).unwrap().narrowing
    );
    let (third, _) = rotate(&id, 0);
    assert!(place.ask(&third).is_ok());
    assert_eq!(place.refused(&second).0, 401);
    assert!(place.ask(&first).is_ok(), "it was another's to end");
    place.verified();
}

/// Another edit of the file is none of the issuers': their keys stay, also while the issuer cannot be reached.
#[test]
fn operators_issuers_keep_their_keys_over_a_reading() {
    let more = r#"
[server.operators]
audience = "https://ambit.example/v1/operators"
[server.operators.issuer.staff]
issuer = "{issuer}"
jwks = "{keys}"
allow_private = true
algorithms = ["ES256"]
operators = { u-7 = "ivy" }
"#;
    let place = Place::new(more);
    let claims = json!({ "aud": "https://ambit.example/v1/operators", "sub": "u-7", "scope": "ambit:read" });
    let word = place.token(claims);
    let ask = |operators: &Operators| {
        let shown = bearer(&word);
        place
            .runtime
            .block_on(operators.authenticate(&shown, None, Scope::Read))
    };
    let before = Operators::of_reading(None, &place.host).unwrap();
    assert_eq!(ask(&before).unwrap().shown.name, "ivy");
    assert_eq!(place.service.asked(), 1);
    assert!(place.ask(&place.token(json!({}))).is_ok());
    assert_eq!(place.service.asked(), 2);
    let edited = |text: &dyn Fn(String) -> String| {
        let path = place.folder.path().join("ambit.toml");
        let edited = text(std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, edited).unwrap();
        place.host.reload(ReloadedBy::Operator).unwrap();
        place.host.current()
    };
    let now = edited(&|text| text + "\n[limits]\neffects = 3\n");
    let after = Operators::of_reading(Some(&before), &now).unwrap();
    let callers = place.callers.of_reading(&now);
    drop(before);
    assert!(ask(&after).is_ok());
    let word = bearer(&place.token(json!({})));
    assert!(place.runtime.block_on(callers.authenticate(&word, None, None)).is_ok());
    assert_eq!(place.service.asked(), 2);
    // What is said of an issuer itself is another word about whose keys to believe.
    let now = edited(&|text| text.replace("operators = { u-7", "leeway = \"5s\"\noperators = { u-7"));
    let after = Operators::of_reading(Some(&after), &now).unwrap();
    assert!(ask(&after).is_ok());
    assert_eq!(place.service.asked(), 3);
}

#[test]
fn a_key_of_another_home_or_of_nobody_is_not_known() {
    let (place, other) = (Place::new(""), Place::new(""));
    let (word, _) = other.key(|_| {});
    assert_eq!(place.refused(&word), (401, "invalid_token".into()));
    let (own, id) = place.key(|_| {});
    // The name of a key that is there, with another secret.
    let forged = key::new(
        {
            let text = id.strip_prefix("k_").unwrap().to_ascii_uppercase();
            data_encoding::BASE32_NOPAD
                .decode(text.as_bytes())
                .unwrap()
                .try_into()
                .unwrap()
        },
        &[0; 32],
    );
    assert_eq!(forged.shown.id, id);
    assert_eq!(place.refused(&forged.word), (401, "invalid_token".into()));
    for bad in [
        "ambit_",
        &own[..80],
        &format!("{own}x"),
        &own.replace("ambit_", "Ambit_"),
    ] {
        assert_eq!(place.refused(bad), (401, "invalid_token".into()), "{bad}");
    }
    assert!(place.ask(&own).is_ok());
}

#[test]
fn a_token_of_a_run_says_who_calls_and_in_which_run() {
    let place = Place::new("");
    let run = place.run("assistant", Some("ada"));
    let word = place.run_token(&run);
    let found = place.ask(&word).unwrap();
    assert_eq!((found.caller.agent(), found.caller.user()), ("assistant", Some("ada")));
    assert_eq!(found.run.as_ref().map(Run::id), Some(run.id()));
    assert_eq!(found.narrowing, Narrowing::default());
    assert!(matches!(found.by, ShownBy::RunToken(_)));
    assert_eq!(place.callers.step_up(&found, "mail", "mail.send"), None);
    let connections = Some(BTreeSet::from(["stripe".to_owned()]));
    let by = Attenuation {
        connections: connections.clone(),
        ..Attenuation::default()
    };
    let narrowed = Biscuits::narrow(&word, &by).unwrap();
    assert_eq!(place.ask(narrowed.word()).unwrap().narrowing.connections, connections);
    // Of another home, of nobody, and with a slip in it.
    let other = Place::new("");
    let foreign = other.run_token(&other.run("assistant", None));
    for bad in [
        &foreign,
        &word[..60],
        "ambit_run_",
        &word.replace("ambit_run_", "ambit_"),
    ] {
        assert_eq!(place.refused(bad), (401, "invalid_token".into()), "{bad}");
    }
    let (short, _) = run_tokens::mint(place.folder.path(), &run, 1_500).unwrap();
    thread::sleep(Duration::from_millis(1_600));
    assert_eq!(place.refused(short.word()), (401, "invalid_token".into()));
    place.host.end_run(run.id()).unwrap();
    assert_eq!(place.refused(&word), (401, "invalid_token".into()));
    assert_eq!(place.refused(narrowed.word()), (401, "invalid_token".into()));
    let refused = place.verified();
    assert_eq!(refused.get(&Why::Revoked), Some(&2), "{refused:?}");
    assert_eq!(refused.get(&Why::Expired), Some(&1), "{refused:?}");
}

#[test]
fn a_key_of_an_agent_that_is_gone_is_nobody_s() {
    let place = Place::new("");
    let (word, _) = place.key(|asked| asked.agent = "spy".into());
    assert_eq!(place.ask(&word).unwrap().caller.tenant(), "other");
    let path = place.folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[agent.spy]", "[agent.other]")).unwrap();
    let Place {
        folder, host, callers, ..
    } = place;
    drop((callers, host));
    let host = open(folder.path());
    let callers = Authenticator::new(&host).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let refused = runtime
        .block_on(callers.authenticate(&bearer(&word), None, None))
        .unwrap_err();
    assert_eq!(refused.status, 403);
}

#[test]
fn clients_are_told_what_to_show() {
    let place = Place::new("required_scopes = [\"ambit\"]\nscopes = { \"refunds:read\" = [\"refunds/refunds.get\"] }");
    let (path, metadata) = place.callers.metadata().unwrap();
    assert_eq!(path, "/.well-known/oauth-protected-resource/mcp");
    assert_eq!(
        *metadata,
        json!({
            "resource": RESOURCE,
            "authorization_servers": [place.service.url("")],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["ambit", "refunds:read"],
            "resource_name": "Ambit",
        })
    );
    let told = |refused: Unauthenticated| refused.www_authenticate;
    let at = r#"Bearer resource_metadata="https://ambit.example/.well-known/oauth-protected-resource/mcp""#;
    let missing = place.ask_with(&HeaderMap::new(), None).unwrap_err();
    assert_eq!(told(missing), format!(r#"{at}, scope="ambit""#));
    let over = place.ask(&place.token(json!({ "exp": 1 }))).unwrap_err();
    assert_eq!(
        told(over),
        format!(r#"{at}, error="invalid_token", error_description="the token is over""#)
    );
    let few = place.ask(&place.token(json!({ "scope": "refunds:read" }))).unwrap_err();
    assert_eq!(few.status, 403);
    assert_eq!(
        told(few),
        format!(
            r#"{at}, error="insufficient_scope", error_description="the token has not the scopes that are asked for", scope="ambit""#
        )
    );
    let found = place.ask(&place.token(json!({ "scope": "ambit" }))).unwrap();
    assert!(!found.narrowing.keeps_function("refunds", "refunds.get"));
    let step = place.callers.step_up(&found, "refunds", "refunds.get").unwrap();
    assert_eq!((step.status, error(&step)), (403, "insufficient_scope".into()));
    assert!(told(step).ends_with(r#"scope="ambit refunds:read""#));
    assert_eq!(place.callers.step_up(&found, "refunds", "refunds.create"), None);
}

/// A token of one issuer is not told to get scopes that another one has.
#[test]
fn who_has_too_few_scopes_is_told_those_of_its_own_issuer() {
    let place = Place::new(
        "required_scopes = [\"ambit\"]\n[server.issuer.second]\nissuer = \"https://second.example\"\n\
         agents = { \"client-2\" = \"spy\" }\nrequired_scopes = [\"elsewhere\"]\n",
    );
    let few = place.ask(&place.token(json!({}))).unwrap_err();
    assert!(few.www_authenticate.ends_with(r#"scope="ambit""#), "{few:?}");
    // Who shows nothing is of no issuer yet.
    let missing = place.ask_with(&HeaderMap::new(), None).unwrap_err();
    assert!(
        missing.www_authenticate.ends_with(r#"scope="ambit elsewhere""#),
        "{missing:?}"
    );
}

#[test]
fn a_refusal_names_nobody_of_the_home() {
    let place = Place::new("");
    for changes in [
        json!({ "sub": "client-2" }),
        json!({ "sub": "bob", "act": { "sub": "client-1" } }),
        json!({ "aud": "CANARY" }),
        json!({ "iss": "CANARY\"\r\n" }),
        json!({ "CANARY": 1, "exp": "CANARY" }),
    ] {
        let refused = place.ask(&place.token(changes)).unwrap_err();
        let shown = format!("{refused:?}").replace("metadata", "");
        for word in ["CANARY", "assistant", "acme", "ada", "client"] {
            assert!(!shown.contains(word), "{shown}");
        }
    }
}

#[test]
fn a_server_takes_what_is_configured_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    home::init(folder.path()).unwrap();
    let host = open(folder.path());
    assert!(Authenticator::new(&host).is_err(), "there is no [server]");
}

fn counted(folder: &Path) -> Vec<BTreeMap<Why, u32>> {
    let reader = Reader::open(folder).unwrap();
    let entries = (0..reader.size().unwrap()).map(|index| reader.entry(index).unwrap());
    entries
        .filter_map(|entry| match entry.body() {
            Body::CallersRefused(counted) => Some(counted.refused.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn those_who_are_refused_are_counted_by_the_minute() {
    let place = Place::with("", Duration::from_millis(700), BETWEEN_MS);
    for _ in 0..200 {
        place.refused("nonsense");
        assert_eq!(place.ask_with(&HeaderMap::new(), None).unwrap_err().status, 401);
    }
    place.refused(&place.token(json!({ "exp": 1 })));
    assert!(counted(place.folder.path()).is_empty());
    thread::sleep(Duration::from_millis(1_500));
    let first = counted(place.folder.path());
    assert_eq!(first, [BTreeMap::from([(Why::Expired, 1), (Why::Malformed, 200)])]);
    // What is not written when the host ends goes with it.
    place.refused("nonsense");
    let folder = {
        let Place {
            folder, host, callers, ..
        } = place;
        drop((callers, host));
        folder
    };
    assert_eq!(counted(folder.path()).len(), 2);
    let key = ambit_runtime::store::verifier(folder.path()).unwrap();
    Reader::open(folder.path()).unwrap().verify(&key, &[], |_| {}).unwrap();
}
