use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn text(draft: EntryDraft) -> String {
    draft.seal(Stamp::first(1_795_228_800_000)).unwrap().text().into_owned()
}

/// What a reader of another language sees: members sorted, nothing between them.
fn is_canonical(text: &str) {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    // Without its feature `preserve_order`, this library keeps members sorted by their bytes.
    assert_eq!(value.to_string(), text);
}

#[test]
fn every_kind_reads_back_and_is_canonical() {
    let (mut log, holds) = (Log::of_everything(), Log::of_holds());
    assert!(holds.verify().is_ok());
    log.push(of_call('b', resolved(1, Found::Done)));
    log.push(erased(&['a', 'd']));
    for draft in run() {
        log.push(draft);
    }
    log.push(breaker_opened(1));
    log.push(breaker_closed(ClosedBy::Probe));
    log.push(paused());
    log.push(of_call('x', accepted()));
    log.push(of_call('x', intent(1)));
    log.push(of_call('x', retried(1, 2)));
    let Body::EffectOutcome(mut dead) = after(1, 2) else {
        unreachable!()
    };
    dead.dead = true;
    log.push(of_call('x', dead));
    log.push(of_call('x', paused_by("s_a")));
    log.push(of_call('x', guest_ended(1, 123)));
    log.push(of_call('x', resumed(2)));
    log.push(of_call('x', checked(1, Shown::Missing)));
    log.push(of_call('x', suspended(9)));
    reloads().into_iter().for_each(|draft| log.push(draft));
    told().into_iter().for_each(|draft| log.push(draft));
    log.push(of_call('y', retry_accepted()));
    log.push(of_call('y', redelivered(1, Cause::Operator)));
    log.push(dropped());
    keys().into_iter().for_each(|entry| log.push(entry));
    log.push(diverged('a', Some(1)));
    let mut kinds = std::collections::BTreeSet::new();
    for entry in log.entries.iter().chain(&holds.entries) {
        is_canonical(&entry.text());
        assert_eq!(Entry::parse(entry.bytes()).as_ref(), Ok(entry));
        kinds.insert(entry.kind());
    }
    assert!(kinds.iter().eq(Kind::ALL.iter()), "a kind without a test");
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{kind}\""));
    }
}

