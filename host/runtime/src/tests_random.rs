//! Random guests against a service that answers at random: each call comes to the same again, and to something else where one recorded
//! thing is another.

use ambit_core::ledger::body::Part;
use ambit_core::ledger::bundle::{Bundle, Opened};
use ambit_core::ledger::story::EffectStory;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::replay::{Replayer, replay_bundle};

const SCRIPTS: u64 = 200;
/// How many of them are changed in each way.
const CHANGED: usize = 12;

/// Runs a script, one letter after the other: `g` reads and `p` changes what a number picks that comes of all it was told so far, `r` and
/// `n` take randomness and the time, `l` logs, `s` computes, `j` leaves the next letter out at odd numbers, and `t` fails at some. It
/// returns the number.
fn scripted(port: u16) -> Vec<u8> {
    let world = format!(
        r#"world tool {{
        @external-id("GET,POST http://127.0.0.1:{port}/things/{{id}} reads(id)")
        import things: ambit:capability/http@0.1.0;
        import ambit:capability/log@0.1.0;
        import ambit:capability/clock@0.1.0;
        import ambit:capability/random@0.1.0;
        export run: func(script: string) -> u64;
    }}"#
    );
    // The path is at 16, its last eight letters from 24 on; the answer at 64.
    let send = |method: u32| {
        format!(
            "(call $path) (call $send (i32.const {method}) (i32.const 16) (i32.const 16) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64)) (call $answered)"
        )
    };
    let when = |letter: char, does: &str| {
        format!(
            "(if (i32.eq (local.get $op) (i32.const {})) (then {does}))",
            u32::from(letter)
        )
    };
    let module = format!(
        r#"(module
        (import "things" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
        (import "ambit:capability/log@0.1.0" "log" (func $log (param i32 i32 i32)))
        (import "ambit:capability/clock@0.1.0" "now" (func $now (result i64)))
        (import "ambit:capability/random@0.1.0" "number" (func $number (result i64)))
        {allocator}
        (data (i32.const 16) "/things/")
        (global $sum (mut i64) (i64.const 1469598103934665603))
        (func $add (param i64)
            (global.set $sum (i64.mul (i64.xor (global.get $sum) (local.get 0)) (i64.const 1099511628211))))
        (func $bytes (param $at i32) (param $left i32)
            (block $done (loop $on
                (br_if $done (i32.eqz (local.get $left)))
                (call $add (i64.load8_u (local.get $at)))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br $on))))
        (func $path (local $at i32)
            (loop $on
                (i32.store8 (i32.add (i32.const 24) (local.get $at))
                    (i32.add (i32.const 97) (i32.and (i32.const 15)
                        (i32.wrap_i64 (i64.shr_u (global.get $sum) (i64.extend_i32_u (i32.mul (local.get $at) (i32.const 4))))))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br_if $on (i32.lt_u (local.get $at) (i32.const 8)))))
        (func $answered
            (call $add (i64.load8_u (i32.const 64)))
            (if (i32.load8_u (i32.const 64))
                (then (call $bytes (i32.load (i32.const 72)) (i32.load (i32.const 76))))
                (else
                    (call $add (i64.load16_u (i32.const 68)))
                    (if (i32.load8_u (i32.const 80))
                        (then (call $bytes (i32.load (i32.const 84)) (i32.load (i32.const 88))))))))
        (func $spin (local $turns i64)
            (local.set $turns (i64.and (global.get $sum) (i64.const 4095)))
            (block $done (loop $on
                (br_if $done (i64.eqz (local.get $turns)))
                (local.set $turns (i64.sub (local.get $turns) (i64.const 1)))
                (br $on))))
        (func (export "run") (param $at i32) (param $left i32) (result i64) (local $op i32)
            (block $done (loop $on
                (br_if $done (i32.le_s (local.get $left) (i32.const 0)))
                (local.set $op (i32.load8_u (local.get $at)))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                {get} {post} {random} {now} {log} {spin} {trap} {jump}
                (br $on)))
            (global.get $sum)))"#,
        allocator = crate::sandbox::tests::ALLOCATOR,
        get = when('g', &send(0)),
        post = when('p', &send(2)),
        random = when('r', "(call $add (call $number))"),
        now = when('n', "(call $add (call $now))"),
        log = when(
            'l',
            "(call $path) (call $log (i32.const 2) (i32.const 24) (i32.const 8))"
        ),
        spin = when('s', "(call $spin)"),
        trap = when(
            't',
            "(if (i64.eqz (i64.and (global.get $sum) (i64.const 31))) (then unreachable))"
        ),
        jump = when(
            'j',
            "(if (i64.ne (i64.and (global.get $sum) (i64.const 1)) (i64.const 0)) (then
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))))"
        ),
    );
    crate::sandbox::tests::component(&world, &module)
}

