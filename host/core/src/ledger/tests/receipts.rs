use expect_test::expect;

use super::*;
use crate::ledger::receipt::summary;

/// Where the fixture's calls end.
const FINISHED: usize = 10;
const DENIED: usize = 8;

fn verify(text: &str) -> Result<receipt::Proved, LedgerError> {
    Receipt::verify(text, key().verifier())
}

#[test]
fn proves_the_end_of_a_call() {
    let log = Log::of_everything();
    for index in [FINISHED, DENIED, 16] {
        let receipt = log.receipt(index);
        let proved = verify(&receipt.to_json().unwrap()).unwrap();
        assert_eq!(proved.entry, log.entries[index]);
        assert_eq!(proved.checkpoint.size(), log.tree.size());
        assert_eq!(proved.summary, summary(&log.entries[index]).unwrap());
    }
    let intent = log.entries[5].clone();
    assert!(Receipt::new(intent, vec![], String::new()).is_err());
}

#[test]
fn the_summary_is_for_people() {
    let log = Log::of_everything();
    expect![[r#"
        call c_aaaaaaaaaaaaaaaaaaaaaaaaaa by agent support-bot of team support, tenant acme, for user alice, ended 2026-11-21T02:40:10.000Z (ledger index 10)
        asked: refunds.create of tool refunds (commit, mode execute)
        ended: ok
        effects: 1 answered, 1 refused, 0 in doubt, 0 not sent
        spent: 5000 minor units of usd
        used: 123456 fuel, 1179648 bytes of memory, 3 ms, and 12 ms waiting for services
        limits: args_bytes 1048576, concurrent_calls 64, effects 64, fuel 1000000000, hold_ms 259200000, json_depth 64, log_bytes 65536, memory_bytes 18446744073709551615, open_holds 1000, request_body_bytes 1048576, response_body_bytes 1048576, result_bytes 1048576, stack_bytes 524288, upstream_ms 30000, wall_ms 30000
        component sha256:7c9bbe5ec9b3fb774e8fa0f54247e93c34ddf8e5d16fe3073420de0ae81a262d
        under policy sha256:823412d1eacb67956220e532959f0104603057c88704863ca38e7cd188fda812, configuration sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910"#]].assert_eq(&summary(&log.entries[FINISHED]).unwrap().join("\n"));
    expect![[r#"
        call c_dddddddddddddddddddddddddd by agent support-bot of team support, tenant acme, for user alice, ended 2026-11-21T02:40:08.000Z (ledger index 8)
        asked: refunds.create of tool refunds
        denied: code `policy`, by policy rule `support-refunds`
        effects: none
        component sha256:7c9bbe5ec9b3fb774e8fa0f54247e93c34ddf8e5d16fe3073420de0ae81a262d
        under policy sha256:823412d1eacb67956220e532959f0104603057c88704863ca38e7cd188fda812, configuration sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910"#]].assert_eq(&summary(&log.entries[DENIED]).unwrap().join("\n"));
}

#[test]
fn the_summary_has_no_escape_sequences() {
    let mut draft = of_call('a', finished(&[]));
    draft.principal = Some(Principal {
        agent: "\u{1b}[2Jbot".into(),
        ..principal()
    });
    let lines = summary(&draft.seal(Stamp::first(0)).unwrap()).unwrap();
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:?}");
}

#[test]
fn any_changed_byte_is_refused() {
    let text = Log::of_everything().receipt(FINISHED).to_json().unwrap();
    for at in 0..text.len() {
        for bit in [0, 4] {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            if let Ok(wrong) = String::from_utf8(bytes) {
                assert!(verify(&wrong).is_err(), "byte {at}: {wrong}");
            }
        }
    }
}

/// Each part is checked by itself: the receipt below is otherwise right.
#[test]
fn every_part_is_checked() {
    let log = Log::of_everything();
    let text = log.receipt(FINISHED).to_json().unwrap();
    let change = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        edit(&mut value);
        verify(&value.to_string())
    };
    assert!(
        change(&|_| ()).is_ok(),
        "the order of members and white space are nobody's concern"
    );
    let refuses = |edit: &dyn Fn(&mut serde_json::Value), why: &str| {
        let error = change(edit).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    let string = |text: &str| serde_json::Value::String(text.to_owned());
    refuses(&|value| value["summary"][2] = string("ended: another way"), "summary");
    refuses(&|value| value["summary"] = serde_json::json!([]), "summary");
    refuses(&|value| value["entry"] = string(&log.entries[16].text()), "proof");
    refuses(
        &|value| value["entry"] = string(&format!("{}\n", log.entries[FINISHED].text())),
        "canonical",
    );
    refuses(&|value| value["proof"][0] = value["proof"][1].clone(), "proof");
    refuses(&|value| value["proof"] = serde_json::json!([]), "proof");
    refuses(&|value| value["checkpoint"] = string(&log.notes[12]), "proof");
    refuses(&|value| value["checkpoint"] = string(&log.notes[5]), "proof");
    let other = SignerKey::from_seed(NAME, &[8; 32]).unwrap();
    let forged = Checkpoint::sign(log.tree.size(), log.tree.root(), &other);
    refuses(&|value| value["checkpoint"] = string(&forged), "not signed");
    refuses(&|value| value["receipt"] = 2.into(), "format 2");
    refuses(&|value| value["note"] = 2.into(), "unknown field");
    assert!(
        verify(&text.replacen("\"receipt\": 1", "\"receipt\": 1, \"receipt\": 1", 1)).is_err(),
        "twice"
    );
    assert!(
        verify(&format!("{text}{}", " ".repeat(1024 * 1024))).is_err(),
        "too long"
    );
}

/// A receipt of an entry that is in the ledger, but is no call's end.
#[test]
fn another_entry_is_no_receipt() {
    let log = Log::of_everything();
    let text = log.receipt(FINISHED).to_json().unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let proof = merkle::inclusion(5, log.tree.size(), |node| log.node(node)).unwrap();
    value["entry"] = log.entries[5].text().into();
    value["proof"] = serde_json::to_value(proof).unwrap();
    assert!(
        verify(&value.to_string())
            .unwrap_err()
            .to_string()
            .contains("not a call's end")
    );
}
