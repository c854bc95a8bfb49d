//! What entries are counted as, whole: each metric that entries come to, under all of its labels.

use super::read_on::{counted, vote};
use super::*;
use crate::metrics::Format;
use crate::stop;

/// The call of `letter` to `tool` and a function of it.
fn calls(letter: char, tool: &str, change: impl FnOnce(&mut CallAccepted)) -> EntryDraft {
    let Body::CallAccepted(mut body) = accepted() else {
        unreachable!()
    };
    body.asked = asks(tool);
    change(&mut body);
    of_call(letter, body)
}

fn asks(tool: &str) -> Asked {
    Asked {
        function: format!("{tool}.run"),
        tool: tool.to_owned(),
        ..asked()
    }
}

fn ends(letter: char, tool: &str, change: impl FnOnce(&mut CallFinished)) -> EntryDraft {
    let Body::CallFinished(mut body) = finished(&[]) else {
        unreachable!()
    };
    (body.asked, body.ms, body.upstream) = (asks(tool), 40, 2_000);
    body.settled = settled("calls", "calls", 1);
    change(&mut body);
    of_call(letter, body)
}

fn settled(budget: &str, unit: &str, amount: u64) -> Vec<Settlement> {
    vec![Settlement {
        amount,
        budget: budget.into(),
        window: format!("{unit} day 2026-11-21"),
    }]
}

/// An intent at a route of the connection `mail`, and how it ends.
fn intends(route: &str, change: impl FnOnce(&mut EffectIntent)) -> Body {
    let Body::EffectIntent(mut body) = intent(1) else {
        unreachable!()
    };
    (body.connection, body.route) = ("mail".into(), route.into());
    change(&mut body);
    body.into()
}

fn ended(how: Outcome, change: impl FnOnce(&mut EffectOutcome)) -> Body {
    let Body::EffectOutcome(mut body) = outcome(1, how) else {
        unreachable!()
    };
    (body.ms, body.sent, body.received) = (300, 10, 200);
    body.settled = settled("post", "effects", 1);
    body.spent = None;
    change(&mut body);
    body.into()
}

fn answers(status: u16) -> Outcome {
    Outcome::Answered(Answered { status })
}

fn refuses(code: Code) -> Body {
    let Body::EffectRefused(mut body) = refused(2) else {
        unreachable!()
    };
    body.refused = refusal(code);
    (body.connection, body.route) = (Some("mail".into()), Some("list".into()));
    body.into()
}

/// What calls, effects and rollbacks come to.
fn of_calls() -> Vec<EntryDraft> {
    let passes_two_caps = |intent: &mut EffectIntent| {
        let one = &intent.reserved[0];
        let over = |budget: &str| Reservation {
            budget: budget.into(),
            over: Some(digest("hold")),
            ..one.clone()
        };
        intent.reserved = vec![one.clone(), over("post"), over("month")];
    };
    let dead = |outcome: &mut EffectOutcome| outcome.dead = true;
    let sold = Amount {
        currency: "eur".parse().unwrap(),
        minor: 700,
    };
    let Body::EffectResolved(mut happened) = resolved(1, Found::Done) else {
        unreachable!()
    };
    happened.settled = settled("euros", "eur", 700);
    (happened.dead, happened.spent) = (true, Some(sold));
    let rollback = |by| Rollback {
        by,
        call: call_id('e'),
        over_changes: false,
        skip: vec![],
    };
    let undoes = Undoes {
        call: call_id('e'),
        ordinal: 1,
    };
    vec![
        calls('e', "post", |_| {}),
        of_call('e', intends("send", passes_two_caps)),
        of_call('e', retried(1, 2)),
        of_call('e', ended(answers(200), |outcome| outcome.spent = Some(sold))),
        of_call('e', checked(1, Shown::Shown)),
        of_call('e', checked(1, Shown::Shown)),
        of_call('e', checked(1, Shown::Missing)),
        of_call('e', refuses(Code::Policy)),
        of_call('e', refuses(Code::PolicyError)),
        of_call('e', refuses(Code::Rate)),
        ends('e', "post", |_| {}),
        calls('f', "bulk", |_| {}),
        of_call('f', intends("drop", |_| {})),
        of_call('f', ended(answers(404), dead)),
        of_call('f', guest_ended(1, 9)),
        ends('f', "bulk", |body| {
            body.outcome = End::ToolError(Returned { result: digest("no") })
        }),
        calls('g', "bulk", |_| {}),
        of_call('g', intends("move", |_| {})),
        of_call('g', ended(Outcome::InDoubt(Doubt::Connection), |_| {})),
        of_call('g', happened),
        of_call('g', resolved(1, Found::NotDone)),
        of_call('g', resolved(1, Found::NotDone)),
        ends('g', "bulk", |body| body.outcome = End::Interrupted),
        calls('h', "post", |body| body.undoes = Some(rollback(By::Routes))),
        of_call(
            'h',
            intends("back", |intent| {
                intent.cause = Cause::Operator;
                intent.undoes = Some(undoes.clone());
            }),
        ),
        of_call('h', ended(answers(200), |_| {})),
        ends('h', "post", |body| body.undoes = Some(rollback(By::Routes))),
        calls('i', "post", |body| body.undoes = Some(rollback(By::Function))),
        of_call(
            'i',
            intends("back", |intent| {
                intent.cause = Cause::Host;
                intent.undoes = Some(undoes.clone());
            }),
        ),
        of_call('i', ended(answers(500), |_| {})),
        ends('i', "post", |body| {
            body.undoes = Some(rollback(By::Function));
            body.outcome = End::Refused(refusal(Code::DryRun));
        }),
        calls('k', "post", |_| {}),
        of_call('k', paused_by("s_a")),
    ]
}

