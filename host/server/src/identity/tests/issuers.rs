//! Issuers: where their keys are, how they change, and services that are hostile or not there.

use super::*;

fn signed(place: &Place, pair: &Pair, kid: &str) -> String {
    pair.token(&json!({ "alg": "ES256", "kid": kid }), &place.claims())
}

#[test]
fn an_issuer_that_signs_with_a_new_key_is_asked_once() {
    let place = Place::with("", Duration::from_secs(60), 0);
    let (old, new) = (place.token(json!({})), Pair::p256());
    assert!(place.ask(&old).is_ok());
    let next = signed(&place, &new, "two");
    assert_eq!(place.refused(&next).0, 401);
    place.service.page("/keys", &set(&[new.jwk("two")]));
    assert!(place.ask(&next).is_ok());
    // The old one is gone with it.
    assert_eq!(place.refused(&old).0, 401);
}

#[test]
fn made_up_names_of_keys_do_not_press_an_issuer() {
    let place = Place::new("");
    assert!(place.ask(&place.token(json!({}))).is_ok());
    for n in 0..50 {
        let word = signed(&place, &place.pair, &format!("made-up-{n}"));
        assert_eq!(place.refused(&word), (401, "invalid_token".into()));
    }
    assert_eq!(place.service.asked(), 1);
}

/// Whoever knows an issuer's name could otherwise keep all of its tokens from being taken, with a request each half minute.
#[test]
fn a_client_that_goes_takes_no_fetch_with_it() {
    let place = Place::new("");
    place.service.slow.store(1_000, Ordering::SeqCst);
    let word = place.token(json!({}));
    // It need not be good for that: keys come before signatures.
    let forged = signed(&place, &Pair::p256(), "one");
    for _ in 0..5 {
        let gone = place.runtime.block_on(async {
            let headers = bearer(&forged);
            tokio::time::timeout(
                Duration::from_millis(20),
                place.callers.authenticate(&headers, None, None),
            )
            .await
        });
        assert!(gone.is_err(), "it waited for the keys");
    }
    assert!(place.ask(&word).is_ok());
    assert_eq!(place.service.asked(), 1);
}

