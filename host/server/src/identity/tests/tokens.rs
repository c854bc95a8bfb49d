//! Tokens: who they are of, and everything that is wrong with the others.

use super::*;

const INVALID: (u16, &str) = (401, "invalid_token");

fn refused(place: &Place, word: &str, expected: (u16, &str)) {
    let found = place.refused(word);
    assert_eq!((found.0, found.1.as_str()), expected);
}

#[test]
fn a_token_says_who_calls() {
    let place = Place::new("");
    let found = place.ask(&place.token(json!({}))).unwrap();
    assert_eq!((found.caller.agent(), found.caller.user()), ("assistant", None));
    assert_eq!(found.narrowing, Narrowing::default());
    assert_eq!(found.by, ShownBy::Token(TokenShown::new("acme", Some("t-1"))));
    let acting = json!({ "sub": "ada", "act": { "sub": "client-1" } });
    let found = place.ask(&place.token(acting)).unwrap();
    assert_eq!((found.caller.agent(), found.caller.user()), ("assistant", Some("ada")));
    // Its keys were fetched once.
    assert_eq!(place.service.asked(), 1);
}

#[test]
fn tokens_are_signed_in_the_ways_that_are_allowed() {
    let place = Place::new("");
    let pairs = [
        ("RS256", Pair::rsa()),
        ("PS512", Pair::rsa()),
        ("ES256", Pair::p256()),
        ("EdDSA", Pair::ed25519()),
    ];
    let jwks: Vec<Value> = pairs.iter().map(|(alg, pair)| pair.jwk(alg)).collect();
    place.service.page("/keys", &set(&jwks));
    for (alg, pair) in &pairs {
        let word = pair.token(&json!({ "alg": alg, "kid": alg }), &place.claims());
        assert!(place.ask(&word).is_ok(), "{alg}");
    }
    // The same keys with what the configuration does not allow.
    let word = pairs[0]
        .1
        .token(&json!({ "alg": "RS512", "kid": "RS256" }), &place.claims());
    refused(&place, &word, INVALID);
}

#[test]
fn a_token_that_says_otherwise_is_refused() {
    let place = Place::new("");
    for changes in [
        json!({ "iss": "https://elsewhere.example" }),
        json!({ "iss": null }),
        json!({ "aud": "https://other.example/mcp" }),
        json!({ "aud": null }),
        json!({ "exp": now_s() - 31 }),
        json!({ "exp": null }),
        json!({ "nbf": now_s() + 60 }),
        json!({ "exp": now_s() + 200_000 }),
        json!({ "cnf": { "jkt": "x" } }),
    ] {
        refused(&place, &place.token(changes), INVALID);
    }
    // Somebody is known, and may not.
    for changes in [
        json!({ "sub": "client-2" }),
        json!({ "sub": "bob", "act": { "sub": "client-1" } }),
    ] {
        refused(&place, &place.token(changes), (403, ""));
    }
    assert!(place.ask(&place.token(json!({}))).is_ok());
}

#[test]
fn no_key_but_the_issuer_s_verifies() {
    let place = Place::new("");
    let other = Pair::p256();
    let header = json!({ "alg": "ES256", "kid": "one" });
    refused(&place, &other.token(&header, &place.claims()), INVALID);
    // A key that the token brings along, or says where to fetch.
    place.service.page("/evil", &set(&[other.jwk("one")]));
    let before = place.service.asked();
    for more in [
        json!({ "jwk": other.jwk("one") }),
        json!({ "jku": place.service.url("/evil"), "kid": "evil" }),
        json!({ "x5u": place.service.url("/evil") }),
        json!({ "x5c": ["MIIB"] }),
    ] {
        let word = other.token(&merged(header.clone(), more), &place.claims());
        refused(&place, &word, INVALID);
    }
    assert_eq!(place.service.asked(), before, "nothing is fetched for a token's asking");
    // Changed after it was signed.
    let word = place.token(json!({}));
    let (signed, signature) = word.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let claims = BASE64URL_NOPAD.encode(merged(place.claims(), json!({ "jti": "t-2" })).to_string().as_bytes());
    refused(&place, &format!("{head}.{claims}.{signature}"), INVALID);
    refused(&place, &format!("{signed}."), INVALID);
}