/// What people, operators and the host do beside calls.
fn of_the_home() -> Vec<EntryDraft> {
    let breaker = |route: Option<&str>, why| {
        EntryDraft::of_ledger(BreakerClosed {
            connection: "mail".into(),
            route: route.map(Into::into),
            why,
        })
    };
    let dropped = |why| {
        EntryDraft::of_ledger(DeadLetterDropped {
            call: call_id('f'),
            ordinal: 1,
            why,
        })
    };
    let diverged = |part| {
        EntryDraft::of_ledger(CallDiverged {
            call: call_id('f'),
            engine: "wasmtime 48".into(),
            expected: digest("expected"),
            ordinal: (part == Part::Effect).then_some(1),
            part,
            seen: digest("seen"),
        })
    };
    let stop = |id: char, kind| StopSet {
        by: None,
        id: format!("s_{}", id.to_string().repeat(26)),
        kind,
        reason: digest("reason"),
        scope: stop::Scope::Everything,
    };
    let lift = |id: char, kind| StopLifted {
        by: None,
        id: stop(id, kind).id,
        kind,
        reason: None,
        scope: stop::Scope::Everything,
    };
    let [started, degraded, over] = run().try_into().unwrap();
    let [warned, ..] = told();
    vec![
        breaker_opened(1),
        breaker(Some("send"), ClosedBy::Probe),
        breaker(Some("send"), ClosedBy::Probe),
        breaker(None, ClosedBy::Operator),
        paused(),
        dropped(Dropped::Happened),
        dropped(Dropped::DoneByHand),
        dropped(Dropped::DoneByHand),
        dropped(Dropped::Unneeded),
        dropped(Dropped::Unneeded),
        dropped(Dropped::Unneeded),
        dropped(Dropped::Wrong),
        dropped(Dropped::Wrong),
        dropped(Dropped::Wrong),
        dropped(Dropped::Wrong),
        EntryDraft::of_ledger(CallsReplayed {
            same: 3,
            partial: 2,
            diverged: 1,
        }),
        diverged(Part::Effect),
        diverged(Part::Fuel),
        diverged(Part::Fuel),
        EntryDraft::of_ledger(stop('a', stop::Kind::Kill)),
        EntryDraft::of_ledger(stop('b', stop::Kind::SafeMode)),
        EntryDraft::of_ledger(stop('d', stop::Kind::SafeMode)),
        EntryDraft::of_ledger(lift('b', stop::Kind::SafeMode)),
        started.clone(),
        started.clone(),
        started,
        degraded.clone(),
        degraded,
        over,
        warned,
        erased(&['e', 'f']),
    ]
}

/// What is held, and how that ends.
fn of_holds() -> Vec<EntryDraft> {
    vec![
        calls('l', "post", |_| {}),
        of_call('l', held(1)),
        of_call('l', vote(Verdict::Approve, "finance")),
        of_call('l', vote(Verdict::BreakGlass, "incident")),
        of_call('l', passed(1)),
        EntryDraft::of_ledger(VoteRefused {
            hold: digest("hold"),
            person: None,
            why: "ended".into(),
        }),
    ]
}