#[test]
fn the_format_stays() {
    let check = |draft, expected: Expect| expected.assert_eq(&text(draft));
    check(
        EntryDraft::of_ledger(opened()),
        expect![[
            r#"{"body":{"format":1,"key":"ledger.example/home+e639a181+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs","origin":"ledger.example/home"},"index":0,"kind":"ledger-opened","time":1795228800000}"#
        ]],
    );
    check(
        erased(&['a', 'd']),
        expect![[
            r#"{"body":{"calls":["c_aaaaaaaaaaaaaaaaaaaaaaaaaa","c_dddddddddddddddddddddddddd"],"values":5,"why":{"age":{"days":90}}},"index":0,"kind":"values-erased","time":1795228800000}"#
        ]],
    );
    check(
        run().swap_remove(0),
        expect![[
            r#"{"body":{"caps":[{"cap":100,"unit":"calls"},{"cap":50000,"unit":"usd"}],"errors":{"least":20,"percent":50},"expires":1795257600000,"mode":"suggest","principal":{"agent":"support-bot","team":"support","tenant":"acme","user":"alice"},"run":"r_aaaaaaaaaaaaaaaaaaaaaaaaaa"},"index":0,"kind":"run-started","time":1795228800000}"#
        ]],
    );
    check(
        of_call('a', intent(3)),
        expect![[
            r#"{"body":{"asked":"sha256:c66790da5943c4466dd80634deb63f4e19f07e7f81624f222b86fecf9fff6445","cause":"guest","connection":"stripe","effect":"sha256:dcb576426a17b7df13907007cb02a1f1dfc12fc6c69f603717abca59d03b888e","import":"stripe","ordinal":3,"request":"sha256:1f58b9145b24d108d7ac38887338b3ea3229833b9c1e418250343f907bfd1047","reserved":[{"amount":5000,"budget":"refunds","cap":50000,"window":"day 2026-11-21"}],"route":"refunds.create","rules":["support-refunds"],"spend":{"currency":"usd","minor":5000},"tier":"commit"},"call":"c_aaaaaaaaaaaaaaaaaaaaaaaaaa","config":"sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910","index":0,"kind":"effect-intent","policy":"sha256:823412d1eacb67956220e532959f0104603057c88704863ca38e7cd188fda812","principal":{"agent":"support-bot","team":"support","tenant":"acme","user":"alice"},"time":1795228800000,"tool":"sha256:7c9bbe5ec9b3fb774e8fa0f54247e93c34ddf8e5d16fe3073420de0ae81a262d","trace":"0af7651916cd43dd8448eb211c80319c"}"#
        ]],
    );
    check(
        of_call('a', answered(3)),
        expect![[
            r#"{"body":{"answer":"sha256:0db52f4076c082518412afd3dd3576e2cb0c63703fd7fed5e23ade60efef31d9","ms":12,"ordinal":3,"outcome":{"answered":{"status":200}},"received":321,"sent":123,"settled":[{"amount":5000,"budget":"refunds","window":"day 2026-11-21"}],"spent":{"currency":"usd","minor":5000}},"call":"c_aaaaaaaaaaaaaaaaaaaaaaaaaa","config":"sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910","index":0,"kind":"effect-outcome","policy":"sha256:823412d1eacb67956220e532959f0104603057c88704863ca38e7cd188fda812","principal":{"agent":"support-bot","team":"support","tenant":"acme","user":"alice"},"time":1795228800000,"tool":"sha256:7c9bbe5ec9b3fb774e8fa0f54247e93c34ddf8e5d16fe3073420de0ae81a262d","trace":"0af7651916cd43dd8448eb211c80319c"}"#
        ]],
    );
    check(
        of_call('a', finished(&[(1, 5000)])),
        expect![[
            r#"{"body":{"asked":{"args":"sha256:090772cf4068973daad3f715eb788d39fe2c02be42efd86de81f0e59198d6237","function":"refunds.create","limits":{"args_bytes":1048576,"concurrent_calls":64,"effects":64,"fuel":1000000000,"hold_ms":259200000,"json_depth":64,"log_bytes":65536,"memory_bytes":"18446744073709551615","open_holds":1000,"request_body_bytes":1048576,"response_body_bytes":1048576,"result_bytes":1048576,"stack_bytes":524288,"upstream_ms":30000,"wall_ms":30000},"mode":"execute","tier":"commit","tool":"refunds"},"effects":{"answered":1,"in-doubt":0,"not-sent":0,"refused":1},"fuel":123456,"log":"sha256:836ff184e7b41b1e13cb5fd89fa1de98dbbab99e9d2918913ff43b86a5c7c213","memory":1179648,"ms":3,"outcome":{"ok":{"result":"sha256:f6a214f7a5fcda0c2cee9660b7fc29f5649e3c68aad48e20e950137c98913a68"}},"settled":[{"amount":1,"budget":"calls","window":"day 2026-11-21"}],"spent":[{"currency":"usd","minor":5000}],"upstream":12},"call":"c_aaaaaaaaaaaaaaaaaaaaaaaaaa","config":"sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910","index":0,"kind":"call-finished","policy":"sha256:823412d1eacb67956220e532959f0104603057c88704863ca38e7cd188fda812","principal":{"agent":"support-bot","team":"support","tenant":"acme","user":"alice"},"time":1795228800000,"tool":"sha256:7c9bbe5ec9b3fb774e8fa0f54247e93c34ddf8e5d16fe3073420de0ae81a262d","trace":"0af7651916cd43dd8448eb211c80319c"}"#
        ]],
    );
}

/// Two thousand calls and the longest of names are an entry; a call more, twice, out of order or by no id is none.
#[test]
fn an_erasure_names_its_calls() {
    let of = |calls: Vec<String>| {
        EntryDraft::of_ledger(ValuesErased {
            calls,
            values: u64::MAX,
            why: Reason::Subject(Subject::User("\u{fffd}\"".repeat(64))),
        })
    };
    let many = |number: u32| -> Vec<String> {
        let digits = |number: u32| (0..6).map(move |at| b"abcdefghij"[(number / 10u32.pow(5 - at) % 10) as usize]);
        (0..number)
            .map(|number| {
                format!(
                    "c_{}{}",
                    "2".repeat(20),
                    String::from_utf8(digits(number).collect()).unwrap()
                )
            })
            .collect()
    };
    let stamp = Stamp::first(1_795_228_800_000);
    let entry = of(many(2000)).seal(stamp).unwrap();
    assert_eq!(Entry::parse(entry.bytes()).as_ref(), Ok(&entry));
    let mut twice = many(2);
    twice.push(twice[1].clone());
    let mut swapped = many(2);
    swapped.reverse();
    for calls in [many(2001), vec![], twice, swapped, vec!["c_short".into()]] {
        let refused = of(calls).seal(stamp).unwrap_err().to_string();
        assert!(refused.contains("1 to 2000 calls by their ids"), "{refused}");
    }
}