/// Answers as a table of random numbers says: results, refusals, failures, answers that cannot be read, none at all, and late ones.
fn fickle(mut stream: TcpStream, seen: &AtomicUsize) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let nth = seen.fetch_add(1, Ordering::SeqCst) as u64;
    let mut random = ChaCha20Rng::seed_from_u64(nth);
    let pick = random.next_u64();
    if pick.is_multiple_of(7) {
        thread::sleep(Duration::from_millis(pick % 5));
    }
    let id = random.next_u64();
    let (status, kind, body) = match pick % 10 {
        0 => return,
        1 => {
            let _ = stream.write_all(b"HTTP/1.1 2");
            return;
        }
        2 => (404, "application/json", format!(r#"{{"id":"{id}","secret":1}}"#)),
        3 => (503, "application/json", format!(r#"{{"id":{id}}}"#)),
        4 => (200, "text/html", "<p>no".to_owned()),
        5 => (302, "application/json", String::new()),
        _ => (200, "application/json", format!(r#"{{"id":"{id:x}","more":[1,2]}}"#)),
    };
    let head = format!(
        "HTTP/1.1 {status} So\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
}

/// Each takes randomness and the time first, so that whatever follows depends on them.
fn script(random: &mut ChaCha20Rng) -> String {
    let length = random.next_u64() % 14;
    let letters = b"ggpprnlsjt";
    let mut script = "rn".to_owned();
    for _ in 0..length {
        let letter = letters[usize::try_from(random.next_u64()).unwrap_or(7) % letters.len()];
        script.push(char::from(letter));
    }
    script
}

fn again(opened: &Opened) -> crate::replay::Replayed {
    replay_bundle(opened, Some(Compiler::InProcess)).unwrap()
}

/// How many effects the guest asked for, and whether the call ended for a cause of its own.
fn effects(opened: &Opened) -> u32 {
    let asked = |effect: &&EffectStory| match effect {
        EffectStory::Intended { intent, .. } => intent.what.asked.is_some(),
        EffectStory::Refused(refused) => refused.what.asked.is_some(),
        EffectStory::Held(_) => true,
    };
    u32::try_from(opened.story.effects.values().filter(asked).count()).unwrap()
}

/// Replaces a value of a bundle that was opened: what its maker could write who had the ledger's key too.
fn put(opened: &mut Opened, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let value = opened.values.get_mut(name).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(value).unwrap();
    change(&mut json);
    *value = json.to_string().into_bytes();
}

#[test]
fn random_guests_come_to_the_same_again_and_to_something_else_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::that(fickle);
    home::init(folder.path()).unwrap();
    std::fs::write(folder.path().join("policy/main.cedar"), POLICY).unwrap();
    std::fs::write(folder.path().join("ambit.toml"), configuration(service.port, "")).unwrap();
    let component = scripted(service.port);
    home::add_tool(
        folder.path(),
        "things",
        &component,
        &Manifest::read(&component).unwrap(),
    )
    .unwrap();
    let host = open(folder.path()).unwrap();
    let mut random = ChaCha20Rng::seed_from_u64(20_261_121);
    let calls: Vec<String> = (0..SCRIPTS)
        .map(|_| {
            let call = CallRequest {
                args: format!(r#"{{"script":"{}"}}"#, script(&mut random)),
                ..request("run")
            };
            host.call(call).unwrap().call.as_str().to_owned()
        })
        .collect();
    drop(host);
    assert!(service.requests() > 400, "{} requests", service.requests());

    let mut replayer = Replayer::open(folder.path(), Some(Compiler::InProcess)).unwrap();
    for call in &calls {
        let replayed = replayer.replay(call).unwrap();
        assert_eq!((&replayed.diverged, replayed.stopped), (&None, None), "{replayed:?}");
        assert!(replayed.same_engine);
        assert_eq!(replayed.fuel_used, replayed.fuel_recorded, "to the unit");
    }

    // One recorded thing is another: the first effect that can show it is named.
    let key = crate::store::verifier(folder.path()).unwrap();
    let bundled = calls.iter().map(|call| {
        let text = replayer.bundle(call).unwrap();
        Bundle::open(&text, &key).unwrap()
    });
    for (nth, opened) in bundled.filter(|opened| effects(opened) >= 2).take(CHANGED).enumerate() {
        assert_eq!(again(&opened).diverged, None);
        let all = effects(&opened);
        let changed = 1 + u32::try_from(nth).unwrap() % all;
        let mut other = opened.clone();
        put(&mut other, &format!("effect/{changed}/answer"), |answer| {
            let clock = answer["clock"].clone();
            *answer = serde_json::json!({ "clock": clock, "failed": "it was never so" });
        });
        shows(&other, changed + 1, all);
        let mut other = opened.clone();
        put(&mut other, "start", |start| start["seed"] = "ab".repeat(32).into());
        shows(&other, 1, all);
        let mut other = opened.clone();
        put(&mut other, "start", |start| start["clock"] = 1.into());
        shows(&other, 1, all);
        // Nor is another answer to what was asked believed where it is stored: it is not the ledger's.
        let text = replayer.bundle(&opened.story.call).unwrap();
        let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
        file["values"][format!("effect/{changed}/answer")]["value"] = "e30=".into();
        let text = serde_json::to_string_pretty(&file).unwrap() + "\n";
        let refused = Bundle::open(&text, &key).unwrap_err().to_string();
        assert!(refused.contains(&format!("`effect/{changed}/answer`")), "{refused}");
    }
}

/// It diverges at that effect where the call has so many, and after all of them where it has not.
fn shows(opened: &Opened, ordinal: u32, all: u32) {
    let diverged = again(opened).diverged.unwrap();
    match diverged.ordinal {
        Some(named) => assert_eq!(named, ordinal, "{diverged:?}"),
        None => assert!(
            ordinal > all && matches!(diverged.part, Part::Result | Part::End | Part::Log),
            "{diverged:?}"
        ),
    }
}