#[test]
fn old_keys_are_good_while_newer_ones_cannot_be_had() {
    let place = Place::with("", Duration::from_secs(60), 0);
    let old = place.token(json!({}));
    assert!(place.ask(&old).is_ok());
    place
        .service
        .raw("/keys", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(place.refused(&signed(&place, &place.pair, "two")).0, 401);
    place.service.page("/keys", &set(&[]));
    assert_eq!(place.refused(&signed(&place, &place.pair, "two")).0, 401);
    assert!(place.ask(&old).is_ok());
}

#[test]
fn a_hostile_service_has_no_keys_and_harms_nothing() {
    let place = Place::with("", Duration::from_secs(60), 0);
    let good = set(&[place.pair.jwk("one")]);
    let word = place.token(json!({}));
    place.service.page("/elsewhere", &good);
    let page = |head: &str, body: &[u8]| [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat();
    let redirect = format!(
        "302 Found\r\nContent-Length: 0\r\nLocation: {}",
        place.service.url("/elsewhere")
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let twice = good.replacen('{', r#"{"keys":[],"#, 1);
    for (what, page) in [
        ("garbage", vec![0xff; 2_000]),
        ("no answer", Vec::new()),
        ("a redirect", page(&redirect, b"")),
        ("html", page("200 OK\r\nContent-Length: 6", b"<html>")),
        (
            "endless",
            page("200 OK\r\nContent-Length: 99999999999", &vec![b' '; 400_000]),
        ),
        (
            "larger than it may be",
            page(&format!("200 OK\r\nContent-Length: {}", 300_000), &vec![b' '; 300_000]),
        ),
        (
            "deep",
            page(&format!("200 OK\r\nContent-Length: {}", deep.len()), deep.as_bytes()),
        ),
        (
            "keys twice",
            page(&format!("200 OK\r\nContent-Length: {}", twice.len()), twice.as_bytes()),
        ),
        ("null", page("200 OK\r\nContent-Length: 4", b"null")),
        ("no list", page("200 OK\r\nContent-Length: 10", br#"{"keys":1}"#)),
        (
            "coded",
            page("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2", b"\x1f\x8b"),
        ),
    ] {
        if what == "no answer" {
            // It takes the whole of the time that a fetch has.
            continue;
        }
        place.service.raw("/keys", page);
        assert_eq!(place.refused(&word), (503, String::new()), "{what}");
    }
    place.service.page("/keys", &good);
    assert!(place.ask(&word).is_ok());
}

#[test]
fn a_service_that_does_not_answer_holds_nobody_for_long() {
    let place = Place::new("");
    place.service.raw("/keys", Vec::new());
    let word = place.token(json!({}));
    let began = std::time::Instant::now();
    let all = [&word, &word, &word].map(|word| {
        let (callers, headers) = (place.callers.clone(), bearer(word));
        place
            .runtime
            .spawn(async move { callers.authenticate(&headers, None, None).await.unwrap_err().status })
    });
    place.runtime.block_on(async {
        for one in all {
            assert_eq!(one.await.unwrap(), 503);
        }
    });
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "one fetch is for all who wait"
    );
    assert_eq!(place.service.asked(), 1);
}

#[test]
fn an_issuer_at_a_private_address_is_asked_nothing_unless_that_is_allowed() {
    let place = Place::new("");
    let private = TcpListener::bind("127.0.0.1:0").unwrap();
    private.set_nonblocking(true).unwrap();
    let url = format!("https://localhost:{}", private.local_addr().unwrap().port());
    let path = place.folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace(&place.service.url(""), &url)
        .replace("allow_private = true\n", "");
    std::fs::write(&path, text).unwrap();
    let word = place.token(json!({ "iss": url }));
    let (folder, runtime) = (place.folder, place.runtime);
    drop((place.callers, place.host));
    let callers = Authenticator::with_times(&open(folder.path()), Duration::from_secs(60), 0).unwrap();
    let refused = runtime
        .block_on(callers.authenticate(&bearer(&word), None, None))
        .unwrap_err();
    assert_eq!(refused.status, 503, "its keys cannot be had");
    assert_eq!(
        private.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "nothing is connected to"
    );
    assert_eq!(place.service.asked(), 0);
}

#[test]
fn an_issuer_says_where_its_keys_are() {
    let more = "";
    let place = Place::with(more, Duration::from_secs(60), 0);
    // The same home without the address of the keys.
    let path = place.folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.starts_with("jwks")).unwrap().to_owned();
    std::fs::write(&path, text.replace(&line, "")).unwrap();
    let Place {
        folder,
        service,
        pair,
        runtime,
        host,
        callers,
    } = place;
    drop((callers, host));
    let host = open(folder.path());
    let callers = Authenticator::with_times(&host, Duration::from_secs(60), 0).unwrap();
    let place = Place {
        folder,
        service,
        pair,
        runtime,
        host,
        callers,
    };
    let word = place.token(json!({}));
    let openid = "/.well-known/openid-configuration";
    let says = |issuer: &str, keys: &str| json!({ "issuer": issuer, "jwks_uri": keys }).to_string();
    let (own, keys) = (place.service.url(""), place.service.url("/keys"));
    assert_eq!(place.refused(&word).0, 503, "neither document is there");
    // Keys that would do, on another origin.
    let elsewhere = Service::start();
    elsewhere.page("/keys", &set(&[place.pair.jwk("one")]));
    for wrong in [
        says(&own, &elsewhere.url("/keys")),
        says("https://elsewhere.example", &keys),
        says(&own, "https://elsewhere.example/keys"),
        says(&own, "http://127.0.0.1:1/keys"),
        says(&own, "/keys"),
        says(&own, &format!("{keys}#x")),
        json!({ "issuer": own }).to_string(),
        "[]".to_owned(),
    ] {
        place.service.page(openid, &wrong);
        assert_eq!(place.refused(&word).0, 503, "{wrong}");
    }
    place.service.page(openid, &says(&own, &keys));
    assert!(place.ask(&word).is_ok());
}