#[test]
fn absent_values_are_left_out() {
    let bare = CallDenied {
        once: None,
        args: None,
        arrival: None,
        budget: None,
        by: None,
        function: None,
        mode: None,
        refused: Refused {
            code: Code::Caller,
            detail: None,
            rule: None,
        },
        rules: vec![],
        run: None,
        stage: Stage::Caller,
        tool: None,
        undoes: None,
    };
    let draft = EntryDraft {
        principal: None,
        tool: None,
        ..of_call('a', bare)
    };
    let text = text(draft);
    assert!(
        !text.contains("null") && text.contains(r#""body":{"refused":{"code":"caller"},"rules":[],"stage":"caller"}"#)
    );
    is_canonical(&text);
}

#[test]
fn ends_and_outcomes_read_back() {
    let ends = [
        End::Ok(Returned { result: digest("r") }),
        End::ToolError(Returned { result: digest("r") }),
        End::Refused(refusal(Code::Effects)),
        End::Trapped(refusal(Code::Trap)),
        End::Interrupted,
    ];
    for end in ends {
        let Body::CallFinished(body) = finished(&[]) else {
            unreachable!()
        };
        let text = text(of_call('a', CallFinished { outcome: end, ..body }));
        is_canonical(&text);
        Entry::parse(text.as_bytes()).unwrap();
    }
    for doubt in [Doubt::Timeout, Doubt::Connection, Doubt::Answer, Doubt::Restart] {
        let text = text(of_call('a', outcome(0, Outcome::InDoubt(doubt))));
        is_canonical(&text);
        Entry::parse(text.as_bytes()).unwrap();
    }
}

/// What is not exactly what would be printed is refused, and the message says why.
#[test]
fn only_what_would_be_printed() {
    let good = text(of_call('a', intent(3)));
    let check = |bad: String, why: &str| {
        assert_ne!(bad, good, "{why}");
        let error = Entry::parse(bad.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{bad}\n{error}");
    };
    check(good.replace("\"index\":0", "\"index\": 0"), "canonical");
    check(format!("{good}\n"), "canonical");
    check(format!(" {good}"), "canonical");
    check(good.replace("\"index\":0", "\"index\":00"), "number");
    check(good.replace("\"index\":0", "\"index\":0.0"), "invalid type");
    check(good.replace("\"index\":0", "\"index\":-0"), "not");
    check(good.replace("\"index\":0", "\"index\":\"0\""), "invalid type");
    check(
        good.replace("\"index\":0", "\"index\":9007199254740992"),
        "index or time",
    );
    check(good.replace("\"time\":1795228800000", "\"time\":-1"), "index or time");
    check(good.replace("\"index\"", "\"clock\":null,\"index\""), "canonical");
    check(
        good.replace("\"index\"", "\"clock\":1795228800000,\"index\""),
        "index or time",
    );
    check(good.replace("\"minor\":5000", "\"minor\":\"5000\""), "canonical");
    check(good.replace("\"minor\":5000", "\"minor\":5e3"), "not");
    check(good.replace("\"minor\":5000", "\"minor\":-5000"), "not");
    check(good.replace("stripe", "str\\u0069pe"), "canonical");
    check(good.replace("\"kind\":", "\"extra\":1,\"kind\":"), "unknown field");
    check(
        good.replace("\"ordinal\":3", "\"ordinal\":3,\"other\":1"),
        "unknown field",
    );
    check(
        good.replace("\"ordinal\":3", "\"ordinal\":3,\"ordinal\":3"),
        "duplicate field",
    );
    check(
        good.replace("\"index\":0", "\"index\":0,\"index\":0"),
        "duplicate field",
    );
    check(good.replace("\"ordinal\":3,", ""), "missing field");
    check(good.replace("effect-intent", "effect-intents"), "unknown variant");
    check(good.replace("effect-intent", "effect-outcome"), "unknown field");
    check(
        good.replace("\"tier\":\"commit\"", "\"tier\":\"Commit\""),
        "unknown variant",
    );
    check(good.replace("sha256:", "sha512:"), "digest");
    check(good.replace(&call_id('a'), "c_a"), "the id of its call");
    check(good.replace(&call_id('a'), &call_id('A')), "the id of its call");
    check(
        good.replace("0af7651916cd43dd8448eb211c80319c", "0AF7651916CD43DD8448EB211C80319C"),
        "trace",
    );
    check(good.replace("{\"body\"", "[{\"body\""), "not a ledger entry");
    check(good[..good.len() - 1].to_owned(), "EOF");
    check(String::new(), "EOF");
    check(good.replace("support-bot", "support-\u{1b}bot"), "control character");
}

#[test]
fn a_map_has_its_members_once_and_in_order() {
    let good = text(of_call('a', accepted()));
    let limits = r#""log_bytes":65536,"memory_bytes":"18446744073709551615","#;
    assert!(good.contains(limits), "{good}");
    for bad in [
        r#""log_bytes":65536,"log_bytes":65536,"memory_bytes":"18446744073709551615","#,
        r#""memory_bytes":"18446744073709551615","log_bytes":65536,"#,
        r#""log_bytes":65536,"memory_bytes":18446744073709551615,"#,
        r#""log_bytes":65536,"memory_bytes":"018446744073709551615","#,
        r#""log_bytes":65536,"memory_bytes":"+1","#,
        r#""log_bytes":"65536","memory_bytes":"18446744073709551615","#,
    ] {
        assert!(Entry::parse(good.replace(limits, bad).as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn not_utf_8() {
    let mut bytes = text(of_call('a', intent(3))).into_bytes();
    let at = bytes.iter().position(|b| *b == b's').unwrap();
    bytes[at] = 0xff;
    assert_eq!(Entry::parse(&bytes), Err(LedgerError::Entry("it is not UTF-8".into())));
}

#[test]
fn a_ledger_of_another_format() {
    let ours = text(EntryDraft::of_ledger(opened()));
    let later = ours.replace("\"format\":1", "\"format\":2");
    let much_later = later.replace("{\"body\":{", "{\"added\":[],\"body\":{\"added\":{},");
    for text in [later, much_later] {
        let error = Entry::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error, LedgerError::Format { found: 2 }, "{text}");
        assert!(error.to_string().contains("format 2"), "{error}");
    }
}

#[test]
fn sizes() {
    let long = |length: usize| {
        let mut draft = of_call('a', intent(0));
        let Body::EffectIntent(body) = &mut draft.body else {
            unreachable!()
        };
        body.rules = vec!["x".repeat(length)];
        draft.seal(Stamp::first(0))
    };
    let room = MAX_ENTRY - long(0).unwrap().bytes().len();
    let largest = long(room).unwrap();
    assert_eq!(largest.bytes().len(), MAX_ENTRY);
    assert_eq!(Entry::parse(largest.bytes()).as_ref(), Ok(&largest));
    assert_eq!(long(room + 1), Err(LedgerError::TooLarge { bytes: MAX_ENTRY + 1 }));
    assert!(matches!(
        Entry::parse(&vec![b' '; MAX_ENTRY + 1]),
        Err(LedgerError::TooLarge { .. })
    ));
}

#[test]
fn what_its_kind_must_have() {
    let check = |change: &dyn Fn(&mut EntryDraft), why: &str| {
        let mut draft = of_call('a', intent(0));
        change(&mut draft);
        let error = draft.seal(Stamp::first(0)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    check(&|draft| draft.call = None, "call");
    check(&|draft| draft.trace = None, "trace");
    check(&|draft| draft.principal = None, "principal");
    check(&|draft| draft.tool = None, "tool");
    check(&|draft| draft.policy = None, "policy");
    check(&|draft| draft.config = None, "configuration");
    check(&|draft| draft.body = opened().into(), "no call");
}

#[test]
fn time_does_not_go_back() {
    let first = Stamp::first(5000);
    let second = first.next(4000);
    assert_eq!(
        (second.index(), second.time_ms(), second.clock_ms()),
        (1, 5000, Some(4000))
    );
    let third = second.next(5000);
    assert_eq!((third.index(), third.time_ms(), third.clock_ms()), (2, 5000, None));
    assert_eq!(third.next(6000).time_ms(), 6000);
    let before_1970 = Stamp::first(-1);
    assert_eq!((before_1970.time_ms(), before_1970.clock_ms()), (0, Some(-1)));

    let entry = of_call('a', intent(0)).seal(second).unwrap();
    assert!(entry.text().contains("\"clock\":4000,"));
    assert_eq!(Entry::parse(entry.bytes()), Ok(entry));
}

#[test]
fn any_changed_byte_is_refused_or_another_leaf() {
    for entry in Log::of_everything().entries {
        for at in 0..entry.bytes().len() {
            let mut bytes = entry.bytes().to_vec();
            bytes[at] ^= 1;
            if let Ok(other) = Entry::parse(&bytes) {
                assert!(other.leaf() != entry.leaf() && other.bytes() == bytes, "byte {at}");
            }
        }
    }
}

/// The fuzzer's seeds are this ledger: entries as stored, checkpoints, receipts. `UPDATE_EXPECT=1` writes them anew.
#[test]
fn the_seeds_of_the_fuzzer_are_of_this_format() {
    let log = Log::of_everything();
    let is = |name: String, text: &str| {
        let file = format!("{}/../../tests/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        expect_test::expect_file![file].assert_eq(text);
    };
    for entry in &log.entries {
        is(format!("entry/{:02}-{}", entry.index(), entry.kind()), &entry.text());
    }
    for (size, note) in log.notes.iter().enumerate().step_by(8) {
        is(format!("note/{size:02}"), note);
    }
    is("note/key".to_owned(), &key().verifier().to_string());
    for end in [8, 10, 16] {
        is(format!("receipt/{end:02}"), &log.receipt(end).to_json().unwrap());
    }
}

proptest! {
    /// Whatever text and numbers go in come out, in canonical JSON.
    #[test]
    fn any_values_read_back(name in any::<String>(), rules in prop::collection::vec(any::<String>(), 0..5), number in any::<u64>(), clock in any::<i32>()) {
        let mut draft = of_call('a', intent(7));
        let Body::EffectIntent(body) = &mut draft.body else { unreachable!() };
        body.connection = name;
        body.rules = rules;
        body.spend = Some(usd(number));
        let entry = draft.seal(Stamp::first(i64::from(clock))).unwrap();
        is_canonical(&entry.text());
        prop_assert_eq!(Entry::parse(entry.bytes()), Ok(entry));
    }

    #[test]
    fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = fuzz::entry(&bytes);
        let _ = fuzz::note(&bytes);
        let _ = fuzz::receipt(&bytes, &|_| false);
        let _ = fuzz::bundle(&bytes);
    }

    /// Real ones with a few bytes wrong get further.
    #[test]
    fn nearly_right_bytes_are_harmless(which in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let log = Log::of_everything();
        let bend = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            for (at, with) in &flips {
                *at.get_mut(&mut bytes) ^= with;
            }
            bytes
        };
        let _ = fuzz::entry(&bend(&which.get(&log.entries).text()));
        let _ = fuzz::note(&bend(which.get(&log.notes[..]).as_str()));
        let genuine = |entry: &[u8]| log.entries.iter().any(|own| own.bytes() == entry);
        let _ = fuzz::receipt(&bend(&log.receipt(10).to_json().unwrap()), &genuine);
    }
}

/// A stop is named by its id, its kind and its scope in their one form.
#[test]
fn a_stop_reads_back_and_has_an_id() {
    let set = |id: &str| {
        EntryDraft::of_ledger(StopSet {
            by: None,
            id: id.into(),
            kind: crate::stop::Kind::SafeMode,
            reason: digest("reason"),
            scope: "agent:support-bot".parse().unwrap(),
        })
    };
    let id = format!("s_{}", "a".repeat(26));
    let text = text(set(&id));
    assert!(text.contains(&format!(
        r#""body":{{"id":"{id}","kind":"safe-mode","reason":"{}","scope":"agent:support-bot"}}"#,
        digest("reason")
    )));
    is_canonical(&text);
    Entry::parse(text.as_bytes()).unwrap();
    assert!(Entry::parse(text.replace("agent:support-bot", "robot:x").as_bytes()).is_err());
    for wrong in ["", "s_a", &id.replace("s_", "c_"), &id.to_uppercase()] {
        let refused = set(wrong).seal(Stamp::first(0)).unwrap_err().to_string();
        assert!(refused.contains("the id of its stop"), "{refused}");
    }
}

#[test]
fn entries_about_keys_name_keys_and_count_something() {
    for entry in keys() {
        assert!(entry.seal(Stamp::first(0)).is_ok());
    }
    let refused = |body: Body| {
        let sealed = EntryDraft::of_ledger(body).seal(Stamp::first(0));
        assert!(matches!(sealed, Err(LedgerError::Entry(_))), "{sealed:?}");
    };
    let created = |change: &dyn Fn(&mut KeyCreated)| {
        let Body::KeyCreated(mut body) = keys().swap_remove(0).body else {
            unreachable!()
        };
        change(&mut body);
        Body::KeyCreated(body)
    };
    let operator = |name: &str, scopes: &[operator::Scope]| {
        Some(OperatorKey {
            name: name.into(),
            scopes: scopes.iter().copied().collect(),
        })
    };
    // It is an agent's already.
    refused(created(&|body| {
        body.operator = operator("ivy", &[operator::Scope::Read])
    }));
    let operator_s = |change: &dyn Fn(&mut KeyCreated)| {
        created(&|body| {
            (body.agent, body.user, body.narrowing) = (String::new(), None, Narrowing::default());
            change(body);
        })
    };
    refused(operator_s(&|body| {
        body.operator = operator("", &[operator::Scope::Read])
    }));
    refused(operator_s(&|body| body.operator = operator("ivy", &[])));
    let own = format!("k_{}", "b".repeat(26));
    refused(created(&|body| body.key = "k_".into()));
    refused(created(&|body| {
        body.replaces = Some(Replaced {
            key: "x".into(),
            until: 1,
        })
    }));
    refused(created(&|body| {
        body.replaces = Some(Replaced {
            key: own.clone(),
            until: 1,
        })
    }));
    refused(KeyRevoked { key: "c_a".into() }.into());
    refused(
        CallersRefused {
            from: 0,
            refused: [].into(),
        }
        .into(),
    );
    refused(
        CallersRefused {
            from: 0,
            refused: [(Why::Expired, 0)].into(),
        }
        .into(),
    );
}

#[test]
fn how_a_caller_showed_itself_stays() {
    let [created, of_operator, _, _, counted] = <[EntryDraft; 5]>::try_from(keys()).unwrap();
    expect![[
        r#"{"body":{"agent":"support-bot","expires":1803004800000,"hash":"sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b","key":"k_bbbbbbbbbbbbbbbbbbbbbbbbbb","name":"ci","narrowing":{"functions":["refunds/*"],"max-tier":"read"},"replaces":{"key":"k_aaaaaaaaaaaaaaaaaaaaaaaaaa","until":1795232400000},"user":"alice"},"index":0,"kind":"key-created","time":1795228800000}"#
    ]]
    .assert_eq(&text(created));
    expect![[r#"{"body":{"expires":1803004800000,"hash":"sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa","key":"k_cccccccccccccccccccccccccc","operator":{"name":"ivy","scopes":["ambit:approve","ambit:read"]}},"index":0,"kind":"key-created","time":1795228800000}"#]].assert_eq(&text(of_operator));
    expect![[
        r#"{"body":{"from":1795228700000,"refused":{"expired":2,"not-yet":1,"unknown-key":40000}},"index":0,"kind":"callers-refused","time":1795228800000}"#
    ]]
    .assert_eq(&text(counted));
    let Body::CallDenied(mut by_certificate) = denied() else {
        unreachable!()
    };
    by_certificate.by = Some(ShownBy::Certificate(CertificateShown {
        certificate: digest("certificate"),
        id: "spiffe://prod.example/agent/support".parse().unwrap(),
    }));
    let written = text(of_call('a', by_certificate));
    is_canonical(&written);
    expect![[r#"{"body":{"args":"sha256:090772cf4068973daad3f715eb788d39fe2c02be42efd86de81f0e59198d6237","arrival":{"protocol":"api"},"by":{"certificate":{"certificate":"sha256:03d66dd08835c1ca3f128cceacd1f31ac94163096b20f445ae84285bc0832d72","id":"spiffe://prod.example/agent/support"}},"function":"refunds.create","mode":"execute","refused":{"code":"policy","detail":"sha256:821119d79af8b9fcf86d782863d55861708cc4040673f905f9e3b616cfb71199","rule":"support-refunds"},"rules":[],"stage":"policy","tool":"refunds"},"call":"c_aaaaaaaaaaaaaaaaaaaaaaaaaa","config":"sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910","index":0,"kind":"call-denied","policy":"sha256:823412d1eacb67956220e532959f0104603057c88704863ca38e7cd188fda812","principal":{"agent":"support-bot","team":"support","tenant":"acme","user":"alice"},"time":1795228800000,"tool":"sha256:7c9bbe5ec9b3fb774e8fa0f54247e93c34ddf8e5d16fe3073420de0ae81a262d","trace":"0af7651916cd43dd8448eb211c80319c"}"#]].assert_eq(&written);
    // An entry with what is no id is no entry.
    let read = |text: &str| Entry::parse(text.as_bytes());
    assert!(read(&written).is_ok() && read(&written.replace("spiffe://prod", "spiffe://Prod")).is_err());
}