#[test]
fn an_algorithm_is_no_word_of_the_token() {
    let place = Place::new("");
    let rsa = Pair::rsa();
    place
        .service
        .page("/keys", &set(&[rsa.jwk("rsa"), place.pair.jwk("one")]));
    let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let claims = part(&place.claims());
    for alg in ["none", "None", "nOnE"] {
        let head = part(&json!({ "alg": alg, "kid": "one" }));
        refused(&place, &format!("{head}.{claims}."), INVALID);
        refused(&place, &format!("{head}.{claims}.AAAA"), INVALID);
    }
    // The public key as a shared secret, in each form that anybody publishes it.
    let head = part(&json!({ "alg": "HS256", "kid": "rsa" }));
    let signed = format!("{head}.{claims}");
    let jwk = rsa.jwk("rsa");
    let n = BASE64URL_NOPAD.decode(jwk["n"].as_str().unwrap().as_bytes()).unwrap();
    for secret in [
        n.as_slice(),
        jwk["n"].as_str().unwrap().as_bytes(),
        jwk.to_string().as_bytes(),
    ] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let tag = BASE64URL_NOPAD.encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref());
        refused(&place, &format!("{signed}.{tag}"), INVALID);
    }
    // A key of one kind under the name of another's algorithm.
    for (alg, kid) in [("RS256", "one"), ("ES256", "rsa"), ("EdDSA", "one")] {
        let word = place.pair.token(&json!({ "alg": alg, "kid": kid }), &place.claims());
        refused(&place, &word, INVALID);
    }
}

#[test]
fn what_must_be_understood_or_is_for_something_else_is_refused() {
    let place = Place::new("");
    for more in [
        json!({ "crit": ["exp"] }),
        json!({ "crit": ["b64"], "b64": false }),
        json!({ "typ": "logout+jwt" }),
        json!({ "typ": "JOSE" }),
    ] {
        let header = merged(json!({ "alg": "ES256", "kid": "one" }), more);
        refused(&place, &place.pair.token(&header, &place.claims()), INVALID);
    }
}

#[test]
fn huge_and_deep_tokens_are_refused_unread() {
    let place = Place::new("");
    refused(&place, &place.token(json!({ "pad": "x".repeat(9_000) })), INVALID);
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!({ "a": deep });
    }
    refused(&place, &place.token(json!({ "deep": deep })), INVALID);
    for word in ["a", "a.b", "a.b.c", "a.b.c.d", "...", "e30.e30.e30"] {
        refused(&place, word, INVALID);
    }
    assert_eq!(place.service.asked(), 0, "nothing is fetched for what is no token");
}

#[test]
fn a_credential_stands_in_one_place() {
    let place = Place::new("");
    let word = place.token(json!({}));
    let why = |headers: &HeaderMap, query| {
        let refused = place.ask_with(headers, query).unwrap_err();
        (refused.status, error(&refused))
    };
    let mut twice = bearer(&word);
    twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    assert_eq!(why(&twice, None), (400, "invalid_request".into()));
    for query in [
        "access_token=x",
        "a=b&access_token=",
        "ACCESS_TOKEN=x",
        "access%5ftoken=x",
        "%61ccess_token",
    ] {
        assert_eq!(
            why(&bearer(&word), Some(query)),
            (400, "invalid_request".into()),
            "{query}"
        );
    }
    assert!(place.ask_with(&bearer(&word), Some("a=access_token&%=1&%zz")).is_ok());
    for value in [
        "Basic YTpi",
        "Bearer",
        "Bearer ",
        "Bearer  x",
        "Bearer a b",
        "Bearer a,b",
        "bearer\tx",
        word.as_str(),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        assert_eq!(why(&headers, None), (400, "invalid_request".into()), "{value}");
    }
    let mut lower = HeaderMap::new();
    lower.insert(AUTHORIZATION, HeaderValue::from_str(&format!("bearer {word}")).unwrap());
    assert!(place.ask_with(&lower, None).is_ok());
    assert_eq!(why(&HeaderMap::new(), None), (401, String::new()));
}

#[test]
fn an_issuer_of_one_tenant_names_no_agent_of_another() {
    // The second issuer's tokens are of `spy` of another tenant, whatever they say of the first's agents.
    let second = Service::start();
    let pair = Pair::ed25519();
    second.page("/keys", &set(&[pair.jwk("two")]));
    let more = format!(
        "[server.issuer.other]\nissuer = \"{0}\"\njwks = \"{0}/keys\"\nallow_private = true\nagents = {{ client-9 = \"spy\" }}\nclaims = {{ tenant = \"tid\" }}",
        second.url("")
    );
    let place = Place::new(&more);
    let header = json!({ "alg": "EdDSA", "kid": "two" });
    let own = merged(
        place.claims(),
        json!({ "iss": second.url(""), "sub": "client-9", "tid": "other" }),
    );
    let found = place.ask(&pair.token(&header, &own)).unwrap();
    assert_eq!((found.caller.agent(), found.caller.tenant()), ("spy", "other"));
    for (changes, expected) in [
        (json!({ "sub": "client-1" }), (403, "")),
        (json!({ "sub": "assistant" }), (403, "")),
        (json!({ "tid": "acme" }), (403, "")),
        // In the first's name, with its own key.
        (json!({ "iss": place.service.url(""), "sub": "client-1" }), INVALID),
    ] {
        refused(&place, &pair.token(&header, &merged(own.clone(), changes)), expected);
    }
}