/// Each count but those of entries by kind, and the ends of a histogram's parts, which are held elsewhere.
fn told_of(log: &Log) -> Vec<String> {
    let text = counted(log).samples().text(Format::Prometheus);
    let counts = text.lines().filter(|line| {
        !(line.starts_with('#') || line.contains("_bucket{") || line.starts_with("ambit_ledger_entries_total"))
    });
    counts.map(str::to_owned).collect()
}

#[test]
fn entries_are_counted_under_these_labels() {
    let mut log = Log::of_everything();
    let more = [of_calls(), of_the_home(), of_holds()].concat();
    more.into_iter().for_each(|draft| log.push(draft));
    let told = told_of(&log);
    let expected: Vec<&str> = COUNTED.trim().lines().collect();
    assert_eq!(told, expected, "{}", told.join("\n"));
}

const COUNTED: &str = r#"
ambit_calls_total{tool="bulk",function="bulk.run",outcome="interrupted"} 1
ambit_calls_total{tool="bulk",function="bulk.run",outcome="tool-error"} 1
ambit_calls_total{tool="post",function="post.run",outcome="first-write"} 1
ambit_calls_total{tool="post",function="post.run",outcome="ok"} 2
ambit_calls_total{tool="refunds",function="refunds.create",outcome="denied"} 1
ambit_calls_total{tool="refunds",function="refunds.create",outcome="ok"} 1
ambit_calls_total{tool="refunds",function="refunds.create",outcome="trapped"} 1
ambit_call_duration_seconds_sum{tool="bulk"} 0.08
ambit_call_duration_seconds_count{tool="bulk"} 2
ambit_call_duration_seconds_sum{tool="post"} 0.12
ambit_call_duration_seconds_count{tool="post"} 3
ambit_call_duration_seconds_sum{tool="refunds"} 0.006
ambit_call_duration_seconds_count{tool="refunds"} 2
ambit_call_upstream_seconds_sum{tool="bulk"} 4
ambit_call_upstream_seconds_count{tool="bulk"} 2
ambit_call_upstream_seconds_sum{tool="post"} 6
ambit_call_upstream_seconds_count{tool="post"} 3
ambit_call_upstream_seconds_sum{tool="refunds"} 0.024
ambit_call_upstream_seconds_count{tool="refunds"} 2
ambit_call_pauses_total 1
ambit_fuel_total{tool="bulk",function="bulk.run"} 246921
ambit_fuel_total{tool="post",function="post.run"} 370368
ambit_fuel_total{tool="refunds",function="refunds.create"} 246912
ambit_refusals_total{of="call",code="policy",rule="support-refunds"} 1
ambit_refusals_total{of="effect",code="money",rule="support-refunds"} 1
ambit_refusals_total{of="effect",code="policy",rule="support-refunds"} 1
ambit_refusals_total{of="effect",code="policy-error",rule="support-refunds"} 1
ambit_refusals_total{of="effect",code="rate",rule="support-refunds"} 1
ambit_refusals_total{of="end",code="dry-run",rule="support-refunds"} 1
ambit_refusals_total{of="end",code="fuel",rule="support-refunds"} 1
ambit_refusals_total{of="sending",code="address",rule="support-refunds"} 1
ambit_policy_decisions_total{of="call",decision="denied"} 1
ambit_policy_decisions_total{of="call",decision="permitted"} 9
ambit_policy_decisions_total{of="effect",decision="denied"} 2
ambit_policy_decisions_total{of="effect",decision="held"} 1
ambit_policy_decisions_total{of="effect",decision="permitted"} 8
ambit_effects_total{connection="mail",route="back",cause="host",outcome="failed"} 1
ambit_effects_total{connection="mail",route="back",cause="operator",outcome="done"} 1
ambit_effects_total{connection="mail",route="drop",cause="guest",outcome="declined"} 1
ambit_effects_total{connection="mail",route="list",cause="guest",outcome="refused"} 3
ambit_effects_total{connection="mail",route="move",cause="guest",outcome="in-doubt"} 1
ambit_effects_total{connection="mail",route="send",cause="guest",outcome="done"} 1
ambit_effects_total{connection="stripe",route="refunds.create",cause="guest",outcome="done"} 1
ambit_effects_total{connection="stripe",route="refunds.create",cause="guest",outcome="in-doubt"} 1
ambit_effects_total{connection="stripe",route="refunds.create",cause="guest",outcome="not-sent"} 1
ambit_effects_total{connection="stripe",route="refunds.create",cause="guest",outcome="refused"} 1
ambit_effect_duration_seconds_sum{connection="mail"} 1.5
ambit_effect_duration_seconds_count{connection="mail"} 5
ambit_effect_duration_seconds_sum{connection="stripe"} 0.036000000000000004
ambit_effect_duration_seconds_count{connection="stripe"} 3
ambit_effect_bytes_total{connection="mail",direction="received"} 1000
ambit_effect_bytes_total{connection="mail",direction="sent"} 50
ambit_effect_bytes_total{connection="stripe",direction="received"} 963
ambit_effect_bytes_total{connection="stripe",direction="sent"} 369
ambit_effect_retries_total{connection="stripe",route="refunds.create"} 1
ambit_effects_in_doubt_total{connection="mail",route="move",why="connection"} 1
ambit_effects_in_doubt_total{connection="stripe",route="refunds.create",why="timeout"} 1
ambit_effects_resolved_total{found="done"} 1
ambit_effects_resolved_total{found="not-done"} 2
ambit_effect_checks_total{connection="mail",route="send",shown="missing"} 1
ambit_effect_checks_total{connection="mail",route="send",shown="shown"} 2
ambit_effects_undone_total{connection="mail",route="back"} 1
ambit_rollbacks_total{by="function",outcome="first-write"} 1
ambit_rollbacks_total{by="routes",outcome="ok"} 1
ambit_money_spent_minor_total{currency="eur",tool="bulk",connection="mail",route="move"} 700
ambit_money_spent_minor_total{currency="eur",tool="post",connection="mail",route="send"} 700
ambit_money_spent_minor_total{currency="usd",tool="refunds",connection="stripe",route="refunds.create"} 5000
ambit_budget_settled_total{budget="calls",unit="calls"} 5
ambit_budget_settled_total{budget="calls",unit="day"} 2
ambit_budget_settled_total{budget="euros",unit="eur"} 700
ambit_budget_settled_total{budget="post",unit="effects"} 5
ambit_budget_settled_total{budget="refunds",unit="day"} 15000
ambit_budget_overdrafts_total{budget="month"} 1
ambit_budget_overdrafts_total{budget="post"} 1
ambit_budget_warnings_total{budget="refunds"} 1
ambit_holds_total{connection="stripe",route="refunds.create"} 1
ambit_hold_ends_total{end="passed"} 1
ambit_hold_duration_seconds_sum{end="passed"} 3
ambit_hold_duration_seconds_count{end="passed"} 1
ambit_votes_total{group="finance",verdict="approve"} 1
ambit_votes_total{group="incident",verdict="break-glass"} 1
ambit_votes_refused_total{why="ended"} 1
ambit_break_glass_total{group="incident"} 1
ambit_dead_letters_total{connection="mail",route="drop"} 1
ambit_dead_letters_total{connection="mail",route="move"} 1
ambit_dead_letters_dropped_total{why="done-by-hand"} 2
ambit_dead_letters_dropped_total{why="happened"} 1
ambit_dead_letters_dropped_total{why="unneeded"} 3
ambit_dead_letters_dropped_total{why="wrong"} 4
ambit_breaker_changes_total{connection="mail",route="",to="closed-by-operator"} 1
ambit_breaker_changes_total{connection="mail",route="send",to="closed"} 2
ambit_breaker_changes_total{connection="stripe",route="refunds.create",to="open"} 1
ambit_service_pauses_total{connection="stripe"} 1
ambit_stop_changes_total{kind="kill",change="set"} 1
ambit_stop_changes_total{kind="safe-mode",change="lifted"} 1
ambit_stop_changes_total{kind="safe-mode",change="set"} 2
ambit_run_changes_total{change="degraded"} 2
ambit_run_changes_total{change="ended"} 1
ambit_run_changes_total{change="started"} 3
ambit_replays_total{result="diverged"} 1
ambit_replays_total{result="partial"} 2
ambit_replays_total{result="same"} 3
ambit_replay_divergences_total{part="effect"} 1
ambit_replay_divergences_total{part="fuel"} 2
ambit_calls_erased_total 2
ambit_telemetry_positions_lost_total 0
"#;
